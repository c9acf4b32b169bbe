"""Owns which of several nodes gets a request: which one is put aside, and when it is tried. Pure.

    new ──checked──> in use ──put_aside──> aside ──checked──> on trial ──answered──> in use
                                             ^                   │
                                             └──── put_aside ────┘

What is wrong with one node is that node's alone. A node that does not answer is put aside at once.
A node whose answer is doubtful is put aside when another node answers the same request well: else
the request is at fault, or the cluster.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from llmlog_consumer.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_SLOW_SECONDS: Final = 1.0
_SLOW_FACTOR: Final = 5.0
"""A node is slow where it takes longer than both: a second, and so many times another node's."""
_PIECE_BYTES: Final = 256 * 1024
_WEIGHT: Final = 0.3
"""Share of the newest request in the mean of a node's times."""


@dataclass(frozen=True, slots=True)
class NodeTiming:
    """When nodes are checked.

    Attributes:
        tick_seconds: between two looks at all nodes.
        suspect_seconds: a node that has not answered a request for so long is asked if it lives.
        probe_seconds: time for the answer to that.
        backoff: how long a node is aside before it is checked.
        renewal_seconds: credentials are read again from their files once in so long.
        certificate_seconds: between two looks at the files of certificates.
    """

    tick_seconds: float = 0.5
    suspect_seconds: float = 3.0
    probe_seconds: float = 2.0
    backoff: Backoff = field(default_factory=lambda: Backoff(first_seconds=1.0, max_seconds=15.0))
    renewal_seconds: float = 2.0
    certificate_seconds: float = 5.0


@dataclass(slots=True)
class _Node:
    """What is known about one node.

    Attributes:
        url: without credentials.
        is_new: it has not been checked yet.
        why: it is aside for this; empty where it is not.
        failures: how often it was put aside since it last answered well.
        due: monotonic seconds; aside, it is checked then.
        since: when it was last put aside: what began before says nothing new about it.
        begun: when each request began that it has not answered, by ticket.
        checked: when it was last checked.
        mean: seconds that it takes for a piece of `_PIECE_BYTES`; 0 where that is unknown.
    """

    url: str
    is_new: bool
    why: str = ""
    failures: int = 0
    due: float = 0.0
    since: float = -1.0
    begun: dict[int, float] = field(default_factory=dict)
    checked: float = 0.0
    mean: float = 0.0


class Nodes:
    """The nodes of one process, by their numbers. Any thread may call it.

    Args:
        urls: without credentials.
        timing: of the checks.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        urls: Sequence[str],
        timing: NodeTiming | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timing = timing or NodeTiming()
        self._clock = clock
        self._lock = threading.Lock()
        self._tickets = 0
        # A single node is used without a check: there is no other that could be better.
        self._nodes = [_Node(url, is_new=len(urls) > 1) for url in urls]  # under `_lock`

    def __len__(self) -> int:
        return len(self._nodes)

    def url(self, number: int) -> str:
        """Return a node's URL."""
        return self._nodes[number].url

    def take(self, tried: Collection[int] = ()) -> int | None:
        """Return the node for a request; None where each of them was tried.

        The one with the fewest requests is taken. Where all are aside, the one that is due first.

        Args:
            tried: nodes that did not answer this request well.
        """
        with self._lock:
            left = [n for n in range(len(self._nodes)) if n not in tried]
            usable = [n for n in left if self._is_usable(self._nodes[n])]
            if usable:
                first = self._tickets % len(self._nodes)  # else one node would get all of a few
                return min(
                    usable,
                    key=lambda n: (len(self._nodes[n].begun), (n - first) % len(self._nodes)),
                )
            # A new one is due from the beginning, before all that are aside.
            return min(left, key=lambda n: self._nodes[n].due, default=None)

    def is_new(self, number: int) -> bool:
        """Tell whether a node has to be checked before its first request."""
        return self._nodes[number].is_new

    def begin(self, number: int) -> int:
        """Note that a request begins; return its ticket."""
        with self._lock:
            self._tickets += 1
            self._nodes[number].begun[self._tickets] = self._clock()
            return self._tickets

    def end(self, number: int, ticket: int) -> None:
        """Note that a request has ended, with an answer or without."""
        with self._lock:
            self._nodes[number].begun.pop(ticket, None)

    def answered(self, number: int, seconds: float, size: int = 0) -> str:
        """Note a good answer; return why the node is slow, or nothing.

        Args:
            number: of the node.
            seconds: that the answer took.
            size: bytes of the request; requests without a body tell nothing about its time.
        """
        with self._lock:
            node = self._nodes[number]
            if size:
                pieces = max(1.0, size / _PIECE_BYTES)
                took = seconds / pieces
                others = [n.mean for n in self._nodes if n is not node and not n.why and n.mean]
                usual = min(others, default=took)
                if seconds > _SLOW_SECONDS and took > usual * _SLOW_FACTOR:
                    return f"slow: {seconds:.1f} s, others take {usual * pieces:.1f} s"
                node.mean = took if not node.mean else node.mean + (took - node.mean) * _WEIGHT
            node.why, node.failures, node.is_new = "", 0, False
            return ""

    def put_aside(self, number: int, why: str, began: float | None = None) -> bool:
        """Give a node no requests for a while, longer each time; True where it was in use.

        Args:
            number: of the node.
            why: one line for people.
            began: monotonic seconds; when the request began that failed. One that was under way
                when the node was put aside has often been ended by us, and counts no more.
        """
        with self._lock:
            node, now = self._nodes[number], self._clock()
            if began is not None and began < node.since:
                return False
            begins = not node.why
            node.is_new, node.mean = False, 0.0
            if begins or now >= node.due:  # of requests that fail together the first one counts
                node.why = why
                node.failures += 1
                node.due = now + self._timing.backoff.delay(node.failures)
                node.since = now
            return begins

    def bring_back(self, number: int) -> bool:
        """Give a node requests again, one at a time until it has answered; True where it was aside.

        Args:
            number: of the node, which has been checked.
        """
        with self._lock:
            node = self._nodes[number]
            was_aside = bool(node.why)
            node.why, node.is_new = "", False
            return was_aside

    def take_suspects(self) -> list[int]:
        """Return the nodes to check now: the new ones, those aside that are due, the silent."""
        with self._lock:
            now = self._clock()
            found = []
            for number, node in enumerate(self._nodes):
                silent = now - max(min(node.begun.values(), default=now), node.checked)
                if node.is_new or (
                    now >= node.due if node.why else silent >= self._timing.suspect_seconds
                ):
                    node.checked = now
                    found.append(number)
            return found

    def has_other_than(self, number: int) -> bool:
        """Tell whether another node is in use."""
        with self._lock:
            return any(n != number and self._is_usable(o) for n, o in enumerate(self._nodes))

    def describe(self) -> str:
        """Say which nodes are aside, and why; empty while all are in use."""
        with self._lock:
            return "; ".join(f"node {node.url}: {node.why}" for node in self._nodes if node.why)

    @staticmethod
    def _is_usable(node: _Node) -> bool:
        is_on_trial = node.failures > 0
        return not node.why and not node.is_new and not (is_on_trial and node.begun)
