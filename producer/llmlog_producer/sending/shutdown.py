"""Runs a function before whatever else a SIGTERM does in this process."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def run_before_sigterm(act: Callable[..., bool]) -> bool:
    """Put `act` before the present handler of SIGTERM, which runs afterwards as it always did.

    Under uvicorn exit handlers never run after a SIGTERM: this is the one chance.

    Args:
        act: called with `last=True` where the process ends right after, by the default action.
            Returns False where it has to go on first: it sends the signal again then.

    Returns:
        False where it cannot be: outside the main thread, or before a handler that is not
        Python's.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    previous = signal.getsignal(signal.SIGTERM)
    if previous is None:
        return False

    def handle(number: int, frame: Any) -> None:
        with suppress(Exception):
            if not act(last=previous == signal.SIG_DFL):
                return
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        signal.signal(signal.SIGTERM, handle)
    except ValueError:  # a sub-interpreter's main thread may not
        return False
    return True
