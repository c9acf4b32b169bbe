"""Owns the way from a captured payload to the bytes that are journaled and produced."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

import orjson

from llmlog_common.groups import make_place
from llmlog_common.kafka_clients import MAX_RECORD_BYTES
from llmlog_producer.events.completion import complete, follow
from llmlog_producer.events.memory import size_of
from llmlog_producer.events.redact import Redactor
from llmlog_producer.events.truncate import Truncator
from llmlog_producer.journal.journal import KEY_BYTES
from llmlog_schemas.codec import Decoder, Encoder
from llmlog_schemas.convert import PayloadError, to_event
from llmlog_schemas.json_form import dumps, to_plain
from llmlog_schemas.truncate import truncate_event, write_within

if TYPE_CHECKING:
    from llmlog_common.settings import Settings
    from llmlog_producer.counters import Stats
    from llmlog_producer.journal.segment import Segment
    from llmlog_schemas.event import LLMEvent


_CAPTURED_BYTES: Final = 200
"""What a captured payload holds beside its payload: itself, the call's id, a time."""

_LARGE_BYTES: Final = 512 * 1024
"""A payload that holds more may have long texts."""

_BATCH_OVERHEAD_BYTES: Final = 512
"""What a record batch adds to the value of one event."""


class Written:
    """What a hook waits for: its event is in the journal, or will not be.

    Attributes:
        is_over: the journal has it, or has refused it.
        is_written: the journal has it.
    """

    def __init__(self) -> None:
        self.is_over = self.is_written = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def finish(self, *, is_written: bool) -> None:
        """End the wait; only the first call counts."""
        if not self.is_over:
            self.is_over, self.is_written = True, is_written
            self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Wait for so many seconds at most; tell whether the journal has the event."""
        self._lock.acquire(timeout=seconds)
        return self.is_written


class CapturedPayload:
    """The copy of one payload that a hook has made.

    Attributes:
        payload: its JSON, or a dict where JSON would change it.
        call_id: LiteLLM's id of the call; may be empty.
        at: when the hook was called, in epoch seconds.
        since: the same in monotonic seconds: its age does not depend on the clock of the machine.
        size: bytes of memory that it holds.
        written: a hook waits for it; None where none does.

    Args:
        payload_bytes: bytes of memory that the payload holds; by default they are looked up.
    """

    __slots__ = ("at", "call_id", "payload", "since", "size", "written")

    def __init__(
        self,
        payload: bytes | dict[Any, Any],
        call_id: str,
        at: float,
        payload_bytes: int | None = None,
    ) -> None:
        self.payload = payload
        self.call_id = call_id
        self.at = at
        self.since = time.monotonic()
        held = size_of(payload) if payload_bytes is None else payload_bytes
        self.size = held + len(call_id) + _CAPTURED_BYTES
        self.written: Written | None = None


class EncodedEvent:
    """One event on its way to Kafka.

    The sending thread owns it; `Spill` says what the journal's thread reads and writes.

    Attributes:
        body: event id and value in single-object encoding.
        ref: the segment of the journal that has it; None while none has.
        sent: when it was handed to the Kafka client, in monotonic seconds.
        size: bytes of the body as it was built.
        is_given: the journal's thread is about to write it.
        is_settled: Kafka has it, or it was given up.
        written: a hook waits for it; None where none does.
    """

    __slots__ = ("body", "is_given", "is_settled", "ref", "sent", "size", "written")

    def __init__(self, body: bytes, ref: Segment | None = None) -> None:
        self.body = body
        self.ref = ref
        self.sent = 0.0
        self.size = len(body)
        self.is_given = self.is_settled = False
        self.written: Written | None = None

    @property
    def key(self) -> bytes:
        """The event id."""
        return self.body[:KEY_BYTES]

    @property
    def value(self) -> bytes:
        """The event, in single-object encoding."""
        return self.body[KEY_BYTES:]


class EventBuilder:
    """Builds events from payloads: truncated, redacted, encoded.

    The sending thread calls it.

    Attributes:
        limit: bytes of the largest value. The thread of the topic's lookup lowers it once, all
            others read it.
        redaction: what is redacted, in a few words.
    """

    def __init__(self, settings: Settings, stats: Stats) -> None:
        self._settings = settings
        self._stats = stats
        # The journal outlives the settings: its events are in the encoding that needs no registry.
        self._encoder = Encoder()
        self._redactor = Redactor(settings)
        self._truncator = Truncator(settings, self._redactor.clean_text)
        self.redaction = self._redactor.summary
        self.limit = min(settings.max_event_bytes, MAX_RECORD_BYTES)

    def build(self, captured: CapturedPayload) -> EncodedEvent:
        """Return the event of a payload, ready to be written.

        Raises:
            Exception: the payload cannot be read. Objects in it may raise any error.
        """
        event, truncated_places = self._make_event(captured)
        return self._encode(event, truncated_places)

    def runs_foreign_code(self, captured: CapturedPayload) -> bool:
        """Tell whether `build` may run code that is not ours: of an object, or the user's."""
        return isinstance(captured.payload, dict) or self._redactor.may_add

    def build_without_content(self, captured: CapturedPayload, why: str) -> EncodedEvent:
        """Return the event with identity, times, costs and counts alone; it runs no foreign code.

        Args:
            captured: may be in another thread's hands.
            why: for the event's note.
        """
        given = captured.payload
        payload = given.copy() if isinstance(given, dict) else orjson.loads(given)
        place = self._place_of(payload)
        kept = self._redactor.without_content(payload, why)
        call = (kept.get("litellm_call_id"), captured.call_id)
        event, _ = self._convert(captured, self._redactor.scrub(kept), call, place)
        return self._encode(event, 0)

    def _encode(self, event: LLMEvent, truncated_places: int) -> EncodedEvent:
        value = self._encoder.encode(event)
        if len(value) > self.limit:
            around = len(value) - len(event["document"])
            value = self._encoder.encode(truncate_event(event, self.limit - around))
            truncated_places += 1
        if truncated_places:
            self._stats.add("truncated")
        return EncodedEvent(event["event_id"].encode() + value)

    def lower_limit(self, topic_bytes: int) -> None:
        """Lower the limit to what a topic with these `max.message.bytes` takes."""
        most = min(self.limit, topic_bytes - _BATCH_OVERHEAD_BYTES)
        self.limit = max(_BATCH_OVERHEAD_BYTES, most)

    def shrink(self, event: EncodedEvent) -> EncodedEvent | None:
        """Return the event at half its size, or None where nothing is left to truncate."""
        decoded = Decoder().decode(event.value)
        value = self._encoder.encode(truncate_event(decoded, len(event.value) // 2))
        if len(value) >= len(event.value):
            return None
        self._stats.add("truncated")
        return EncodedEvent(event.key + value)

    def _make_event(self, captured: CapturedPayload) -> tuple[LLMEvent, int]:
        """Return the event, and in how many places it was truncated."""
        given = captured.payload
        json = given if isinstance(given, bytes) else None
        payload = given if isinstance(given, dict) else orjson.loads(given)
        call = (payload.get("litellm_call_id"), captured.call_id)
        place = self._place_of(payload)
        user = complete(payload, self._redactor.clean_text)
        truncated_places = self._truncator.truncate(payload)
        redacted = self._redactor.redact(payload)
        follow(redacted, user)
        if json is not None and not truncated_places and not self._redactor.may_add:
            # The payload's own JSON holds everything that the event will: search that.
            if self._redactor.may_hold_secret(json):
                redacted = self._redactor.scrub(redacted)
            return self._convert(captured, redacted, call, place)
        event, cut = self._convert(captured, redacted, call, place)
        if self._redactor.may_hold_secret(event["document"]):
            event, cut = self._convert(captured, self._redactor.scrub(redacted), call, place)
        return event, truncated_places + cut

    def _place_of(self, payload: dict[Any, Any]) -> str:
        """Return the place of the event's document, by the team that the proxy names.

        A name that redaction takes out of the document still decides who may read it.
        """
        settings = self._settings
        metadata: Any = payload.get("metadata") if settings.index_groups else None
        is_dict = issubclass(type(metadata), dict)  # `isinstance` may run its own code
        team = dict.get(metadata, "user_api_key_team_id") if is_dict else None
        group = settings.index_groups.get(team, "") if isinstance(team, str) else ""
        return make_place(settings.index_period, group)

    def _convert(
        self,
        captured: CapturedPayload,
        redacted: dict[Any, Any],
        call: tuple[Any, ...],
        place: str,
    ) -> tuple[LLMEvent, int]:
        """Return the event, and how many of its fields were too large."""
        cut = 0

        def write(document: dict[str, Any]) -> bytes:
            nonlocal cut
            json, cut = write_within(document, self.limit)
            return json

        def convert(payload: Any) -> LLMEvent:
            return to_event(
                payload,
                call_id=self._redactor.clean_text(captured.call_id),
                call=call,
                captured_at=captured.at,
                search_text=self._settings.search_text,
                model_map_information=self._settings.model_map_information,
                write=write if captured.size > _LARGE_BYTES else dumps,
                hidden=self._redactor.hidden,
                place=place,
            )

        try:
            return convert(redacted), cut
        except PayloadError:
            raise
        except Exception:  # noqa: BLE001 - an object in it raised: read it the careful way
            return convert(to_plain(redacted)), cut
