"""Which letter keeps for its source record: the newest of its name. Pure.

Letters of one name hold one record, so they have one key. Reading keys costs a fifth of reading
headers: the first pass over the topic looks at keys alone, and at the headers of those letters
whose key may have come before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.dead_letters.cause import TRUNCATED_KEY_BYTES
from llmlog_consumer.dead_letters.letter import found
from llmlog_consumer.dead_letters.offset_map import LATEST, OffsetMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.dead_letters.offset_map import PartitionOffsets
    from llmlog_consumer.dead_letters.record import ReplayRecord

_TABLE_BYTES: Final = 1 << 20
"""Of a table with a bit for each key: of a million keys, one in sixteen is looked at in vain. With
more they would lie outside the processor's cache, and each look would cost as much."""


class NewestPerRecord:
    """Letters in, then again to be asked which of them speak.

    Of letters on one partition the last that is newest keeps. Of letters on several, whose
    number was changed meanwhile, one keeps, and nearly always the newest.

    Attributes:
        read: letters taken in.
        foreign: none of them has the headers of a letter.
    """

    def __init__(self) -> None:
        self._seen, self._again = bytearray(_TABLE_BYTES), bytearray(_TABLE_BYTES)
        self._names = OffsetMap()
        self.read = 0
        self.foreign = True

    def add(self, messages: Sequence[Any]) -> None:
        """Take letters in, in the order in which they lie."""
        seen, again = self._seen, self._again
        self.read += len(messages)
        for message in messages:
            if self.foreign:
                self.foreign = not found(message, content=False).writer
            key = message.key()
            if key is None or len(key) >= TRUNCATED_KEY_BYTES:  # no key, or the beginning of one
                self._take_note(message)
                continue
            number = hash(key)
            at, bit = (number >> 3) % _TABLE_BYTES, 1 << (number & 7)
            if seen[at] & bit:
                again[at] |= bit
                self._take_note(message)
            else:
                seen[at] |= bit

    def _take_note(self, message: Any) -> None:
        letter = found(message, content=False)
        self._column(letter).put(letter.source[2], letter.second, letter.position)

    def keeps(self, message: Any) -> bool:
        """Tell whether a letter, of those that were taken in, is the one of its name."""
        return self._is_alone(message.key()) or self.keeps_record(found(message, content=False))

    def keeps_record(self, letter: DeadLetter | ReplayRecord) -> bool:
        """Tell the same of what was read of a letter."""
        column, offset = self._column(letter), letter.source[2]
        noted = column.get(offset)
        # The first of its key was taken no note of.
        if noted is None or letter.position == noted[1] or letter.second > noted[0]:
            column.put(offset, LATEST, letter.position)  # it has spoken: no other does
            return True
        return False

    def _is_alone(self, key: bytes | None) -> bool:
        """Tell whether no other letter has this key, as far as the table knows."""
        if key is None or len(key) >= TRUNCATED_KEY_BYTES:
            return False
        number = hash(key)
        return not self._again[(number >> 3) % _TABLE_BYTES] & 1 << (number & 7)

    def _column(self, letter: DeadLetter | ReplayRecord) -> PartitionOffsets:
        return self._names.column(letter.source[:2])
