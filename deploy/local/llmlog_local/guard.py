"""Owns when a server process ends: when asked to, and when an `up` that did not finish goes away.

A server starts with a pipe as its standard input, whose other end only its starter holds. While
that end is open nothing happens. When it closes, for whatever reason, `kill -9` included, the
server looks into the stack's state file: if it is listed there, its starter had finished and let
it go, and it lives on; otherwise it ends at once. The state file is replaced in one step and lists
all servers, so there is no moment at which only one of them stays.
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
_ENDED_WITH_STARTER = 70


def guard(state_file: Path | None) -> None:
    """End this process when its starter goes away without having let it go.

    Args:
        state_file: Where the starter lists the servers that it lets go; None: it never does.
    """
    threading.Thread(target=_wait_for_starter, args=(state_file,), daemon=True).start()


def wait_until_asked_to_end() -> None:
    """Block the main thread until SIGTERM (or SIGINT) comes."""
    # Through a descriptor: the signal may reach one of the JVM's threads, and then nothing but
    # this wakes the main thread from its waiting.
    seen, tell = os.pipe()
    os.set_blocking(tell, False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(tell)
    os.read(seen, 1)


def _wait_for_starter(state_file: Path | None) -> None:
    while os.read(_STDIN, 1):
        pass
    if state_file is None or not _let_go(state_file):
        os._exit(_ENDED_WITH_STARTER)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, _STDIN)
    os.close(nothing)


def _let_go(state_file: Path) -> bool:
    me = identify(os.getpid())
    return any(server.process == me for server in read_state(state_file).values())
