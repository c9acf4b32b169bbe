"""Owns the headers of dead letters that other programs write, in our names. Pure.

Kafka Connect and Kafka Streams write texts. Spring writes big-endian numbers, and the same names
under `kafka_` for its retry topics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NUMBER_BYTES: Final = (4, 8)
"""A partition is an int of Java, an offset and a time are longs."""


class _Writer(NamedTuple):
    """A program that writes dead letters.

    Attributes:
        name: of the program.
        prefixes: of its headers; of two headers with one name that of the first prefix counts.
        names: its names, without prefix, by ours.
        exception: its headers of the error: class, and text; of each the first that it has.
        is_binary: whether numbers are big-endian bytes.
    """

    name: str
    prefixes: tuple[str, ...]
    names: Mapping[str, str]
    exception: tuple[tuple[str, ...], ...]
    is_binary: bool = False


_PLACE: Final = {"topic": "topic", "partition": "partition", "offset": "offset"}
_WRITERS: Final = (
    _Writer(
        "connect",
        ("__connect.errors.",),
        {**_PLACE, "stage": "stage", "group": "connector.name"},
        (("exception.class.name",), ("exception.message",)),
    ),
    _Writer("streams", ("__streams.errors.",), _PLACE, (("exception",), ("message",))),
    _Writer(
        "spring",
        ("kafka_dlt-", "kafka_"),
        {
            "topic": "original-topic",
            "partition": "original-partition",
            "offset": "original-offset",
            "timestamp": "original-timestamp",
            "group": "original-consumer-group",
        },
        # The exception itself only says that a listener failed; its cause says why.
        (("exception-cause-fqcn", "exception-fqcn"), ("exception-message",)),
        is_binary=True,
    ),
)
_NUMBERS: Final = frozenset({"partition", "offset", "timestamp"})
_SPRING_ERRORS: Final = ("exception-", "original-", "key-exception-")


class ForeignHeaders(NamedTuple):
    """What another program says about a record that failed.

    Attributes:
        writer: its name.
        ours: its headers as texts, under our names; what it does not say is left out.
        names: of its headers, which are none of the source record's.
    """

    writer: str
    ours: dict[str, str]
    names: frozenset[str]


def read_foreign(pairs: Iterable[tuple[str, Any]]) -> ForeignHeaders | None:
    """Return what the headers of a letter say in another program's words; None where nothing.

    Args:
        pairs: name and value of each header.
    """
    by_name = dict(pairs)
    for writer in _WRITERS:
        names = frozenset(name for name in by_name if _is_of(writer, name))
        if names:
            return ForeignHeaders(writer.name, _translate(writer, by_name), names)
    return None


def _is_of(writer: _Writer, name: str) -> bool:
    for prefix in writer.prefixes:
        if name.startswith(prefix):
            # `kafka_` alone also begins headers that Spring sends with any record.
            return not writer.is_binary or name[len(prefix) :].startswith(_SPRING_ERRORS)
    return False


def _translate(writer: _Writer, by_name: Mapping[str, Any]) -> dict[str, str]:
    def read(*names: str, is_number: bool = False) -> str:
        for name in names:
            for prefix in writer.prefixes:
                value = by_name.get(prefix + name)
                if value is not None:
                    return _text(value, is_binary=is_number and writer.is_binary)
        return ""

    ours = {our: read(name, is_number=our in _NUMBERS) for our, name in writer.names.items()}
    ours["exception"] = ": ".join(filter(None, (read(*names) for names in writer.exception)))
    return {name: text for name, text in ours.items() if text}


def _text(value: bytes | str, *, is_binary: bool) -> str:
    if isinstance(value, str):
        return value
    if is_binary and len(value) in _NUMBER_BYTES:
        return str(int.from_bytes(value, "big", signed=True))
    return value.decode("utf-8", "replace")
