"""Which letter speaks for its source record: the newest of its name. Pure.

Letters of one name hold one record, so they have one key. Reading keys costs a fifth of reading
headers: the first pass over the topic looks at keys alone, and at the headers of those letters
whose key may have come before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.dead_letters.found import name_of, position, second_of
from llmlog_consumer.dead_letters.letter import TRUNCATED_KEY_BYTES
from llmlog_consumer.dead_letters.message import read_headers
from llmlog_consumer.dead_letters.names import LATEST, Names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_consumer.dead_letters.names import Column

_TABLE_BYTES: Final = 1 << 20
"""Of a table with a bit for each key: of a million keys, one in sixteen is looked at in vain. With
more they would lie outside the processor's cache, and each look would cost as much."""


class Doublets:
    """Letters in, then again to be asked which of them speak.

    Of letters on one partition the last that is newest speaks. Of letters on several, whose
    number was changed meanwhile, one speaks, and nearly always the newest.

    Attributes:
        read: letters taken in.
        foreign: none of them has the headers of a letter.
    """

    def __init__(self) -> None:
        self._seen, self._again = bytearray(_TABLE_BYTES), bytearray(_TABLE_BYTES)
        self._names = Names()
        self.read = 0
        self.foreign = True

    def add(self, messages: Sequence[Any]) -> None:
        """Take letters in, in the order in which they lie."""
        seen, again = self._seen, self._again
        self.read += len(messages)
        for message in messages:
            if self.foreign:
                self.foreign = name_of(read_headers(message), message)[0] is None
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
        column, offset = self._place(message)
        column.put(offset, second_of(message), position(message))

    def speaks(self, message: Any) -> bool:
        """Tell whether a letter, of those that were taken in, is the one of its name."""
        key = message.key()
        if key is not None and len(key) < TRUNCATED_KEY_BYTES:
            number = hash(key)
            if not self._again[(number >> 3) % _TABLE_BYTES] & 1 << (number & 7):
                return True
        column, offset = self._place(message)
        noted = column.get(offset)
        if noted is None:
            return True
        second, speaker = noted
        here = position(message)
        if here == speaker:
            column.put(offset, LATEST, here)  # it has spoken: no other does
            return True
        if second_of(message) > second:  # the first of its key, of which no note was taken
            column.put(offset, second_of(message), here)
            return True
        return False

    def _place(self, message: Any) -> tuple[Column, int]:
        topic, partition, offset = name_of(read_headers(message), message)
        return self._names.column((topic, partition)), offset
