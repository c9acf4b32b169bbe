"""The framing of a Kafka value: which schema wrote it, and where its Avro body begins. Pure.

Two framings may share a topic; their first bytes differ:

    C3 01 + 8 bytes   Avro single-object encoding: CRC-64-AVRO fingerprint, little-endian
    00 + 4 bytes      Confluent: the id of a schema in a registry, big-endian

Every published version begins with the event id and the document. So an event is told by its first
bytes, where its schema cannot be read and where only its beginning is left.
"""

from __future__ import annotations

import re
import struct
from typing import Final, NamedTuple

SINGLE_OBJECT_MAGIC: Final = b"\xc3\x01"
SINGLE_OBJECT_HEADER_BYTES: Final = 10
CONFLUENT_MAGIC: Final = b"\x00"
CONFLUENT_HEADER_BYTES: Final = 5

_MAX_SIZE_BYTES: Final = 5
"""Bytes of Avro's size of a document that Kafka can hold."""

# Framing, the size of an event id (20, which Avro writes as 40), the id, the document's size.
_BEGINNING: Final = re.compile(
    rb"(?:\xc3\x01.{8}|\x00.{4})\x28([A-Za-z0-9_-]{20})"
    rb"((?:[\x80-\xff]{0,%d})[\x00-\x7f])" % (_MAX_SIZE_BYTES - 1),
    re.DOTALL,
)
_match_beginning: Final = _BEGINNING.match


class FramingError(ValueError):
    """The value has neither framing."""


class Fingerprint(NamedTuple):
    """The CRC-64-AVRO fingerprint of a schema's parsing canonical form."""

    value: int

    def __str__(self) -> str:
        """Return 16 hexadecimal digits."""
        return f"{self.value:016x}"


class RegistryId(NamedTuple):
    """The id of a schema in a Schema Registry."""

    value: int


def single_object_header(fingerprint: Fingerprint) -> bytes:
    """Return the 10 bytes that precede an Avro body written with this schema."""
    return SINGLE_OBJECT_MAGIC + struct.pack("<Q", fingerprint.value)


def confluent_header(schema_id: RegistryId) -> bytes:
    """Return the 5 bytes that precede an Avro body written with this registered schema."""
    return CONFLUENT_MAGIC + struct.pack(">I", schema_id.value)


def read_header(value: bytes) -> tuple[Fingerprint | RegistryId, int]:
    """Return the schema that wrote `value`, and the position of its Avro body.

    Raises:
        FramingError: with the first bytes in its text.
    """
    if value[:2] == SINGLE_OBJECT_MAGIC and len(value) >= SINGLE_OBJECT_HEADER_BYTES:
        (number,) = struct.unpack_from("<Q", value, 2)
        return Fingerprint(number), SINGLE_OBJECT_HEADER_BYTES
    if value[:1] == CONFLUENT_MAGIC and len(value) >= CONFLUENT_HEADER_BYTES:
        (number,) = struct.unpack_from(">I", value, 1)
        return RegistryId(number), CONFLUENT_HEADER_BYTES
    start = value[:8].hex(" ") or "nothing"
    raise FramingError(
        f"no Avro framing: {len(value)} bytes that begin with {start} "
        "(expected c3 01, or 00 of a Schema Registry)"
    )


def find_event_id(value: bytes | None) -> bytes | None:
    """Return the event id that a value begins with; None where it begins with none.

    Does not tell whether an event follows: `peek_event_id` does.
    """
    match = _match_beginning(value) if value else None
    return match[1] if match else None


def peek_event_id(value: bytes | None, length: int | None = None) -> str | None:
    """Return the id of the event that a value holds, without its schema; None where it holds none.

    A value that ends within its document is no event.

    Args:
        value: the whole value, or its beginning.
        length: bytes of the whole value; default those of `value`.
    """
    match = _match_beginning(value) if value else None
    if value is None or match is None:
        return None
    size = 0
    for at, byte in enumerate(match[2]):
        size |= (byte & 0x7F) << 7 * at
    # Avro writes -n as 2n - 1: an odd number is a size below zero.
    is_whole = match.end() + (size >> 1) <= (len(value) if length is None else length)
    return match[1].decode() if is_whole and not size & 1 else None
