"""The gateway's side: the LiteLLM callback, and the commands for its machine."""

import sys

if sys.platform == "win32":
    raise ImportError(
        "llmlog_producer runs on Linux and macOS: Windows has no flock and no SIGTERM"
    )
