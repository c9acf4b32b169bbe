"""Turns a captured payload into the value that is journaled and produced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from llmlog_common.kafka_clients import MAX_RECORD_BYTES
from llmlog_producer.events.redact import Redactor
from llmlog_producer.events.snapshot import size_of
from llmlog_producer.events.truncate import Truncator
from llmlog_producer.journal.journal import KEY_BYTES
from llmlog_schemas.codec import Decoder, Encoder
from llmlog_schemas.convert import PayloadError, fit, to_event
from llmlog_schemas.json_form import plain

if TYPE_CHECKING:
    from llmlog_common.settings import Settings
    from llmlog_producer.counters import Stats
    from llmlog_producer.journal.journal import Ref
    from llmlog_schemas.event import LLMEvent


_OVERHEAD: Final = 512
"""Bytes of a record batch around a value of one event."""


class CapturedPayload:
    """One payload as the hook left it; `at` is in epoch seconds."""

    __slots__ = ("at", "call_id", "payload", "size")

    def __init__(self, payload: bytes | dict[Any, Any], call_id: str, at: float) -> None:
        self.payload = payload
        self.call_id = call_id
        self.at = at
        self.size = size_of(payload)


class EncodedEvent:
    """One event on its way to Kafka.

    Attributes:
        body: event id and value in single-object encoding; empty where only the journal has it.
        ref: where it lies in the journal.
        sent: when it was handed to the Kafka client, by the monotonic clock.
    """

    __slots__ = ("body", "ref", "sent", "size")

    def __init__(self, body: bytes, ref: Ref | None = None) -> None:
        self.body = body
        self.ref = ref
        self.sent = 0.0
        self.size = len(body)

    @property
    def key(self) -> bytes:
        """The event id."""
        return self.body[:KEY_BYTES]

    @property
    def value(self) -> bytes:
        """The event, in single-object encoding."""
        return self.body[KEY_BYTES:]


class EventBuilder:
    """Payloads to items; whatever must not leave the gateway is gone from them.

    Attributes:
        limit: bytes of the largest value; lowered once it is known what the topic takes.
        redacts: in a few words, what is redacted.
    """

    def __init__(self, settings: Settings, stats: Stats) -> None:
        self._settings = settings
        self._stats = stats
        # The journal outlives the settings: it holds the framing that needs no registry.
        self._encoder = Encoder()
        self._redact = Redactor(settings)
        self._cut = Truncator(settings, self._redact.text)
        self.redacts = self._redact.summary
        self.limit = min(settings.max_event_bytes, MAX_RECORD_BYTES)

    def __call__(self, captured: CapturedPayload) -> EncodedEvent:
        """Return the event, ready to be written.

        Raises:
            Exception: a payload that cannot be read; foreign objects raise what they like.
        """
        event, cut = self._event(captured)
        value = self._encoder.encode(event)
        if len(value) > self.limit:
            around = len(value) - len(event["document"])
            value = self._encoder.encode(fit(event, self.limit - around))
            cut += 1
        if cut:
            self._stats.add("cut")
        return EncodedEvent(event["event_id"].encode() + value)

    def lower_limit(self, topic_bytes: int) -> None:
        """Take the topic's `max.message.bytes` into account."""
        self.limit = max(_OVERHEAD, min(self.limit, topic_bytes - _OVERHEAD))

    def smaller(self, item: EncodedEvent) -> EncodedEvent | None:
        """Return the event at half its size, or None where nothing is left to cut."""
        event = Decoder().decode(item.value)
        value = self._encoder.encode(fit(event, len(item.value) // 2))
        if len(value) >= len(item.value):
            return None
        self._stats.add("cut")
        return EncodedEvent(item.key + value)

    def _event(self, captured: CapturedPayload) -> tuple[LLMEvent, int]:
        """Return the event, and in how many places it was cut."""
        given = captured.payload
        json = given if isinstance(given, bytes) else None
        payload = given if isinstance(given, dict) else orjson.loads(given)
        call = (payload.get("litellm_call_id"), captured.call_id)
        cut = self._cut(payload)
        redacted = self._redact(payload)
        if json is not None and not cut and not self._redact.adds:
            # The text is there already, and holds everything that the event will.
            if self._redact.suspects(json):
                redacted = self._redact.scrub(redacted)
            return self._convert(captured, redacted, call), 0
        event = self._convert(captured, redacted, call)
        if self._redact.suspects(event["document"]):
            event = self._convert(captured, self._redact.scrub(redacted), call)
        return event, cut

    def _convert(
        self, captured: CapturedPayload, redacted: dict[Any, Any], call: tuple[Any, ...]
    ) -> LLMEvent:
        def convert(payload: Any) -> LLMEvent:
            return to_event(
                payload,
                call_id=self._redact.text(captured.call_id),
                call=call,
                captured_at=captured.at,
                search_text=self._settings.search_text,
                model_map_information=self._settings.model_map_information,
            )

        try:
            return convert(redacted)
        except PayloadError:
            raise
        except Exception:  # noqa: BLE001 - an object in it misbehaved: read it the careful way
            return convert(plain(redacted))
