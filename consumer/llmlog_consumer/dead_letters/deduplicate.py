"""Owns the choice of one dead letter for each source: the newest. Pure.

Letters of one source begin with the same event id, or have the same key where they begin with none.
Reading these costs a fifth of reading headers: so `add` looks at them alone, and reads the headers
only of letters of which they may have come before. No letter is told by its key: anybody sets it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llmlog_consumer.dead_letters.headers import TRUNCATED_KEY_BYTES
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.newest import LATEST_SECONDS, NewestMap
from llmlog_schemas.framing import find_event_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.dead_letters.record import ReplayRecord
    from llmlog_consumer.kafka_record import KafkaRecord

TABLE_BYTES: Final = 1 << 20
"""Size of a table with a bit for each hash: of a million distinct ids one in sixteen meets a
bit that is set. A larger table would not fit into the processor's cache, and cost as much."""


class NewestPerSource:
    """Keeps one dead letter per source: the newest.

    A record that is replayed and fails again has a second dead letter, and so has an event that was
    sent twice. Readers show one, in two
    passes: `add` every letter, then ask `keeps(letter)`. Exact within a partition of the
    dead-letter topic. Of letters on several partitions (the topic was given more of them) exactly
    one is kept, and nearly always the newest.

    Args:
        table_bytes: size of each of the two tables of hashes.

    Attributes:
        letters: number of letters added.
        has_our_headers: whether any of them has the headers of a dead letter, ours or of a program
            that we know.
    """

    def __init__(self, *, table_bytes: int = TABLE_BYTES) -> None:
        self._table_bytes = table_bytes
        # A bit is set in the first table for each id or key that came, in the second for each that
        # may have come again.
        self._seen, self._repeated = bytearray(table_bytes), bytearray(table_bytes)
        self._newest = NewestMap()
        self.letters = 0
        self.has_our_headers = False

    def add(self, records: Sequence[KafkaRecord]) -> None:
        """Take letters in, in the order of their offsets."""
        seen, repeated, size = self._seen, self._repeated, self._table_bytes
        self.letters += len(records)
        for record in records:
            if not self.has_our_headers:
                self.has_our_headers = bool(read_letter(record, content=False).writer)
            mark = _mark(record)
            if mark is None:
                self._put(record)
                continue
            number = hash(mark)
            at, bit = (number >> 3) % size, 1 << (number & 7)
            if seen[at] & bit:
                repeated[at] |= bit
                self._put(record)
            else:
                seen[at] |= bit

    def keeps(self, record: KafkaRecord) -> bool:
        """Tell whether a letter that was added is the one to show for its source."""
        if self._is_only_one(_mark(record)):
            return True
        return self.keeps_record(read_letter(record, content=False))

    def keeps_record(self, letter: DeadLetter | ReplayRecord) -> bool:
        """Tell the same of a letter that is read already."""
        known = self._newest.get(letter.name)
        # The first letter with an id or a key was not put into the map.
        if known is None or letter.position == known[1] or letter.second > known[0]:
            # From now on no other is kept.
            self._newest.put(letter.name, LATEST_SECONDS, letter.position)
            return True
        return False

    def _put(self, record: KafkaRecord) -> None:
        letter = read_letter(record, content=False)
        self._newest.put(letter.name, letter.second, letter.position)

    def _is_only_one(self, mark: bytes | None) -> bool:
        """Tell whether certainly no second letter has this id or key."""
        if mark is None:
            return False
        number = hash(mark)
        return not self._repeated[(number >> 3) % self._table_bytes] & 1 << (number & 7)


def _mark(record: KafkaRecord) -> bytes | None:
    """Return what letters of one source have in common; None where that is not known."""
    if event_id := find_event_id(record.value()):
        return event_id
    key = record.key()
    return None if key is None or len(key) >= TRUNCATED_KEY_BYTES else key  # maybe truncated
