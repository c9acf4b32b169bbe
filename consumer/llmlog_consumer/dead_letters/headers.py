"""Reads the headers of a letter, whoever wrote them: ours, Kafka Connect's, or none. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_consumer.dead_letters.letter import OURS, PREFIX, fingerprint_of
from llmlog_consumer.dead_letters.names import LARGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECT: Final = "__connect.errors."
_HISTORY: Final = tuple(PREFIX + name for name in ("replay_count", "first_failed_at", "timestamp"))

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


def history(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return no more of a letter's headers than its next one needs."""
    if isinstance(headers, Texts):
        return Texts(dict(zip(_HISTORY, map(headers.raw.get, _HISTORY), strict=True)))
    return headers


def replays(headers: Mapping[str, str]) -> int:
    """Return how often a letter was replayed and died again."""
    said = headers.get("replay_count")
    return 0 if said == "0" else max(0, number(said) or 0)


def number(text: str | None) -> int | None:
    """Read a number that anybody may have written; None for none, or for one beyond 63 bits."""
    try:
        said = int(text or "")
    except ValueError:
        return None
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
