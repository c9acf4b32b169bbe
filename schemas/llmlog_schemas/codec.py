"""Encodes events as Kafka values and decodes them, always with the schema that wrote them.

The current version is read without a reader schema, which triples the cost; for an earlier one it
adds the fields that are new since.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from io import BytesIO
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import fastavro
from fastavro import schemaless_reader
from fastavro.schema import fingerprint as schema_fingerprint
from fastavro.schema import to_parsing_canonical_form

from llmlog_schemas import framing as wire
from llmlog_schemas.event import EVENT_ID, EventHead
from llmlog_schemas.framing import SINGLE_OBJECT_HEADER_BYTES, FramingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_schemas.event import LLMEvent

CURRENT_VERSION: Final = 2

_HEAD: Final = tuple(EventHead.__annotations__)
_FIRST_HEAD_FIELDS: Final = 2
"""Fields of the head in version 1."""


class DecodeError(ValueError):
    """The bytes are no event; the text says what is wrong with them."""


class UnknownSchemaError(DecodeError):
    """The schema of this id cannot be had: no registry is set, or it does not know the id."""


class SchemaPendingError(Exception):
    """The schema of this id is not known yet: the value has to wait.

    Args:
        schema_id: in the registry.
    """

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"schema id {schema_id} is not known yet")
        self.schema_id = schema_id


class SchemaSource(Protocol):
    """The schemas of Confluent-framed values, by id: `registry.Registry` is one."""

    def schema_text(self, schema_id: int) -> str:
        """Return the Avro schema of this id as JSON.

        Raises:
            DecodeError: the registry does not know the id.
            ConfigurationError: the registry refuses, or what answers is none.
            Unreachable: the registry does not answer.
            SchemaPendingError: the source asks by itself, and has no answer yet.
        """
        ...


def schema_text(version: int = CURRENT_VERSION) -> str:
    """Return a published schema as JSON text."""
    return resources.files(__package__).joinpath(f"avro/llm_event.v{version}.avsc").read_text()


def fingerprint_of(schema: Any) -> wire.Fingerprint:
    """Return the CRC-64-AVRO fingerprint of a schema (parsed, or as JSON objects)."""
    digits = schema_fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return wire.Fingerprint(int.from_bytes(bytes.fromhex(digits), "little"))


class _Version(NamedTuple):
    """A published schema, parsed: whole, and the fields that it begins with.

    The readers are the same of the current version; None where this is the current one.
    """

    whole: Any
    head: Any
    whole_reader: Any = None
    head_reader: Any = None


@cache
def _published_versions() -> Mapping[wire.Fingerprint, _Version]:
    """Map each published version's fingerprint to its schemas."""
    *earlier, current = (json.loads(schema_text(n)) for n in range(1, CURRENT_VERSION + 1))
    readers = _Version(fastavro.parse_schema(current), _head_of(current))
    versions = {
        fingerprint_of(schema): _Version(
            fastavro.parse_schema(schema), _head_of(schema), readers.whole, readers.head
        )
        for schema in earlier
    }
    return versions | {fingerprint_of(current): readers}


def _head_of(schema: dict[str, Any]) -> Any:
    """Return the schema of an event's first fields: Avro writes fields one after the other.

    An earlier version has the first of them alone.
    """
    fields = list(takewhile(lambda field: field["name"] in _HEAD, schema["fields"]))
    names = tuple(field["name"] for field in fields)
    if names != _HEAD[: len(names)] or len(names) < _FIRST_HEAD_FIELDS:
        raise ValueError(f"an event begins with {_HEAD}")
    return fastavro.parse_schema(schema | {"fields": fields})


@cache
def current_fingerprint() -> wire.Fingerprint:
    """Return the fingerprint of the version that `Encoder` writes."""
    return fingerprint_of(json.loads(schema_text()))


class Encoder:
    """Encodes events as Kafka values.

    Args:
        schema_id: the id of the current schema in a registry; None for single-object encoding.
    """

    def __init__(self, schema_id: int | None = None) -> None:
        self._schema = _published_versions()[current_fingerprint()].whole
        self._header = (
            wire.single_object_header(current_fingerprint())
            if schema_id is None
            else wire.confluent_header(wire.RegistryId(schema_id))
        )

    def encode(self, event: LLMEvent) -> bytes:
        """Return the framed Avro value."""
        out = BytesIO()
        out.write(self._header)
        fastavro.schemaless_writer(out, self._schema, event)
        return out.getvalue()

    def reframe(self, value: bytes) -> bytes:
        """Return a single-object encoded value in this encoder's framing.

        Args:
            value: of any version that is known here.

        Raises:
            DecodeError: it is no such value.
        """
        if value.startswith(self._header):
            return value
        schema, start = wire.read_header(value)
        if not isinstance(schema, wire.Fingerprint) or schema not in _published_versions():
            raise DecodeError("no event in single-object encoding of a version known here")
        if self._header.startswith(wire.SINGLE_OBJECT_MAGIC):
            return value
        if schema == current_fingerprint():
            return self._header + value[start:]
        return self.encode(Decoder().decode(value))


