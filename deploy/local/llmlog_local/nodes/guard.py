"""Owns when a server process ends: at SIGTERM, and when its `up` ends before it has finished.

The standard input of a server is a pipe, and only its starter holds the other end. When that end
closes, for any reason, `kill -9` included, the server reads the stack's state file. If it is listed
there, its starter had finished and released it, and it lives on; otherwise it ends at once. The
state file is replaced in one step and lists all servers, so there is no moment at which only one of
them stays.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from llmlog_local.processes import identify
from llmlog_local.state import read_state

if TYPE_CHECKING:
    from pathlib import Path

_STDIN = 0
_STARTER_ENDED_EXIT_CODE = 70


def guard(state_file: Path | None) -> None:
    """End this process when its starter ends without having released it.

    Args:
        state_file: Where the starter lists the servers that it releases; None: it releases none.
    """
    threading.Thread(target=_wait_for_starter, args=(state_file,), daemon=True).start()


def wait_for_signal() -> None:
    """Block the main thread until SIGTERM (or SIGINT) comes."""
    # By a pipe: the signal may reach one of the JVM's threads, and nothing else wakes the main
    # thread then.
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(write_end)
    os.read(read_end, 1)


def _wait_for_starter(state_file: Path | None) -> None:
    while os.read(_STDIN, 1):
        pass
    if state_file is None or not _is_released(state_file):
        os._exit(_STARTER_ENDED_EXIT_CODE)
    null_device = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_device, _STDIN)
    os.close(null_device)


def _is_released(state_file: Path) -> bool:
    me = identify(os.getpid())
    return any(server.process == me for server in read_state(state_file).values())
