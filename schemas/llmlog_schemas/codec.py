"""Avro: events to values and back, always with the schema that wrote them.

A reader schema is never passed (it triples the cost); a newer version is migrated in code.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Protocol

import fastavro
from fastavro import schemaless_reader
from fastavro.schema import fingerprint as schema_fingerprint
from fastavro.schema import to_parsing_canonical_form

from llmlog_schemas import wire
from llmlog_schemas.wire import SINGLE_OBJECT_HEADER, FramingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_schemas.records import LLMEvent

CURRENT_VERSION: Final = 1


class DecodeError(ValueError):
    """The bytes are no event; the text says what was wrong with them."""


class SchemaSource(Protocol):
    """Where Confluent-framed values find their schema: `registry.Registry`, or nothing."""

    def schema_text(self, schema_id: int) -> str:
        """Return the Avro schema of this id as JSON.

        Raises:
            DecodeError: the registry does not know the id.
            Unreachable: the registry does not answer.
        """
        ...


def schema_text(version: int = CURRENT_VERSION) -> str:
    """Return a published schema as JSON text."""
    return resources.files(__package__).joinpath(f"avro/llm_event.v{version}.avsc").read_text()


def fingerprint_of(schema: Any) -> wire.Fingerprint:
    """Return the CRC-64-AVRO fingerprint of a schema (parsed, or as JSON objects)."""
    digits = schema_fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return wire.Fingerprint(int.from_bytes(bytes.fromhex(digits), "little"))


@cache
def _published() -> Mapping[wire.Fingerprint, Any]:
    """Map each published version's fingerprint to its parsed schema."""
    parsed = (
        fastavro.parse_schema(json.loads(schema_text(version)))
        for version in range(1, CURRENT_VERSION + 1)
    )
    return {fingerprint_of(schema): schema for schema in parsed}


@cache
def current_fingerprint() -> wire.Fingerprint:
    """Return the fingerprint of the version that `Encoder` writes."""
    return fingerprint_of(json.loads(schema_text()))


class Encoder:
    """Events to Kafka values.

    Args:
        schema_id: the id of the current schema in a registry; None for single-object encoding.
    """

    def __init__(self, schema_id: int | None = None) -> None:
        self._schema = _published()[current_fingerprint()]
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

    def reframed(self, value: bytes) -> bytes:
        """Return a value of single-object encoding, of any version, in this encoder's framing.

        Raises:
            DecodeError: it is no such value.
        """
        if value.startswith(self._header):
            return value
        found, start = wire.read_header(value)
        if not isinstance(found, wire.Fingerprint) or found not in _published():
            raise DecodeError("no event in single-object encoding of a version known here")
        if self._header.startswith(wire.SINGLE_OBJECT_MAGIC):
            return value
        if found == current_fingerprint():
            return self._header + value[start:]
        return self.encode(Decoder().decode(value))


class Decoder:
    """Kafka values to events.

    Args:
        registry: asked for the schemas of Confluent-framed values, each id once.
    """

    def __init__(self, registry: SchemaSource | None = None) -> None:
        self._registry = registry
        self._by_id: dict[int, Any] = {}
        # The whole header of the usual case is one dictionary look-up.
        self._by_header = {wire.single_object_header(f): s for f, s in _published().items()}

    def decode(self, value: bytes | None) -> LLMEvent:
        """Return the event in `value`.

        Raises:
            DecodeError: these bytes are no event.
            Unreachable: the registry that knows the schema does not answer.
        """
        if value is None:
            raise DecodeError("the record has no value")
        body = BytesIO(value)
        schema = self._by_header.get(body.read(SINGLE_OBJECT_HEADER))
        if schema is None:
            schema, start = self._resolve(value)
            body.seek(start)
        try:
            event: LLMEvent = schemaless_reader(body, schema, None)  # type: ignore[assignment]
        except Exception as error:
            raise DecodeError(
                f"not Avro of {schema['name']}: {type(error).__name__}: {error}"
            ) from error
        if body.tell() != len(value):
            raise DecodeError(f"{len(value) - body.tell()} bytes follow the event")
        return event

    def _resolve(self, value: bytes) -> tuple[Any, int]:
        try:
            name, start = wire.read_header(value)
        except FramingError as error:
            raise DecodeError(str(error)) from error
        if isinstance(name, wire.Fingerprint):
            raise DecodeError(
                f"schema fingerprint {name} is of no version that this release knows: "
                "upgrade the consumer before the gateway"
            )
        if name.value not in self._by_id:
            self._by_id[name.value] = self._registered(name.value)
        return self._by_id[name.value], start

    def _registered(self, schema_id: int) -> Any:
        if self._registry is None:
            raise DecodeError(
                f"schema id {schema_id} needs a Schema Registry: set LLMLOG_SCHEMA_REGISTRY_URL"
            )
        text = self._registry.schema_text(schema_id)
        try:
            found = fingerprint_of(json.loads(text))
        except Exception as error:
            raise DecodeError(f"schema id {schema_id} is no Avro schema: {error}") from error
        schema = _published().get(found)
        if schema is None:
            raise DecodeError(f"schema id {schema_id} is of no version that this release knows")
        return schema
