"""Reads the headers of a letter, whoever wrote them: ours, Kafka Connect's, or none. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_consumer.dead_letters.cause import OURS, PREFIX, fingerprint_of
from llmlog_consumer.dead_letters.offset_map import LARGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECT: Final = "__connect.errors."
SOURCE: Final = (f"{PREFIX}topic", f"{PREFIX}partition", f"{PREFIX}offset")
_LONGEST: Final = 300
"""Bytes that a topic's name and a partition have at most, unless somebody made them up."""

Raw = tuple[str, bytes | None]


class Texts(Mapping[str, str]):
    """Our headers of one letter as texts, without their prefix; decoded when they are asked for.

    Attributes:
        raw: our headers of the letter, with their prefix.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: Mapping[str, bytes | str | None]) -> None:
        self.raw = raw

    def __getitem__(self, name: str) -> str:
        return _text(self.raw[PREFIX + name])

    def get(self, name: str, default: Any = None) -> Any:
        """Return one text, as any mapping does, at a third of the time."""
        raw = self.raw.get(PREFIX + name, self)
        return default if raw is self else _text(raw)  # type: ignore[arg-type]

    def __contains__(self, name: object) -> bool:
        return f"{PREFIX}{name}" in self.raw

    def __iter__(self) -> Iterator[str]:
        return (name[len(PREFIX) :] for name in self.raw)

    def __len__(self) -> int:
        return len(self.raw)


class Read(NamedTuple):
    """The headers of one letter.

    Attributes:
        ours: without their prefix; those of Kafka Connect under our names.
        own: what is left: the source record's.
        writer: who wrote the letter: `pipeline`, `connect` or nothing that we know.
    """

    ours: Mapping[str, str]
    own: tuple[Raw, ...]
    writer: str


class History(NamedTuple):
    """What the next letter of a name takes over, as it stands in the headers."""

    replay_count: bytes | str | None
    first_failed_at: bytes | str | None
    timestamp: bytes | str | None

    @property
    def replays(self) -> int:
        """How often it was replayed and died again."""
        return 0 if self.replay_count == b"0" else _count(self.replay_count)

    @property
    def first_death(self) -> str:
        """When it died first, as text; empty where nobody said."""
        return _text(self.first_failed_at)

    @property
    def source_ms(self) -> int | None:
        """Epoch milliseconds of the source; None where nobody said."""
        return number(self.timestamp)


HISTORY: Final = tuple(PREFIX + name for name in History._fields)


def read(raw: Sequence[Raw] | None) -> Read:
    """Take headers apart; of two with one name the later counts."""
    pairs = raw or ()
    all_of_them = dict(pairs)
    if pairs and OURS.issuperset(all_of_them):  # as nearly all letters are
        return Read(Texts(all_of_them), (), "pipeline")
    rest = [pair for pair in pairs if not pair[0].startswith(PREFIX)]
    own = tuple(pair for pair in rest if not pair[0].startswith(CONNECT))
    if len(rest) < len(pairs):
        ours = {name: value for name, value in pairs if name.startswith(PREFIX)}
        return Read(Texts(ours), own, "pipeline")
    if len(own) < len(rest):
        connect = {n[len(CONNECT) :]: _text(v) for n, v in rest if n.startswith(CONNECT)}
        return Read(_of_connect(connect), own, "connect")
    return Read({}, own, "")


def source(headers: Mapping[str, str]) -> tuple[str, int, int] | None:
    """Return topic, partition and offset of a letter's source; None where it does not say them."""
    if isinstance(headers, Texts):
        return place(*map(headers.raw.get, SOURCE))
    return place(*map(headers.get, ("topic", "partition", "offset")))


def place(
    topic: bytes | str | None, partition: bytes | str | None, offset: bytes | str | None
) -> tuple[str, int, int] | None:
    """Return coordinates as they stand in headers; None where they are none."""
    found = number(offset)
    if not topic or not partition or found is None or found < 0:
        return None
    usual = len(topic) + len(partition) <= _LONGEST
    where = (_known_place if usual else _place)(topic, partition)
    return where and (*where, found)


def _place(topic: bytes | str, partition: bytes | str) -> tuple[str, int] | None:
    found = number(partition)
    return None if found is None or found < 0 else (_text(topic), found)


_known_place: Final = lru_cache(1024)(_place)
"""There are many letters of each."""


def history(headers: Mapping[str, str]) -> History:
    """Return no more of a letter's headers than its next one needs."""
    if isinstance(headers, Texts):
        return History(*map(headers.raw.get, HISTORY))
    return History(*map(headers.get, History._fields))


def replays(headers: Mapping[str, str]) -> int:
    """Return how often a letter was replayed and died again."""
    return _count(headers.get("replay_count"))


def _count(said: bytes | str | None) -> int:
    return max(0, number(said) or 0)


def number(text: bytes | str | None) -> int | None:
    """Read a number that anybody may have written; None for none, or for one beyond 63 bits."""
    try:
        said = int(text or "")
    except ValueError:  # as bytes it may have digits beyond ASCII
        return number(_text(text)) if isinstance(text, bytes) else None
    return said if abs(said) <= LARGEST else None


def fingerprint(headers: Mapping[str, str]) -> str:
    """Return the cause's short name; one is made for a letter that says none."""
    return headers.get("fingerprint") or fingerprint_of(
        headers.get("stage", ""),
        headers.get("es.type", ""),
        headers.get("index", ""),
        headers.get("exception") or headers.get("es.reason", ""),
    )


def _of_connect(said: Mapping[str, str]) -> dict[str, str]:
    error = (said.get("exception.class.name", ""), said.get("exception.message", ""))
    read_as = {
        "topic": said.get("topic", ""),
        "partition": said.get("partition", ""),
        "offset": said.get("offset", ""),
        "stage": said.get("stage", ""),
        "exception": ": ".join(filter(None, error)),
        "group": said.get("connector.name", ""),
    }
    return {name: value for name, value in read_as.items() if value}


def _text(value: bytes | str | None) -> str:
    if isinstance(value, str):
        return value
    return (value or b"").decode("utf-8", "replace")
