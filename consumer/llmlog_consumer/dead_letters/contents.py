"""What a letter holds: the event field by field, or the bytes and the decoder's complaint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import orjson

from llmlog_common.errors import ConfigurationError, Unreachable
from llmlog_consumer.dead_letters.headers import number
from llmlog_consumer.dead_letters.reasons import blame, redacted
from llmlog_consumer.dead_letters.source_record import GoneError, whole
from llmlog_schemas.codec import DecodeError, Decoder
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letters.letter import DeadLetter

HEX_BYTES: Final = 256


class Contents:
    """Reads contents.

    Args:
        settings: where schemas and originals are.
        show: print prompts, answers, metadata and undecodable bytes.
    """

    def __init__(self, settings: Settings, *, show: bool) -> None:
        self._settings = settings
        self._show = show
        self._decoder: Decoder | None = None

    def of(self, letter: DeadLetter) -> dict[str, Any]:
        """Return what `pipeline dlq show --json` prints beside the letter's headers."""
        said = letter.headers
        texts = [said.get(name, "") for name in ("es.reason", "es.caused_by", "exception")]
        found = blame(*texts)
        more: dict[str, Any] = {
            "field": found.field,
            "field_value": found.value if self._show else None,
        }
        if letter.own:
            more["headers"] = [
                [name, _text(value) if self._show else _size(value)] for name, value in letter.own
            ]
        if letter.truncated:
            more["truncated"], letter = self._whole(letter)
        return more | self._event(letter)

    def _whole(self, letter: DeadLetter) -> tuple[dict[str, Any], DeadLetter]:
        cut = {
            "bytes": len(letter.value or b""),
            "of": number(letter.headers["truncated.length"]),
            "sha256": letter.headers.get("truncated.sha256"),
        }
        try:
            letter = whole(self._settings, letter)
        except (GoneError, Unreachable) as error:
            return cut | {"original": f"gone: {error}"}, letter
        return cut | {"original": "read from the source topic"}, letter

    def _event(self, letter: DeadLetter) -> dict[str, Any]:
        value = letter.value
        try:
            if self._decoder is None:
                self._decoder = Decoder(Registry.from_settings(self._settings))
            event: dict[str, Any] = dict(self._decoder.decode(value))
        except (DecodeError, ConfigurationError, Unreachable) as error:
            return self._head(value) | {
                "value_bytes": None if value is None else len(value),
                "decode_error": str(error) if self._show else redacted(str(error)),
                "value_hex": value[:HEX_BYTES].hex(" ") if value and self._show else None,
            }
        return self._shown(event)

    def _head(self, value: bytes | None) -> dict[str, Any]:
        """Return id and document where nothing but what comes behind them is broken.

        The index needs no more: such a record is indexed.
        """
        try:
            return self._shown(dict(self._decoder.head(value))) if self._decoder else {}
        except (DecodeError, ConfigurationError, Unreachable):
            return {}

    def _shown(self, event: dict[str, Any]) -> dict[str, Any]:
        raw: bytes = event["document"]
        event["document"] = _json_or_text(raw) if self._show else _size(raw)
        return {"event": {key: None if value != value else value for key, value in event.items()}}


def hex_dump(spaced: str) -> list[str]:
    """Return lines of 16 bytes: offset, hexadecimal digits, text.

    Args:
        spaced: hexadecimal digits of bytes with spaces between.
    """
    raw = bytes.fromhex(spaced)
    lines = []
    for at in range(0, len(raw), 16):
        line = raw[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)  # noqa: PLR2004
        lines.append(f"{at:08x}  {line.hex(' '):<47}  {text}")
    return lines


def _size(raw: bytes | None) -> str | None:
    return None if raw is None else f"<{len(raw)} bytes>"


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "replace")


def _json_or_text(raw: bytes) -> Any:
    """Parse what can be printed as JSON again; lone surrogates and huge numbers stay text."""
    try:
        parsed = json.loads(raw) if raw else None
        orjson.dumps(parsed)
    except (ValueError, TypeError, RecursionError):
        return raw.decode("utf-8", "replace")
    return parsed
