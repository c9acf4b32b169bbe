"""Runs scripts in children that are forked once LiteLLM is imported: the import takes seconds.

Its one argument is JSON: for each script's name its source, its environment and the files of what
it prints. As a child ends, a line says so: `["name", exit code]`.
"""

import atexit
import json
import os
import sys
from pathlib import Path

AT_LAST = []
"""What a script calls at its end, after what LiteLLM and the callback do then."""


@atexit.register  # handlers run in reverse: this one is registered first
def run_at_last():
    """Call what a script has put into `AT_LAST`."""
    for call in AT_LAST:
        call()


import litellm  # noqa: E402, F401 - for the children


def fork(script):
    """Return the id of a child that runs a script as an interpreter would, or 0 in that child."""
    if child := os.fork():
        return child
    for number, file in ((1, script["out"]), (2, script["err"])):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.environ.update(script["environment"])
    exec(
        compile(script["source"], "<script>", "exec"), {"__name__": "__main__", "AT_LAST": AT_LAST}
    )
    return 0


def main(scripts):
    """Start every script; say of each how it ended."""
    children = {}
    for name, script in scripts.items():
        child = fork(script)
        if not child:
            return  # a script's end is the end of the interpreter, with all that this runs
        children[child] = name
    while children:
        child, status = os.wait()
        print(json.dumps([children.pop(child), os.waitstatus_to_exitcode(status)]), flush=True)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
