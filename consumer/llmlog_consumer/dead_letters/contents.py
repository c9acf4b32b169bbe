"""Owns what a letter holds: the event field by field, or the bytes and the decoder's error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import orjson

from llmlog_common.errors import ConfigurationError, Unreachable
from llmlog_consumer.dead_letters.headers import parse_number
from llmlog_consumer.dead_letters.reasons import find_offending_field, redact
from llmlog_consumer.dead_letters.source_record import OriginalMissingError, restore_original
from llmlog_schemas.codec import DecodeError, Decoder
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.dead_letters.source_record import Restore

MAX_HEX_BYTES: Final = 256
_LINE_BYTES: Final = 16


class Contents:
    """The reader of letters' contents.

    Args:
        settings: where schemas and originals are.
        show: print prompts, answers, metadata and undecodable bytes.
        decoder: of values; default one with the Schema Registry of the settings, made at the
            first letter.
        restore: reads the original of a truncated letter.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        show: bool,
        decoder: Decoder | None = None,
        restore: Restore = restore_original,
    ) -> None:
        self._settings = settings
        self._show = show
        self._decoder = decoder
        self._restore = restore

    def describe(self, letter: DeadLetter) -> dict[str, Any]:
        """Return what `pipeline dlq show --json` prints beside the letter's headers."""
        texts = [
            letter.headers.get(name, "") for name in ("es.reason", "es.caused_by", "exception")
        ]
        field = find_offending_field(*texts)
        row: dict[str, Any] = {
            "field": field.name,
            "field_value": field.value if self._show else None,
        }
        if letter.source_headers:
            row["headers"] = [
                [name, _text(value) if self._show else _size(value)]
                for name, value in letter.source_headers
            ]
        if letter.is_truncated:
            row["truncated"], letter = self._read_original(letter)
        return row | self._describe_event(letter)

    def _read_original(self, letter: DeadLetter) -> tuple[dict[str, Any], DeadLetter]:
        """Return the row on a truncated letter, and the letter, with its original if it exists."""
        row = {
            "bytes": len(letter.value or b""),
            "original_bytes": parse_number(letter.headers["truncated.length"]),
            "sha256": letter.headers.get("truncated.sha256"),
        }
        try:
            letter = self._restore(self._settings, letter)
        except (OriginalMissingError, Unreachable) as error:
            return row | {"original": f"missing: {error}"}, letter
        return row | {"original": "read from the source topic"}, letter

    def _describe_event(self, letter: DeadLetter) -> dict[str, Any]:
        value = letter.value
        try:
            if self._decoder is None:
                self._decoder = Decoder(Registry.from_settings(self._settings))
            event = self._decoder.decode(value)
        except (DecodeError, ConfigurationError, Unreachable) as error:
            return self._describe_head(value) | {
                "value_bytes": None if value is None else len(value),
                "decode_error": str(error) if self._show else redact(str(error)),
                "value_hex": value[:MAX_HEX_BYTES].hex(" ") if value and self._show else None,
            }
        return self._event_row(event)

    def _describe_head(self, value: bytes | None) -> dict[str, Any]:
        """Return id and document where only the bytes behind them are broken.

        The index needs no more: such a record can be indexed.
        """
        try:
            return self._event_row(self._decoder.head(value)) if self._decoder else {}
        except (DecodeError, ConfigurationError, Unreachable):
            return {}

    def _event_row(self, event: Mapping[str, Any]) -> dict[str, Any]:
        raw: bytes = event["document"]
        row = {**event, "document": _json_or_text(raw) if self._show else _size(raw)}
        return {"event": {key: None if value != value else value for key, value in row.items()}}


def format_hex_dump(spaced: str) -> list[str]:
    """Return lines of 16 bytes: offset, hexadecimal digits, text.

    Args:
        spaced: bytes as hexadecimal digits with spaces between.
    """
    raw = bytes.fromhex(spaced)
    lines = []
    for at in range(0, len(raw), _LINE_BYTES):
        line = raw[at : at + _LINE_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)  # noqa: PLR2004
        lines.append(f"{at:08x}  {line.hex(' '):<47}  {text}")
    return lines


def _size(raw: bytes | None) -> str | None:
    return None if raw is None else f"<{len(raw)} bytes>"


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "replace")


def _json_or_text(raw: bytes) -> Any:
    """Return a document as JSON; as text where it cannot be printed as JSON again.

    Lone surrogates and huge numbers cannot.
    """
    try:
        value = json.loads(raw) if raw else None
        orjson.dumps(value)
    except (ValueError, TypeError, RecursionError):
        return raw.decode("utf-8", "replace")
    return value
