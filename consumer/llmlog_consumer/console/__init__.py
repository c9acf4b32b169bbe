"""The web page of the pipeline: flow, usage, calls and dead letters, for `pipeline console`."""
