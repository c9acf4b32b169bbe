"""Owns the console of a demo that is kept: its start, and the end of an earlier one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway import GatewayError
from llmlog_local import ports
from llmlog_local.processes import ProcessIdentity, identify

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFERRED_PORT: Final = 8765
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1


def start_console(folder: Path, environment: Mapping[str, str]) -> tuple[str, int]:
    """Start `pipeline console`, which goes on after the demo; return its link and process id.

    Raises:
        GatewayError: it did not start; the text has its last line.
    """
    port = PREFERRED_PORT if ports.is_free(PREFERRED_PORT) else ports.free_ports(1)[0]
    log = folder / "console.log"
    with log.open("w") as file:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [Path(sys.executable).with_name("pipeline"), "console", "--allow-replay",
             "--port", str(port)],
            cwd=folder, env=dict(environment), stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    if me := identify(process.pid):
        _pid_file(folder).write_text(json.dumps(asdict(me)))
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"http://\S+", log.read_text()):
            return found[0], process.pid
        time.sleep(_POLL_SECONDS)
    raise GatewayError(f"the console did not start: {log.read_text()[-500:]}")


def end_console(folder: Path) -> None:
    """End the console of an earlier demo."""
    if _pid_file(folder).exists():
        ProcessIdentity(**json.loads(_pid_file(folder).read_text())).end(_STOP_SECONDS)


def _pid_file(folder: Path) -> Path:
    return folder / "console.json"
