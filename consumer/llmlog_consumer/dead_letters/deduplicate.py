"""Owns the choice of one dead letter for each source record: the newest. Pure.

Letters of one source record have its key. Reading keys costs a fifth of reading headers: so `add`
looks at keys alone, and reads the headers only of letters whose key may have come before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llmlog_consumer.dead_letters.headers import TRUNCATED_KEY_BYTES
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.offset_map import LATEST_SECONDS, OffsetMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.dead_letters.offset_map import PartitionOffsets
    from llmlog_consumer.dead_letters.record import ReplayRecord
    from llmlog_consumer.kafka_record import KafkaRecord

TABLE_BYTES: Final = 1 << 20
"""Size of a table with a bit for each key's hash: of a million distinct keys one in sixteen meets a
bit that is set. A larger table would not fit into the processor's cache, and cost as much."""


class NewestPerRecord:
    """Keeps one dead letter per source record: the newest.

    A record that is replayed and fails again has a second dead letter. Readers show one, in two
    passes: `add` every letter, then ask `keeps(letter)`. Exact within a partition of the
    dead-letter topic. Of letters on several partitions (the topic was given more of them) exactly
    one is kept, and nearly always the newest.

    Args:
        table_bytes: size of each of the two key tables.

    Attributes:
        letters: number of letters added.
        has_our_headers: whether any of them has the headers of a dead letter, ours or Connect's.
    """

    def __init__(self, *, table_bytes: int = TABLE_BYTES) -> None:
        self._table_bytes = table_bytes
        # A bit is set in the first table for each key that came, in the second for each that may
        # have come again.
        self._seen, self._repeated = bytearray(table_bytes), bytearray(table_bytes)
        self._newest = OffsetMap()
        self.letters = 0
        self.has_our_headers = False

    def add(self, records: Sequence[KafkaRecord]) -> None:
        """Take letters in, in the order of their offsets."""
        seen, repeated, size = self._seen, self._repeated, self._table_bytes
        self.letters += len(records)
        for record in records:
            if not self.has_our_headers:
                self.has_our_headers = bool(read_letter(record, content=False).writer)
            key = record.key()
            if key is None or len(key) >= TRUNCATED_KEY_BYTES:  # no key, or a truncated one
                self._put(record)
                continue
            number = hash(key)
            at, bit = (number >> 3) % size, 1 << (number & 7)
            if seen[at] & bit:
                repeated[at] |= bit
                self._put(record)
            else:
                seen[at] |= bit

    def keeps(self, record: KafkaRecord) -> bool:
        """Tell whether a letter that was added is the one to show for its source record."""
        if self._is_only_one(record.key()):
            return True
        return self.keeps_record(read_letter(record, content=False))

    def keeps_record(self, letter: DeadLetter | ReplayRecord) -> bool:
        """Tell the same of a letter that is read already."""
        offsets, offset = self._offsets(letter), letter.source[2]
        known = offsets.get(offset)
        # The first letter of a key was not put into the map.
        if known is None or letter.position == known[1] or letter.second > known[0]:
            offsets.put(offset, LATEST_SECONDS, letter.position)  # from now on no other is kept
            return True
        return False

    def _put(self, record: KafkaRecord) -> None:
        letter = read_letter(record, content=False)
        self._offsets(letter).put(letter.source[2], letter.second, letter.position)

    def _is_only_one(self, key: bytes | None) -> bool:
        """Tell whether certainly no second letter has this key."""
        if key is None or len(key) >= TRUNCATED_KEY_BYTES:
            return False
        number = hash(key)
        return not self._repeated[(number >> 3) % self._table_bytes] & 1 << (number & 7)

    def _offsets(self, letter: DeadLetter | ReplayRecord) -> PartitionOffsets:
        return self._newest.partition(letter.source[:2])
