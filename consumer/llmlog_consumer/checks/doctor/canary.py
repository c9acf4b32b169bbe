"""Owns the canary of `pipeline doctor --end-to-end`: one marked event, the whole way and back.

The event is sent as the gateway sends one, found as a document and by a search, and deleted. Its
record has a header, by which `pipeline verify` leaves it out: it has no document afterwards.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.groups import make_place
from llmlog_consumer.checks.doctor.findings import Check, Seen, examine, green, red, yellow
from llmlog_consumer.dead_letters.headers import read_headers
from llmlog_consumer.elasticsearch.index_names import daily_index
from llmlog_schemas.convert import to_event
from llmlog_schemas.event import event_time_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmlog_common.settings import Settings
    from llmlog_consumer.checks.doctor.findings import Finding
    from llmlog_consumer.elasticsearch.connection import Elastic
    from llmlog_consumer.kafka.producer import KafkaProducer
    from llmlog_consumer.kafka_record import KafkaRecord
    from llmlog_schemas.codec import Encoder
    from llmlog_schemas.event import LLMEvent

HEADER: Final = "llmlog.canary"
CALL_TYPE: Final = "llmlog_canary"
_MARK: Final = f'"{CALL_TYPE}"'.encode()

PATIENCE_SECONDS: Final = 30.0
"""For each hop; a worker that runs needs less than a second, a refresh of the index the rest."""
POLL_SECONDS: Final = 0.05

_SENT, _INDEXED = "canary.acknowledged", "canary.indexed"


def is_canary(record: KafkaRecord, document: bytes) -> bool:
    """Tell whether a record is a canary: its header says so, and its document too."""
    headers = read_headers(record)
    return bool(headers) and any(name == HEADER for name, _ in headers) and _MARK in document


def new_event(now: float, place: str = "") -> LLMEvent:
    """Return a new canary.

    Args:
        now: epoch seconds.
        place: period and group of its document's index.
    """
    return to_event(
        {
            "litellm_call_id": f"llmlog-canary-{uuid.uuid4()}",
            "call_type": CALL_TYPE,
            "status": "success",
            "model": "llmlog-canary",
            "startTime": now,
            "endTime": now,
        },
        place=place,
    )


class Canary:
    """One run of the canary.

    Args:
        settings: topic and alias.
        encoder: events to values, as the gateway has it.
        producer: to Kafka.
        elastic: where its document is looked for.
        patience_seconds: for each hop.
        clock: monotonic seconds.
        wall_clock: epoch seconds.
        sleep: takes seconds.
    """

    def __init__(
        self,
        settings: Settings,
        encoder: Encoder,
        producer: KafkaProducer[None],
        elastic: Elastic,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._encoder = encoder
        self._producer = producer
        self._elastic = elastic
        self._patience = patience_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep

    def run(self) -> Iterator[Finding]:
        """Yield a finding for each hop; those after one that fails are skipped.

        A document that no search finds is there all the same, and is deleted.
        """
        place = make_place(self._settings.index_period, "")
        event = new_event(self._wall_clock(), place)
        event_id = event["event_id"]
        index = daily_index(self._settings.index, event_time_ms(event_id), place)
        path = f"/{index}/_doc/{event_id}"
        doctor = "pipeline doctor --quiet"

        def has_document() -> bool:
            return self._elastic.request("GET", path, params={"_source": "false"}).ok

        hops = {
            "sent": lambda: self._send(event),
            "indexed": lambda: self._wait(has_document, f"document {path}", "pipeline status"),
            "found": lambda: self._wait(
                lambda: self._is_found(event_id), f"found behind {self._settings.index}", doctor
            ),
            "deleted": lambda: self._delete(path),
        }
        there = (_SENT, _INDEXED)
        checks = (
            Check(_SENT, "Kafka takes an event", ("sent",), _seen, doctor),
            Check(_INDEXED, "a worker indexes it", ("indexed",), _seen, doctor, after=(_SENT,)),
            Check("canary.searchable", "a search finds it", ("found",), _seen, doctor, after=there),
            Check("canary.deleted", "it is gone again", ("deleted",), _seen, doctor, after=there),
        )
        return examine(checks, hops)

    def _send(self, event: LLMEvent) -> Seen:
        began = self._clock()
        value = self._encoder.encode(event)
        headers: list[tuple[str, Any]] = [(HEADER, b"1")]
        topic = self._settings.topic
        self._producer.send(None, topic, value, event["event_id"], headers=headers)
        self._producer.finish("events")
        return green(f"in {self._clock() - began:.3f} s")

    def _wait(self, is_done: Callable[[], bool], what: str, mend: str) -> Seen:
        began = self._clock()
        while not is_done():
            if self._clock() - began >= self._patience:
                return red(f"not within {self._patience:.0f} s: {what}", mend)
            self._sleep(POLL_SECONDS)
        return green(f"after {self._clock() - began:.3f} s: {what}")

    def _is_found(self, event_id: str) -> bool:
        body = {"query": {"ids": {"values": [event_id]}}, "size": 0, "track_total_hits": True}
        answer = self._elastic.demand("POST", f"/{self._settings.index}/_search", body=body)
        return bool(answer["hits"]["total"]["value"])

    def _delete(self, document: str) -> Seen:
        began = self._clock()
        answer = self._elastic.request("DELETE", document)
        if not answer.ok:
            return yellow(
                f"{document} stays: {answer.describe()}",
                "grant `delete` on the daily indices to this user, or delete it as another one",
            )
        return green(f"in {self._clock() - began:.3f} s")


def _seen(seen: Seen) -> Seen:
    """Return what a hop has found: it judges itself."""
    return seen
