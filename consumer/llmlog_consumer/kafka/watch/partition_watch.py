"""Owns the look at partitions that give no record and no error: without a leader, or silent.

The client says nothing about either: it asks again without end. So the metadata is asked for every
few seconds, in a thread, and the log's end that came with the last fetch is held against what was
read.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

from llmlog_consumer.kafka.errors import NO_ANSWER, advise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class WatchTiming:
    """When a partition counts as silent, and how often the metadata is asked for.

    Attributes:
        look_seconds: between two questions.
        trouble_seconds: after a connection has failed, in which each check asks: a broker may be
            gone, and its partitions get another leader, or none.
        answer_seconds: for one answer.
        failures: unanswered questions in a row after which no broker answers.
        silent_seconds: without a record, although the log has more.
        silent_polls: polls without any record meanwhile: what the client had was all read.
    """

    look_seconds: float = 3.0
    trouble_seconds: float = 15.0
    answer_seconds: float = 2.0
    failures: int = 2
    silent_seconds: float = 7.0
    silent_polls: int = 20


@dataclass(slots=True)
class _Silence:
    """A partition that may be silent: nothing was read of it since, and its log has more."""

    expected: int
    since: float
    polls: int


class PartitionWatch:
    """What is wrong with partitions that the client says nothing about.

    The worker's thread calls every method. A thread of its own asks for metadata, and replaces
    `_leaderless`, `_refused` and `_failures`.

    Args:
        topic: of the partitions.
        ask: returns the client's metadata of one topic, within so many seconds.
        log_end: returns the log's end of a partition as of the last fetch; negative if unknown.
        timing: of the looks.
        clock: monotonic seconds.

    Attributes:
        lock: held while the client is asked; the client may be closed only by its holder.
        trouble: what the client said last about its connections.
    """

    def __init__(
        self,
        topic: str,
        ask: Callable[[str, float], Any],
        log_end: Callable[[int], int],
        timing: WatchTiming | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic = topic
        self._ask = ask
        self._log_end = log_end
        self._timing = timing or WatchTiming()
        self._clock = clock
        self.lock = threading.Lock()
        self.trouble = ""
        self._is_closed = False
        self._next_look = 0.0
        self._trouble_until = -math.inf
        self._thread: threading.Thread | None = None
        self._leaderless: frozenset[int] = frozenset()
        self._refused = ""
        self._failures = 0
        self._polls = 0
        self._quiet: dict[int, _Silence] = {}
        self._assigned: frozenset[int] = frozenset()

    def record_empty_poll(self) -> None:
        """Count a poll that brought nothing: the client has no record left of any partition."""
        self._polls += 1

    def record_trouble(self, why: str) -> None:
        """Remember what the client says about a connection."""
        self.trouble = why
        self._trouble_until = self._clock() + self._timing.trouble_seconds

    def check(self, assigned: frozenset[int], idle: Mapping[int, int]) -> None:
        """Look at the partitions; never waits.

        Args:
            assigned: all of this member.
            idle: next offset of those that are fetched and have nothing in flight.
        """
        now = self._clock()
        self._assigned = assigned
        quiet = {}
        for partition, expected in idle.items():
            if self._log_end(partition) > expected:
                known = self._quiet.get(partition)
                if known is None or known.expected != expected:
                    known = _Silence(expected, now, self._polls)
                quiet[partition] = known
        self._quiet = quiet
        is_due = self._failures or now < self._trouble_until or now >= self._next_look
        if is_due and (self._thread is None or not self._thread.is_alive()):
            self._next_look = now + self._timing.look_seconds
            self._thread = threading.Thread(target=self.look, name="llmlog-metadata", daemon=True)
            self._thread.start()

    def look(self) -> None:
        """Ask for the topic's metadata, and remember what is wrong with it."""
        with self.lock:
            if self._is_closed:
                return
            try:
                topic = self._ask(self._topic, self._timing.answer_seconds).topics[self._topic]
            except (KafkaException, KeyError):
                self._failures += 1
                return
        self._failures = 0
        is_refused = topic.error is not None and topic.error.code() not in NO_ANSWER
        self._refused = advise(topic.error) if is_refused else ""
        self._leaderless = frozenset(n for n, p in topic.partitions.items() if p.leader < 0)

    def close(self) -> None:
        """Ask no more. The caller holds `lock`."""
        self._is_closed = True

    def describe(self) -> str:
        """Return what is wrong, where, and what to do; empty while all is well."""
        if self._failures >= self._timing.failures:
            return f"Kafka does not answer: {self.trouble or 'the request timed out'}"
        if self._refused:
            return self._refused
        texts = []
        if lost := sorted(self._leaderless & self._assigned):
            names = ", ".join(map(str, lost))
            texts.append(
                f"partition {names} of {self._topic} has no leader: "
                "start the brokers that have its replicas"
            )
        texts += [
            f"partition {p} gives no record since offset {known.expected}, although its log goes "
            f"on to {self._log_end(p)}: an open transaction, or a damaged batch on its broker"
            for p, known in sorted(self._quiet.items())
            if self._is_silent(known) and p not in self._leaderless
        ]
        return "; ".join(texts)

    def _is_silent(self, known: _Silence) -> bool:
        return (
            self._clock() - known.since >= self._timing.silent_seconds
            and self._polls - known.polls >= self._timing.silent_polls
        )
