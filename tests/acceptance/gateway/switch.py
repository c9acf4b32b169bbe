"""Our handler in a proxy that a signal tells whether it is called: SIGUSR1 for yes, SIGUSR2 for no.

SWITCH_FILE is written once it is done: how many events the handler has taken so far.
"""

import json
import os
import signal
from pathlib import Path

import litellm

from llmlog_producer.callback import handler

_LISTS = (
    "callbacks", "input_callback", "success_callback", "failure_callback",
    "_async_input_callback", "_async_success_callback", "_async_failure_callback",
)  # fmt: skip


def _register(_number, _frame):
    for name in _left:
        getattr(litellm, name).append(handler)
    _left.clear()
    _answer()


def _remove(_number, _frame):
    for name in _LISTS:
        if handler in getattr(litellm, name):
            getattr(litellm, name).remove(handler)
            _left.append(name)
    _answer()


def _answer():
    written = Path(os.environ["SWITCH_FILE"] + ".new")
    written.write_text(json.dumps(handler.stats()["accepted"]))
    written.rename(os.environ["SWITCH_FILE"])


_left = []
signal.signal(signal.SIGUSR1, _register)
signal.signal(signal.SIGUSR2, _remove)
