"""The command `pipeline`: parses, builds, prints. One module for each command."""
