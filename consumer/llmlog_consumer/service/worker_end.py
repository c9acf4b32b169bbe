"""Owns what the end of a worker process means, in words. Pure."""

from __future__ import annotations

import signal
from typing import Final

from llmlog_consumer.service.memory import in_words

LOST_CODE: Final = 255
"""In the place of a worker's code where the template has died, which would have told it."""

_ABORTED: Final = (
    "a library gave up; Kafka's client does so where a broker hands out a batch of zeros: "
    "see the last lines on stderr, and the broker's disk"
)


def describe_end(code: int | None, said: str, limit_bytes: int | None) -> str:
    """Say why a worker that should run has ended.

    Args:
        code: exit code of its process; negative for a signal.
        said: its own last words; empty where it had no time for any.
        limit_bytes: memory that the container may have; None where there is no limit.
    """
    if said:
        return said
    if code == LOST_CODE:
        return "ended with the process that workers are forked from, which was killed, not by us"
    if code is None or code >= 0:
        return f"ended with code {code}: see its last lines on stderr"
    name = _signal_name(-code)
    if -code == signal.SIGKILL:
        limit = (
            f"the container's limit is {in_words(limit_bytes)}"
            if limit_bytes is not None
            else "no limit of a container was found, see the kernel's log"
        )
        return f"killed with signal 9, not by us: probably out of memory ({limit})"
    if -code == signal.SIGABRT:
        return f"ended by signal {-code} ({name}): {_ABORTED}"
    return f"ended by signal {-code} ({name}), not by us"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
