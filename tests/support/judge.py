"""The judge: reads topic, index and dead letters raw, and says what was lost or doubled.

It shares no code with the product: its own Avro reader, its own headers, its own HTTP.
"""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastavro
import httpx
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

_SCHEMA = fastavro.parse_schema(
    json.loads(
        (Path(__file__).parents[2] / "schemas/llmlog_schemas/avro/llm_event.v2.avsc").read_text()
    )
)
_DEAD = "pipeline.dlq."


@dataclass
class Judgement:
    """What became of everything on a topic.

    Attributes:
        sent: distinct names of what is on the topic (event ids; coordinates of the unreadable).
        documents: how many documents each event id has.
        dead: names that have a letter.
        lost: names with neither document nor letter.
        doubled: event ids with more than one document.
        foreign: documents that no record on the topic made.
        recovered: event ids with a letter and a document.
    """

    sent: set[str] = field(default_factory=set)
    documents: Counter[str] = field(default_factory=Counter)
    dead: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    doubled: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    recovered: set[str] = field(default_factory=set)

    def assert_exact(self) -> None:
        """Fail unless every event is exactly one document or one letter."""
        assert not self.lost, f"{len(self.lost)} lost of {len(self.sent)}: {sorted(self.lost)[:5]}"
        assert not self.doubled, f"{len(self.doubled)} doubled: {sorted(self.doubled)[:5]}"
        assert not self.foreign, f"{len(self.foreign)} foreign: {sorted(self.foreign)[:5]}"


def judge(bootstrap: str, elasticsearch: str, topic: str, index: str) -> Judgement:
    """Read everything and count."""
    result = Judgement()
    names: dict[tuple[int, int], str] = {}
    for message in read_all(bootstrap, topic):
        where = (message.partition(), message.offset())
        names[where] = _event_id(message.value()) or f"{topic}/{where[0]}/{where[1]}"
    result.sent = set(names.values())
    for message in read_all(bootstrap, f"{topic}.dlq"):
        headers = {name: value.decode() for name, value in message.headers() or []}
        where = (int(headers[f"{_DEAD}partition"]), int(headers[f"{_DEAD}offset"]))
        assert headers[f"{_DEAD}topic"] == topic
        assert headers[f"{_DEAD}stage"], "a letter that does not say where it died"
        assert headers.get(f"{_DEAD}es.reason") or headers.get(f"{_DEAD}exception")
        result.dead.add(names[where])
    for document_id in _document_ids(elasticsearch, index):
        result.documents[document_id] += 1
    found = set(result.documents)
    result.lost = result.sent - found - result.dead
    result.doubled = {name for name, number in result.documents.items() if number > 1}
    result.foreign = found - result.sent
    result.recovered = found & result.dead
    return result


def read_all(bootstrap: str, topic: str) -> Iterator[Any]:
    """Yield every record that is on a topic now."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "judge",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    open_partitions = set(partitions)
    heard = time.monotonic()
    while open_partitions:
        messages = consumer.consume(5000, 0.2)
        if messages:
            heard = time.monotonic()
        assert time.monotonic() - heard < 30, f"{topic}: the broker says nothing"
        for message in messages:
            if message.error() is None:
                yield message
            elif message.error().code() == KafkaError._PARTITION_EOF:
                open_partitions.discard(message.partition())
            else:
                raise AssertionError(message.error())
    consumer.close()


def _event_id(value: bytes | None) -> str | None:
    if not value or (value[:2] != b"\xc3\x01" and value[0] != 0):
        return None
    body = value[5:] if value[0] == 0 else value[10:]  # a schema id, or Avro's own framing
    try:
        event = fastavro.schemaless_reader(io.BytesIO(body), _SCHEMA, None)
    except Exception:  # noqa: BLE001 - unreadable is what it asks
        return None
    return event["event_id"]


def _document_ids(elasticsearch: str, index: str) -> list[str]:
    """Return the `_id` of every document of every daily index."""
    with httpx.Client(base_url=elasticsearch, timeout=60) as http:
        http.post(f"/{index}-*/_refresh").raise_for_status()
        names = [
            name for name in http.get(f"/{index}-*/_settings").json() if name.startswith(index)
        ]
        if not names:
            return []
        pit = http.post(f"/{','.join(names)}/_pit?keep_alive=2m").json()["id"]
        ids: list[str] = []
        after: list[Any] | None = None
        while True:
            query = {
                "size": 10_000,
                "_source": False,
                "pit": {"id": pit, "keep_alive": "2m"},
                "sort": [{"_shard_doc": "asc"}],
                "track_total_hits": False,
            }
            answer = http.post("/_search", json=query | ({"search_after": after} if after else {}))
            hits = answer.raise_for_status().json()["hits"]["hits"]
            if not hits:
                break
            ids += [hit["_id"] for hit in hits]
            after = hits[-1]["sort"]
        http.request("DELETE", "/_pit", json={"id": pit})
    return ids
