"""Topics full of events of a given size, made once for a run."""

from __future__ import annotations

import functools
import itertools
import random
import time
from collections.abc import Iterable, Sequence

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from llmlog_common.kafka_clients import MAX_RECORD_BYTES
from llmlog_schemas.codec import Encoder
from llmlog_schemas.convert import to_event
from llmlog_schemas.limits import MAX_SEARCH_TEXT_CHARACTERS
from support.payloads import payload

PARTITIONS = 8
_DISTINCT = 2_000
_DISTINCT_BYTES = 20_000_000
"""Of distinct events together, which are made and kept."""
_SMALL = 1_000
_LEFT_OUT = ("id", "trace_id", "messages", "metadata", "request_tags", "error_str")
"""What the smallest events do without."""
_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
"""From the most to the least frequent."""
_VOCABULARY = 8_000
"""Words that there are, the n-th of them n times as rare as the first, as in any language: what
full-text search costs Elasticsearch goes by the number of different words."""


def values(size: int, count: int, days_ago: int = 0):
    """Yield encoded events of about `size` bytes, all of them distinct by their id."""
    encoder, made = Encoder(), []
    distinct = max(4, min(_DISTINCT, _DISTINCT_BYTES // size))
    less = dict.fromkeys(_LEFT_OUT) if size < _SMALL else {}
    if days_ago:
        began = time.time() // 3600 * 3600 - days_ago * 86_400
        less |= {"startTime": began, "endTime": began + 0.5}
    for seed in range(distinct):
        bare = encoder.encode(to_event(payload(seed, response=_answer("."), **less)))
        # The answer's text stands there twice: as it came, and for full-text search up to a bound.
        left = size - len(bare) + 2
        text = prose(seed, max(left // 2, left - MAX_SEARCH_TEXT_CHARACTERS))
        event = to_event(payload(seed, response=_answer(text), **less))
        made.append((event["event_id"], encoder.encode(event)))
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    suffixes = itertools.product(letters, repeat=4)
    for number, (first_id, value) in zip(range(count), itertools.cycle(made), strict=False):
        if number % distinct == 0:
            suffix = "".join(next(suffixes))
        event_id = first_id[:16] + suffix
        yield event_id, value.replace(first_id.encode(), event_id.encode())


def _answer(text: str):
    return {"choices": [{"message": {"content": text}}]}


def prose(seed: int, length: int) -> str:
    """Return text with the words of a language, and about as compressible as one."""
    words, weights = _vocabulary()
    found = random.Random(seed).choices(words, cum_weights=weights, k=max(length, 0) // 3 + 1)
    return " ".join(found)[: max(length, 0)]


@functools.cache
def _vocabulary() -> tuple[list[str], list[float]]:
    pick = random.Random(0)
    frequency = range(len(_LETTERS), 0, -1)
    words = [
        "".join(pick.choices(_LETTERS, weights=frequency, k=pick.randint(2, 9)))
        for _ in range(_VOCABULARY)
    ]
    return words, list(itertools.accumulate(1 / (rank + 1) for rank in range(_VOCABULARY)))


def create(bootstrap: str, topic: str) -> None:
    """Create a topic, its dead-letter topic and its audit topic."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    config = {"max.message.bytes": str(MAX_RECORD_BYTES)}
    names = [NewTopic(name, PARTITIONS, config=config) for name in (topic, f"{topic}.dlq")]
    names.append(NewTopic(f"{topic}.audit", 1))
    for future in admin.create_topics(names).values():
        future.result(30)


def write(bootstrap: str, topic: str, records: Iterable[tuple[str, bytes, list | None]]) -> None:
    """Write keys, values and headers evenly over the partitions."""
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "zstd",
                         "message.max.bytes": MAX_RECORD_BYTES + 65_536, "linger.ms": 50,
                         "batch.size": 1_000_000})  # fmt: skip
    for number, (key, value, headers) in enumerate(records):
        while True:
            try:
                producer.produce(topic, value, key, partition=number % PARTITIONS, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0


def fill_late(bootstrap: str, topic: str, size: int, count: int, days: Sequence[int]) -> None:
    """Create the topics and write events; one in a hundred is of one of these days ago."""
    create(bootstrap, topic)
    late = [values(size, count, days_ago) for days_ago in days]
    write(bootstrap, topic, (
        (*(event if number % 100 else next(late[number // 100 % len(late)])), None)
        for number, event in enumerate(values(size, count))
    ))  # fmt: skip


def fill(bootstrap: str, topic: str, size: int, count: int, bad_share: float = 0.0) -> None:
    """Create the topic and its dead-letter topic, and write `count` events evenly."""
    create(bootstrap, topic)
    every = round(1 / bad_share) if bad_share else 0
    write(bootstrap, topic, (
        (key, b"garbage" if every and number % every == 0 else value, None)
        for number, (key, value) in enumerate(values(size, count))
    ))  # fmt: skip
