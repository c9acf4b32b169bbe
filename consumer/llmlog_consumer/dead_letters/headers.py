"""Reads the headers of a letter, whoever wrote them: ours, Kafka Connect's, or none. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from llmlog_consumer.dead_letters.letter import PREFIX, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONNECT: Final = "__connect.errors."

Raw = tuple[str, bytes | None]


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


def read(raw: Iterable[Raw] | None) -> Read:
    """Take headers apart."""
    ours: dict[str, str] = {}
    connect: dict[str, str] = {}
    own: list[Raw] = []
    for name, value in raw or ():
        if name.startswith(PREFIX):
            ours[name[len(PREFIX) :]] = _text(value)
        elif name.startswith(CONNECT):
            connect[name[len(CONNECT) :]] = _text(value)
        else:
            own.append((name, value))
    if ours:
        return Read(ours, tuple(own), "pipeline")
    if connect:
        return Read(_of_connect(connect), tuple(own), "connect")
    return Read({}, tuple(own), "")


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
