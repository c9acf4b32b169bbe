"""Owns when `pipeline consume` is alive, and when it is ready. Pure.

Ready is a process whose workers are members of the group, and settle what there is. One that
drains, waits for a server or for a person is not; each reason is one line.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from llmlog_consumer.service.state import State
from llmlog_consumer.service.watches import Lag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

STILL_SECONDS: Final = 30.0
"""Time without a settled record, with older records waiting, after which a worker stands."""
MAX_TURN_SECONDS: Final = 30.0
"""Time after which a supervisor's loop that does not turn counts as dead; it turns five times a
second."""


def find_dead(state: State, now: float) -> Iterator[str]:
    """Yield why the supervisor is not alive; nothing where it is.

    Args:
        state: of the supervisor.
        now: monotonic seconds.
    """
    seconds = now - state.turned_at
    if state.turned_at and seconds >= MAX_TURN_SECONDS:
        yield f"the supervisor's loop stands since {seconds:.0f} s: restart this process"


def find_unready(state: State, lag: Lag) -> Iterator[str]:
    """Yield why the process is not ready; nothing where it is.

    Args:
        state: of the supervisor.
        lag: of the group.
    """
    if not state.turned_at:
        yield "the workers start"
    yield from state.faults
    for number, report in state.reports.items():
        partitions = report.get("partitions")
        if fault := report.get("fault"):
            yield f"worker {number}: {fault}"
        elif partitions is None:
            yield f"worker {number} has not joined the group yet"
        else:
            waiting = sum(lag.records.get(p, 0) for p in partitions)
            oldest = max((lag.seconds.get(p) or 0.0 for p in partitions), default=0.0)
            idle = float(report.get("idle_seconds", 0.0))
            if waiting and min(oldest, idle) >= STILL_SECONDS:
                yield (
                    f"worker {number} has settled nothing for {idle:.0f} s, although {waiting} "
                    f"records wait in its partitions, the oldest for {oldest:.0f} s: "
                    "see `pipeline status`"
                )


class Subject:
    """What the page is about: a process that waits for servers at first, then its workers.

    Main calls `wait_for` and `begin`, the page's threads call the rest.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waits_for = "the process starts"
        self._has_begun = False
        self._state: Callable[[], State] = State
        self._lag: Callable[[], Lag] = Lag
        self._certificates: Callable[[], Mapping[str, float]] = dict

    def wait_for(self, why: str) -> None:
        """Say what is waited for before workers start; later it changes nothing."""
        self._waits_for = why

    def begin(
        self,
        state: Callable[[], State],
        lag: Callable[[], Lag],
        certificates: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        """Say that workers are started now.

        Args:
            state: of the supervisor.
            lag: of the group.
            certificates: when those of servers end, in epoch seconds, by `host:port`.
        """
        self._state, self._lag, self._certificates = state, lag, certificates
        self._has_begun = True

    def state(self) -> State:
        """Return the state of the supervisor; an empty one before workers start."""
        return self._state()

    def lag(self) -> Lag:
        """Return the lag of the group; an empty one before it is known."""
        return self._lag()

    def certificates(self) -> Mapping[str, float]:
        """Return when the certificates of servers end, in epoch seconds, by `host:port`."""
        return self._certificates()

    def find_dead(self) -> list[str]:
        """Return why the process is not alive; empty where it is."""
        return list(find_dead(self._state(), self._clock()))

    def find_unready(self) -> list[str]:
        """Return why the process is not ready, one line a reason; empty where it is."""
        if not self._has_begun:
            return [self._waits_for]
        return list(find_unready(self._state(), self._lag()))
