"""Owns the process that is a Kafka server: the JVM runs inside it.

Run as `python -m llmlog_local.nodes.kafka` in a folder that `llmlog_local.kafka` has laid out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from llmlog_local.nodes.guard import guard, wait_for_signal

_FORMATTED = Path("formatted")
_PROPERTIES = "server.properties"
_USERS = Path("users.json")


def main() -> None:
    """Format the storage once, then serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--heap", required=True)
    parser.add_argument("--cluster-id", required=True)
    parser.add_argument("--state-file", type=Path)
    arguments = parser.parse_args()
    guard(arguments.state_file)

    server = _start(arguments.heap, arguments.cluster_id)
    # Not left to the JVM: JPype's shutdown hook would end Kafka's before it has finished.
    wait_for_signal()
    server.shutdown()
    server.awaitShutdown()
    sys.stdout.flush()
    os._exit(0)


def _start(heap: str, cluster_id: str) -> Any:
    import jpype  # noqa: PLC0415 - the guard stands before anything slow

    from llmlog_local.nodes.jvm import start_jvm  # noqa: PLC0415

    jars = [Path(line) for line in Path("classpath").read_text(encoding="utf-8").splitlines()]
    # A broker moves bytes: the optimising compiler costs start-up time and CPU, and its throughput
    # stays the same without it.
    options = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
    start_jvm(jars, heap, "-Dlog4j2.configurationFile=log4j2.properties", *options)
    if not _FORMATTED.exists():
        # A format that was killed left files that were never used.
        shutil.rmtree("data", ignore_errors=True)
        tool = jpype.JClass("kafka.tools.StorageTool")
        words = ["format", "--cluster-id", cluster_id, "--config", _PROPERTIES, *_add_users()]
        code = tool.execute(jpype.JArray(jpype.JString)(words), jpype.java.lang.System.out)
        if int(code) != 0:
            raise SystemExit(f"formatting the storage failed with code {code}")
        _FORMATTED.touch()
    properties = jpype.JClass("org.apache.kafka.common.utils.Utils").loadProps(_PROPERTIES)
    config = jpype.JClass("kafka.server.KafkaConfig").fromProps(properties)
    time = jpype.JClass("org.apache.kafka.common.utils.Time").SYSTEM
    server = jpype.JClass("kafka.server.KafkaRaftServer")(config, time)
    server.startup()
    return server


def _add_users() -> list[str]:
    """Return the words that give users their passwords; none where the stack asks for none."""
    if not _USERS.exists():
        return []
    users = json.loads(_USERS.read_text(encoding="utf-8"))
    return [
        word
        for name, password in users.items()
        for word in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")
    ]


if __name__ == "__main__":
    main()
