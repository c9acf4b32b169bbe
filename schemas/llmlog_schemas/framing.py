"""The framing of a Kafka value: which schema wrote it, and where its Avro body begins. Pure.

Two framings may share a topic; their first bytes differ:

    C3 01 + 8 bytes   Avro single-object encoding: CRC-64-AVRO fingerprint, little-endian
    00 + 4 bytes      Confluent: the id of a schema in a registry, big-endian
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

SINGLE_OBJECT_MAGIC: Final = b"\xc3\x01"
SINGLE_OBJECT_HEADER_BYTES: Final = 10
CONFLUENT_MAGIC: Final = b"\x00"
CONFLUENT_HEADER_BYTES: Final = 5


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
