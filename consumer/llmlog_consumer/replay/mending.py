"""Owns the step from a letter's record to a mended one: the same event with fields changed."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.dead_letters.mending.changes import (
    LONG_BOUND,
    CannotChangeError,
    find_unkept,
    read_first,
    read_json,
)
from llmlog_consumer.dead_letters.mending.history import write_history
from llmlog_consumer.times import iso
from llmlog_schemas.codec import DecodeError, UnknownSchemaError
from llmlog_schemas.event import ABSENT_COUNT, ABSENT_NUMBER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmlog_consumer.dead_letters.mending.changes import Change
    from llmlog_consumer.dead_letters.record import ReplayRecord
    from llmlog_schemas.codec import Decoder
    from llmlog_schemas.event import LLMEvent

_TYPED: Final[dict[str, tuple[type | tuple[type, ...], Any]]] = {
    **dict.fromkeys(("litellm_call_id", "trace_id", "call_type", "status", "model"), (str, "")),
    **dict.fromkeys(("response_time", "response_cost"), ((int, float), ABSENT_NUMBER)),
    **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), (int, ABSENT_COUNT)),
}
"""Fields that stand beside the document too: their type there, and what means absent."""
_MAX_PROBLEMS: Final = 20
_SHOWN_CHARACTERS: Final = 200


class CannotMendError(Exception):
    """A letter's record cannot be mended; the text says why, without a value of it."""


@dataclass(slots=True)
class ChangeCount:
    """What one change has done so far.

    Attributes:
        change: that was made.
        letters: that it has changed.
        absent: letters that do not have the field.
        example: event id of one that it has changed; empty for none.
        before: the field's first value in that one as JSON; empty where it had none.
        after: the same, afterwards.
    """

    change: Change
    letters: int = 0
    absent: int = 0
    example: str = ""
    before: str = ""
    after: str = ""

    def as_json(self, *, show_content: bool) -> dict[str, Any]:
        """Return what a dry run says of the change.

        Args:
            show_content: with the values of the example.
        """
        row = {
            "change": str(self.change.kind),
            "field": self.change.field,
            "letters": self.letters,
            "absent": self.absent,
            "example": self.example or None,
        }
        values = {"before": self.before or None, "after": self.after or None}
        return row | (values if show_content else dict.fromkeys(values))


class Mending:
    """The changes, made to one record after the other. One thread owns it.

    Args:
        changes: in their order.
        decoder: of values.
        by: who mends, for the letter's headers.
        clock: epoch seconds.

    Attributes:
        counts: of each change.
        problems: why records could not be mended, and how many.
    """

    def __init__(
        self,
        changes: Sequence[Change],
        decoder: Decoder,
        *,
        by: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._changes = changes
        self._decoder = decoder
        self._by = by
        self._clock = clock
        self.counts = [ChangeCount(change) for change in changes]
        self.problems: dict[str, int] = {}

    def mend(self, record: ReplayRecord) -> ReplayRecord:
        """Return the record with its changes; itself where it has none of the fields.

        Raises:
            CannotMendError: it holds no event, or a change does not fit it.
            Unreachable: the registry that knows the schema does not answer.
        """
        try:
            return self._mend(record)
        except CannotMendError as error:
            if (why := str(error)) in self.problems or len(self.problems) < _MAX_PROBLEMS:
                self.problems[why] = self.problems.get(why, 0) + 1
            raise

    def _mend(self, record: ReplayRecord) -> ReplayRecord:
        value = record.value()
        try:
            event = self._decoder.decode(value)
            document = _read(event["document"])
        except (DecodeError, UnknownSchemaError):
            raise CannotMendError("the record holds no event that can be read") from None
        except CannotChangeError as error:
            raise CannotMendError(str(error)) from None
        except (ValueError, RecursionError):
            raise CannotMendError("its document is no JSON object") from None
        try:
            made = self._change(document, event["event_id"])
            if not made:
                return record
            written = _write(document)
        except CannotChangeError as error:
            raise CannotMendError(str(error)) from None
        except (ValueError, RecursionError):
            if not (name := find_unkept(document)[:_SHOWN_CHARACTERS]):
                raise CannotMendError("its document cannot be written") from None
            raise CannotMendError(f"{name!r} has a number that cannot be kept") from None
        event = _with_typed_fields(event, document, made)
        event["document"] = written
        header = write_history(
            record.history.mending,
            made,
            by=self._by,
            at=iso(self._clock() * 1000, "seconds") or "",
        )
        return replace(
            record,
            source_value=self._decoder.new_encoder(value or b"").encode(event),
            history=record.history._replace(mended=header),
            unmended=record,
        )

    def _change(self, document: dict[str, Any], event_id: str) -> list[Change]:
        """Change the document; return the changes that had something to do."""
        made: list[Change] = []
        befores: list[str] = []
        for change in self._changes:
            befores.append(_show(document, change.field))
            if change.make(document):
                made.append(change)
        for count, before in zip(self.counts, befores, strict=True):
            if count.change not in made:
                count.absent += 1
                continue
            count.letters += 1
            if not count.example:
                count.example, count.before = event_id, before
                count.after = _show(document, count.change.field)
        return made


def _show(document: dict[str, Any], field: str) -> str:
    value = read_first(document, field)
    if value is None:
        return ""
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:  # a number that cannot be kept
        return "…"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _read(document: bytes) -> dict[str, Any]:
    """Return a document whose values are kept as they are.

    Raises:
        CannotChangeError: a key stands twice in it.
        ValueError: it is no JSON object.
    """
    found = read_json(document.decode())
    if not isinstance(found, dict):
        raise ValueError("no object")  # noqa: TRY004 - the caller knows one kind of error
    return found


def _write(document: dict[str, Any]) -> bytes:
    """Return a document as a gateway writes it.

    Raises:
        ValueError: it has a number that JSON has not.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # halves of characters: as escapes they are kept
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def _with_typed_fields(
    event: LLMEvent, document: dict[str, Any], made: Sequence[Change]
) -> LLMEvent:
    """Return the event with those of its fields beside the document that were changed there."""
    fields: dict[str, Any] = {}
    for change in made:
        if (typed := _TYPED.get(change.field)) is not None:
            kind, absent = typed
            value = document.get(change.field)
            is_fit = isinstance(value, kind) and not isinstance(value, bool)
            if is_fit and isinstance(value, str):
                value = value.encode("utf-8", "replace").decode()
            elif is_fit and isinstance(value, int):
                is_fit = -LONG_BOUND <= value < LONG_BOUND
            fields[change.field] = value if is_fit else absent
    return {**event, **fields}  # type: ignore[typeddict-item]
