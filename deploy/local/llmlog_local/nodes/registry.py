"""Owns the process that is a Schema Registry: the JVM runs inside it.

Run as `python -m llmlog_local.nodes.registry` in a folder that `llmlog_local.registry` has
laid out.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from threading import Thread

from llmlog_local.nodes.guard import guard, wait_for_signal

_MAIN = "io.quarkus.runner.GeneratedMain"


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--heap", required=True)
    parser.add_argument("--setting", action="append", default=[])
    parser.add_argument("--state-file", type=Path)
    arguments = parser.parse_args()
    guard(arguments.state_file)

    Thread(target=_serve, args=(arguments.heap, arguments.setting), daemon=True).start()
    wait_for_signal()
    sys.stdout.flush()
    os._exit(0)  # it keeps nothing that an orderly end would save


def _serve(heap: str, settings: list[str]) -> None:
    import jpype  # noqa: PLC0415 - the guard stands before anything slow

    from llmlog_local.nodes.jvm import start_jvm  # noqa: PLC0415

    options = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *(f"-D{one}" for one in settings))
    start_jvm(sorted(Path("program").glob("*-runner.jar")), heap, *options)
    try:
        jpype.JClass(_MAIN).main(jpype.JArray(jpype.JString)([]))
    finally:
        sys.stdout.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
