"""Owns how the records of a chunk become runs: one partition each, and alike in weight. Pure.

A record weighs its value, and beside that its key, its headers and what Python needs for it. Values
are counted to the byte. The rest is counted by its mean over a run, so a record whose key and
headers are heavy is in no run with light ones.
"""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, Final, NamedTuple

from llmlog_consumer.dead_letters.headers import read_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from llmlog_consumer.kafka_record import ConsumedRecord

OVERHEAD_BYTES: Final = 500
"""Memory of a record in flight beside value, key and headers: its objects, and those of its
operation. The document is a second copy of the value, for which the bounds leave room."""

LIGHT_BYTES: Final = 1024
"""Key and headers up to which records are alike."""

# Calls into the client without a step of Python: it runs for every record.
_KEY: Final[Callable[[ConsumedRecord], bytes | None]] = methodcaller("key")


class Run(NamedTuple):
    """Records of one partition, in their order.

    Attributes:
        records: at least one.
        value_bytes: of all values.
        beside_bytes: what each record weighs beside its value: the mean, rounded up.
    """

    records: list[ConsumedRecord]
    value_bytes: int
    beside_bytes: int

    @property
    def is_heavy_beside(self) -> bool:
        """Tell whether keys and headers weigh so much that the client's queue does not bound them.

        The client counts values alone.
        """
        return self.beside_bytes > OVERHEAD_BYTES + LIGHT_BYTES


def split_by_partition(records: Sequence[ConsumedRecord]) -> dict[int, list[ConsumedRecord]]:
    """Return the records of each partition, in their order."""
    by_partition: dict[int, list[ConsumedRecord]] = {}
    for record in records:
        by_partition.setdefault(record.partition(), []).append(record)
    return by_partition


def split_by_weight(records: list[ConsumedRecord]) -> Iterator[Run]:
    """Yield the records of one partition in runs; one run unless keys or headers are heavy."""
    keys = list(map(len, filter(None, map(_KEY, records))))
    if max(keys, default=0) <= LIGHT_BYTES and not any(map(read_headers, records)):
        yield _run(records, sum(keys))
        return
    run: list[ConsumedRecord] = []
    beside = level = 0
    for record in records:
        size = weigh_beside(record)
        its_level = size.bit_length() if size > LIGHT_BYTES else 0
        if run and its_level != level:
            yield _run(run, beside)
            run, beside = [], 0
        run.append(record)
        beside, level = beside + size, its_level
    yield _run(run, beside)


def weigh_beside(record: ConsumedRecord) -> int:
    """Return the bytes of a record's key and headers."""
    headers = read_headers(record)
    return len(record.key() or b"") + sum(len(name) + len(value or b"") for name, value in headers)


def _run(records: list[ConsumedRecord], beside: int) -> Run:
    mean = -(-beside // len(records))
    return Run(records, sum(map(len, records)), OVERHEAD_BYTES + mean)
