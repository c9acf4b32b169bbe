"""A letter as the record that it was: what the worker's own way takes, and a topic again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.dead_letters import headers as of_letters
from llmlog_consumer.dead_letters.cause import OURS, PREFIX
from llmlog_consumer.dead_letters.headers import History
from llmlog_consumer.dead_letters.letter import found, position, second
from llmlog_consumer.dead_letters.message import read_headers

if TYPE_CHECKING:
    from llmlog_consumer.dead_letters.headers import Raw
    from llmlog_consumer.dead_letters.letter import DeadLetter

_NEEDED: Final = itemgetter(*of_letters.SOURCE, *of_letters.HISTORY)
_TRUNCATED: Final = f"{PREFIX}truncated.length"


@dataclass(slots=True, eq=False)
class ReplayRecord:
    """What it dies of again has the name of its source.

    No more is kept than is needed: a letter's headers take as much room as its value.

    Attributes:
        source: topic, partition and offset.
        source_key: byte for byte.
        source_value: byte for byte.
        own: the source's own headers.
        history: of the letter.
        ms: epoch milliseconds of the letter.
        position: of the letter on its topic, as one number.
        truncated: the letter, where it holds the beginning of the source alone.
    """

    source: tuple[str, int, int]
    source_key: bytes | None
    source_value: bytes | None
    own: tuple[Raw, ...]
    history: History
    ms: int
    position: int
    truncated: DeadLetter | None = None

    @property
    def replays(self) -> int:
        """How often it was replayed and died again."""
        return self.history.replays

    @property
    def second(self) -> int:
        """Epoch second of the letter, within what 32 bits hold."""
        return second(self.ms)

    @property
    def size(self) -> int:
        """Bytes of the value; of a truncated one, of the whole, which is read again."""
        cut = self.truncated
        whole = 0 if cut is None else of_letters.number(cut.headers["truncated.length"]) or 0
        return max(whole, len(self.source_value or b""))

    def __len__(self) -> int:
        """Return the bytes of the source's value that the letter holds."""
        return len(self.source_value or b"")

    def topic(self) -> str:
        """Return the source's."""
        return self.source[0]

    def partition(self) -> int:
        """Return the source's."""
        return self.source[1]

    def offset(self) -> int:
        """Return the source's."""
        return self.source[2]

    def key(self) -> bytes | None:
        """Return the source's, byte for byte."""
        return self.source_key

    def value(self) -> bytes | None:
        """Return the source's, byte for byte."""
        return self.source_value

    def headers(self) -> list[Raw]:
        """Return the source's own; and since when it dies, and that it was replayed once more."""
        headers = [*self.own, (f"{PREFIX}replay_count", str(self.replays + 1).encode())]
        if died := self.history.first_death:
            headers.append((f"{PREFIX}first_failed_at", died.encode()))
        return headers

    def timestamp(self) -> tuple[int, int]:
        """Return kind and epoch milliseconds of the source; of the letter, where that says none."""
        said = self.history.source_ms
        return 1, self.ms if said is None else said


def record_of(letter: DeadLetter) -> ReplayRecord:
    """Return the record that a letter was, whoever wrote it.

    Args:
        letter: with its content.
    """
    return ReplayRecord(
        letter.source, letter.key, letter.value, letter.own, of_letters.history(letter.headers),
        letter.timestamp_ms, letter.position, letter if letter.truncated else None,
    )  # fmt: skip


def read_record(message: Any) -> ReplayRecord:
    """Return the record that a message of the dead-letter topic was.

    The same as of the letter that is found in it, at a third of the time for nearly all of them.
    """
    ours = dict(read_headers(message))
    if _TRUNCATED not in ours and OURS.issuperset(ours):
        try:
            topic, partition, offset, *history = _NEEDED(ours)
        except KeyError:
            return record_of(found(message))
        source = of_letters.place(topic, partition, offset)
        if source is not None:
            return ReplayRecord(
                source, message.key(), message.value(), (), History(*history),
                message.timestamp()[1], position(message.partition(), message.offset()),
            )  # fmt: skip
    return record_of(found(message))
