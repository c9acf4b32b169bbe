"""Owns the last hour of the flow: the group's state every ten seconds, read by one thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.credentials import hide
from llmlog_common.errors import PipelineError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INTERVAL_SECONDS: Final = 10.0
KEPT_SAMPLES: Final = 360


@dataclass(frozen=True, slots=True)
class Sample:
    """The flow at one moment.

    Attributes:
        at_ms: epoch milliseconds.
        status: what `pipeline status --json` prints; None where Kafka does not answer.
        written: records that were ever written to the topic: the sum of its ends.
        settled: records that the group has committed: the sum of its offsets.
        documents: behind the alias; None where Elasticsearch does not answer.
        kafka_error: why Kafka is not read.
        elasticsearch_error: why Elasticsearch is not read.
    """

    at_ms: int
    status: dict[str, Any] | None = None
    written: int | None = None
    settled: int | None = None
    documents: int | None = None
    kafka_error: str = ""
    elasticsearch_error: str = ""

    @property
    def letters(self) -> int | None:
        """Records on the dead-letter topic."""
        return self.status["dead_letters_on_topic"] if self.status else None


def take_sample(
    read_status: Callable[[], Any], count: Callable[[], int], clock: Callable[[], float] = time.time
) -> Sample:
    """Return the flow now; a server that is away leaves its part out, and is named.

    Args:
        read_status: returns a `Status`.
        count: returns the number of documents.
        clock: epoch seconds.
    """
    at_ms = int(clock() * 1000)
    status: dict[str, Any] | None = None
    written = settled = documents = None
    kafka_error = elasticsearch_error = ""
    try:
        status = read_status().as_json()
        written = sum(row["log_end"] or 0 for row in status["partitions"])
        settled = sum(row["committed"] or 0 for row in status["partitions"])
    except (PipelineError, Unreachable) as error:
        kafka_error = hide(str(error))
    except Exception as error:  # noqa: BLE001 - the page says it, and looks again
        kafka_error = hide(f"unexpected: {type(error).__name__}: {error}")
    try:
        documents = count()
    except (PipelineError, Unreachable) as error:
        elasticsearch_error = hide(str(error))
    except Exception as error:  # noqa: BLE001 - as above
        elasticsearch_error = hide(f"unexpected: {type(error).__name__}: {error}")
    return Sample(at_ms, status, written, settled, documents, kafka_error, elasticsearch_error)


def rates(samples: Sequence[Sample]) -> dict[str, list[tuple[int, float | None]]]:
    """Return what was written, settled and indexed a second, between each two samples. Pure."""
    found: dict[str, list[tuple[int, float | None]]] = {"written": [], "settled": [], "indexed": []}
    fields = {"written": "written", "settled": "settled", "indexed": "documents"}
    for before, after in pairwise(samples):
        seconds = max(0.001, (after.at_ms - before.at_ms) / 1000)
        for name, field in fields.items():
            first, last = getattr(before, field), getattr(after, field)
            rate = None if first is None or last is None else max(0.0, (last - first) / seconds)
            found[name].append((after.at_ms, rate))
    return found


@dataclass(frozen=True, slots=True)
class Balance:
    """What became of the records that were settled within the samples.

    Attributes:
        seconds: between the first and the last sample that count.
        settled: records.
        documents: more than before.
        letters: more than before.
        in_flight: now.
    """

    seconds: float
    settled: int
    documents: int
    letters: int
    in_flight: int

    @property
    def rest(self) -> int:
        """Settled records that are neither: delivered twice, dropped, or not yet to be seen."""
        return self.settled - self.documents - self.letters


def balance(samples: Sequence[Sample]) -> Balance | None:
    """Return the balance of the samples; None where there are no two whole ones. Pure."""
    whole = [s for s in samples if s.settled is not None and s.documents is not None]
    if len(whole) < 2:  # noqa: PLR2004
        return None
    first, last = whole[0], whole[-1]
    return Balance(
        (last.at_ms - first.at_ms) / 1000,
        (last.settled or 0) - (first.settled or 0),
        (last.documents or 0) - (first.documents or 0),
        (last.letters or 0) - (first.letters or 0),
        last.status["in_flight"] if last.status else 0,
    )


class History:
    """The samples of the last hour. One thread takes them; any thread may read them.

    Args:
        take: takes one sample.
        interval_seconds: between two samples.
    """

    def __init__(
        self, take: Callable[[], Sample], *, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._take = take
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()
        self._samples: deque[Sample] = deque(maxlen=KEPT_SAMPLES)  # under `_lock`
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llmlog-console-flow", daemon=True)

    def start(self) -> None:
        """Begin to take samples."""
        self._thread.start()

    def close(self) -> None:
        """Take no more of them."""
        self._ended.set()

    def samples(self) -> list[Sample]:
        """Return the samples, the oldest first."""
        with self._lock:
            return list(self._samples)

    def last_status(self) -> Sample | None:
        """Return the newest sample that Kafka has answered; None where there is none."""
        return next((s for s in reversed(self.samples()) if s.status is not None), None)

    def _run(self) -> None:
        while not self._ended.is_set():
            sample = self._take()
            with self._lock:
                self._samples.append(sample)
            self._ended.wait(self._interval_seconds)