class Decoder:
    """Decodes Kafka values to events.

    Args:
        registry: asked for the schemas of Confluent-framed values, each id once.
    """

    def __init__(self, registry: SchemaSource | None = None) -> None:
        self._registry = registry
        self._by_id: dict[int, _Version] = {}
        # In the usual case the whole header is found by one look-up.
        self._by_header = {
            wire.single_object_header(f): v for f, v in _published_versions().items()
        }

    def decode(self, value: bytes | None) -> LLMEvent:
        """Return the event in `value`.

        Raises:
            DecodeError: these bytes are no event.
            Unreachable: the registry that knows the schema does not answer.
        """
        body, version = self._open(value)
        event: LLMEvent = _read(body, version.whole, version.whole_reader)
        if (rest := len(body.getbuffer()) - body.tell()) > 0:
            raise DecodeError(f"{rest} bytes follow the event")
        return event

    def head(self, value: bytes | None) -> EventHead:
        """Return the first fields of the event in `value`, at a third of the cost of `decode`.

        The fields behind them are not read.

        Raises:
            DecodeError: these bytes do not begin an event.
            Unreachable: the registry that knows the schema does not answer.
            SchemaPendingError: the source of schemas has no answer yet.
        """
        body, version = self._open(value)
        head: EventHead = _read(body, version.head, version.head_reader)
        return head

    def new_encoder(self, value: bytes) -> Encoder:
        """Return an encoder that frames as a value is framed, where the current version wrote it.

        Raises:
            DecodeError: these bytes are no event.
            Unreachable: the registry that knows the schema does not answer.
        """
        _, version = self._open(value)
        schema, _ = wire.read_header(value)
        is_current = version is _published_versions()[current_fingerprint()]
        if isinstance(schema, wire.RegistryId) and is_current:
            return Encoder(schema.value)
        return Encoder()

    def _open(self, value: bytes | None) -> tuple[BytesIO, _Version]:
        """Return a stream at the value's Avro body, and the version that wrote it."""
        if value is None:
            raise DecodeError("the record has no value")
        body = BytesIO(value)
        version = self._by_header.get(body.read(SINGLE_OBJECT_HEADER_BYTES))
        if version is None:
            version, start = self._resolve(value)
            body.seek(start)
        return body, version

    def _resolve(self, value: bytes) -> tuple[_Version, int]:
        try:
            schema, start = wire.read_header(value)
        except FramingError as error:
            raise DecodeError(str(error)) from error
        if isinstance(schema, wire.Fingerprint):
            raise DecodeError(
                f"schema fingerprint {schema} is of no version that this release knows: "
                "upgrade the consumer before the gateway"
            )
        if schema.value not in self._by_id:
            self._by_id[schema.value] = self._find_version(schema.value)
        return self._by_id[schema.value], start

    def _find_version(self, schema_id: int) -> _Version:
        if self._registry is None:
            raise UnknownSchemaError(
                f"schema id {schema_id} needs a Schema Registry: set LLMLOG_SCHEMA_REGISTRY_URL"
            )
        return check_schema(schema_id, self._registry.schema_text(schema_id))


def check_schema(schema_id: int, text: str) -> _Version:
    """Return the version of an event that a registered schema is.

    Raises:
        DecodeError: it is none.
    """
    try:
        fingerprint = fingerprint_of(json.loads(text))
    except Exception as error:
        raise DecodeError(f"schema id {schema_id} is no Avro schema: {error}") from error
    version = _published_versions().get(fingerprint)
    if version is None:
        raise DecodeError(f"schema id {schema_id} is of no version that this release knows")
    return version


def begins_event(value: bytes) -> bool:
    """Tell whether an event may follow the framing of a value whose schema cannot be had.

    All versions begin with the same fields. So bytes in which these cannot be read, or whose event
    id is none, are no event, whatever schema their framing names.
    """
    try:
        _, start = wire.read_header(value)
        first, *_ = _published_versions().values()  # its head is the shortest
        head = _read(BytesIO(value[start:]), first.head)
    except (FramingError, DecodeError):
        return False
    return EVENT_ID.fullmatch(head["event_id"]) is not None


def _read(body: BytesIO, schema: Any, reader: Any = None) -> Any:
    try:
        return schemaless_reader(body, schema, reader)
    except Exception as error:
        raise DecodeError(
            f"not Avro of {schema['name']}: {type(error).__name__}: {error}"
        ) from error
