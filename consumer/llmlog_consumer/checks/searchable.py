"""Owns how long an event takes until a search finds it: one event at a time, as users search.

The newest event of the topic is taken, and searched for by its id behind the alias until it is
found. No index is refreshed for it: it waits as users do.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from llmlog_common.errors import PipelineError, Unreachable
from llmlog_consumer.checks.doctor.canary import HEADER
from llmlog_consumer.dead_letters.headers import read_headers
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.kafka import reader
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.offsets import KafkaOffsets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmlog_common.settings import Settings
    from llmlog_consumer.kafka_record import KafkaRecord


@dataclass(frozen=True, slots=True)
class SearchTiming:
    """How often servers are asked.

    Attributes:
        interval_seconds: between two events.
        poll_seconds: between two searches for one.
        patience_seconds: an event is searched for so long after Kafka had it; at least once.
    """

    interval_seconds: float = 10.0
    poll_seconds: float = 0.25
    patience_seconds: float = 120.0


TIMING: Final = SearchTiming()
_SECOND_MS: Final = 1000


class NewestEvents:
    """Returns the newest record of the topic, each at most once.

    Args:
        watermarks: returns log start and log end of each partition.
        read: returns the record at a partition's offset; None where there is none.
    """

    def __init__(
        self,
        watermarks: Callable[[], Mapping[int, tuple[int, int]]],
        read: Callable[[int, int], KafkaRecord | None],
    ) -> None:
        self._watermarks = watermarks
        self._read = read
        self._ends: dict[int, int] | None = None

    @classmethod
    def of_topic(cls, settings: Settings) -> NewestEvents:
        """Return those of the source topic."""
        admin, topic = KafkaAdmin(settings), settings.topic
        offsets = KafkaOffsets(admin)
        return cls(
            lambda: offsets.watermarks(topic, range(admin.require(topic).partitions)),
            lambda partition, offset: reader.read_one(settings, topic, partition, offset),
        )

    def take(self) -> tuple[str, int] | None:
        """Return an event that came since the last look; None where none came, or it is a canary.

        Returns:
            Its id, and the timestamp of its record in epoch milliseconds.

        Raises:
            KafkaError: the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        before, marks = self._ends, self._watermarks()
        self._ends = {partition: end for partition, (_, end) in marks.items()}
        grown = {p: end - (before or {}).get(p, end) for p, end in self._ends.items()}
        partition = max(grown, key=lambda p: grown[p], default=None)
        if partition is None or grown[partition] <= 0:
            return None
        record = self._read(partition, self._ends[partition] - 1)
        if record is None or any(name == HEADER for name, _ in read_headers(record)):
            return None
        key, written_ms = record.key(), record.timestamp()[1]
        return (key.decode("utf-8", "replace"), written_ms) if key and written_ms > 0 else None


class SearchProbe:
    """A thread that measures one event after another. A context: the thread ends with it.

    Args:
        newest: returns id and timestamp of a new event, None where there is none.
        is_found: tells whether a search finds an event.
        tell: is told the seconds of each event; None where none was found in time.
        timing: how often servers are asked.
        clock: epoch seconds.
    """

    def __init__(
        self,
        newest: Callable[[], tuple[str, int] | None],
        is_found: Callable[[str], bool],
        tell: Callable[[float | None], None],
        *,
        timing: SearchTiming = TIMING,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._newest = newest
        self._is_found = is_found
        self._tell = tell
        self._timing = timing
        self._clock = clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llmlog-search", daemon=True)

    def __enter__(self) -> Self:
        """Start it."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it, without waiting for an answer that is under way."""
        self._ended.set()

    def measure(self) -> None:
        """Search for one new event until it is found, or patience is at its end.

        A server that does not answer is no measurement: `pipeline verify` says that by itself.
        """
        with suppress(PipelineError, Unreachable):
            if (event := self._newest()) is not None:
                self._search(*event)

    def _search(self, event_id: str, written_ms: int) -> None:
        written = written_ms / _SECOND_MS
        while not self._ended.is_set():
            if self._is_found(event_id):
                self._tell(max(0.0, self._clock() - written))
                return
            if self._clock() - written >= self._timing.patience_seconds:
                self._tell(None)
                return
            self._ended.wait(self._timing.poll_seconds)

    def _run(self) -> None:
        while not self._ended.is_set():
            self.measure()
            self._ended.wait(self._timing.interval_seconds)


def probe_of(
    settings: Settings, tell: Callable[[float | None], None], timing: SearchTiming = TIMING
) -> SearchProbe:
    """Return the probe of a deployment, with clients of its own; see `SearchProbe`."""
    elastic, alias = Elastic(settings), settings.index

    def is_found(event_id: str) -> bool:
        body = {"query": {"ids": {"values": [event_id]}}, "size": 0, "terminate_after": 1}
        answer = elastic.demand("POST", f"/{alias}/_search", body=body)
        return bool(answer["hits"]["total"]["value"])

    return SearchProbe(NewestEvents.of_topic(settings).take, is_found, tell, timing=timing)
