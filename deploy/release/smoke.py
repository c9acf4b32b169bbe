"""Tries an installed wheel, in an environment that holds nothing else of this repository.

    python smoke.py gateway|consumer|console

It asks no server. Exit code 0: what the extra promises is there and works.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

EXTRAS = {
    "gateway": ("llmlog_producer.callback", "llmlog_producer.check"),
    "consumer": ("llmlog_consumer.cli.app", "llmlog_consumer.worker.worker"),
    "console": ("llmlog_consumer.cli.app", "llmlog_consumer.console.server"),
}
PAYLOAD = {
    "litellm_call_id": "smoke",
    "call_type": "acompletion",
    "status": "success",
    "model": "gpt-4o-mini",
    "startTime": 1767225600.0,
    "endTime": 1767225601.0,
    "messages": [{"role": "user", "content": "Where do logs go?"}],
}


def run(*command: str) -> str:
    """Return what a command prints.

    Raises:
        SystemExit: it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.returncode}\n{done.stderr}")
    return done.stdout


def main(extra: str) -> None:
    """Try what this extra promises."""
    for name in EXTRAS[extra]:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            # The callback is nothing without LiteLLM, and says so; all that is ours is there.
            if error.name != "litellm":
                raise
    convert = importlib.import_module("llmlog_schemas.convert")
    codec = importlib.import_module("llmlog_schemas.codec")
    event = convert.to_event(PAYLOAD)
    value = codec.Encoder().encode(event)
    if codec.Decoder().decode(value)["event_id"] != event["event_id"]:
        raise SystemExit("an event is not what it was when it is read again")
    scripts = Path(sysconfig.get_path("scripts"))
    if extra == "gateway":
        run(sys.executable, "-m", "llmlog_producer", "--help")
    else:
        versions = json.loads(run(str(scripts / "pipeline"), "version", "--json"))
        run(str(scripts / "pipeline"), "setup", "--help")
        print(versions["llmlog-pipeline"])  # noqa: T201 - a script


if __name__ == "__main__":
    main(sys.argv[1])
