"""Owns what users' tests need: the documents that would be sent, without Kafka.

    document_of(payload, redact_fields="metadata.email")    the document of one payload
    recorder(redact_messages="mask")                        a LiteLLM callback that keeps documents

Settings are given by their names, as in `pipeline.toml`; the environment is not read.
"""

from __future__ import annotations

import importlib
import threading
import time
from typing import Any

import orjson

from llmlog_common.setting_sources import PREFIX
from llmlog_common.settings import Settings, load
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EventBuilder
from llmlog_producer.events.call_facts import add_call_facts
from llmlog_producer.events.completion import BatchCosts
from llmlog_producer.events.snapshot import excluded_keys, snapshot
from llmlog_producer.pass_through import PassThroughFailures
from llmlog_schemas.codec import Decoder


def document_of(payload: dict[str, Any], **settings: object) -> dict[str, Any]:
    """Return the document of a payload as Elasticsearch would hold it: redacted, truncated.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    return _document(payload, "", _settings(settings))


def recorder(**settings: object) -> Any:
    """Return a LiteLLM callback that keeps documents: `documents`, and `wait_for(number)`.

    Raises:
        ConfigurationError: a setting is wrong.
        ImportError: LiteLLM is not installed.
    """
    custom_logger = importlib.import_module("litellm.integrations.custom_logger").CustomLogger
    kind = type("Recorder", (_Recorder, custom_logger), {})
    return kind(_settings(settings))


class _Recorder:
    """A callback with the handler's hooks, which keeps documents.

    Attributes:
        documents: one for each call that LiteLLM reported, in the order of its reports. Written
            with `_more` held, by LiteLLM's threads.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._more = threading.Condition()
        self._seen: set[str] = set()
        self._batch_costs = BatchCosts()
        self._pass_through = PassThroughFailures()
        self.documents: list[dict[str, Any]] = []

    def wait_for(self, number: int, timeout: float = 10.0) -> list[dict[str, Any]]:
        """Wait until there are so many documents; LiteLLM reports calls on threads of its own.

        Raises:
            TimeoutError: there are fewer after `timeout` seconds.
        """
        with self._more:
            if not self._more.wait_for(lambda: len(self.documents) >= number, timeout):
                raise TimeoutError(f"{len(self.documents)} documents within {timeout} s")
            return list(self.documents)

    def log_success_event(self, kwargs: Any, **_: Any) -> None:
        """Take the payload of a synchronous call that succeeded."""
        self._record(kwargs)

    def log_failure_event(self, kwargs: Any, **_: Any) -> None:
        """Take the payload of a synchronous call that failed."""
        self._record(kwargs)

    async def async_log_success_event(self, kwargs: Any, **_: Any) -> None:
        """Take the payload of an asynchronous call that succeeded."""
        self._record(kwargs)

    async def async_log_failure_event(self, kwargs: Any, **_: Any) -> None:
        """Take the payload of an asynchronous call that failed."""
        self._record(kwargs)

    async def async_post_call_failure_hook(
        self,
        request_data: Any,
        original_exception: Any,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Take the payload of a pass-through request that failed."""
        payload = self._pass_through.payload_of(
            request_data, original_exception, user_api_key_dict, traceback_str
        )
        call_id = request_data.get("litellm_call_id")
        self._record({"standard_logging_object": payload, "litellm_call_id": call_id})

    def _record(self, kwargs: Any) -> None:
        payload = (kwargs or {}).get("standard_logging_object")
        if not isinstance(payload, dict) or self._pass_through.is_second(kwargs):
            return
        payload = add_call_facts(self._batch_costs.count_once(payload), kwargs)
        call_id = kwargs.get("litellm_call_id")
        document = _document(payload, call_id if isinstance(call_id, str) else "", self._settings)
        with self._more:
            if document["event_id"] not in self._seen:  # LiteLLM may call two hooks for one call
                self._seen.add(document["event_id"])
                self.documents.append(document)
            self._more.notify_all()


def _settings(given: dict[str, object]) -> Settings:
    def to_text(value: object) -> str:
        if isinstance(value, (list, tuple)):
            return ",".join(str(item) for item in value)
        return str(value).lower() if isinstance(value, bool) else str(value)

    return load(
        environ={f"{PREFIX}{name.upper()}": to_text(value) for name, value in given.items()}
    )


def _document(payload: dict[str, Any], call_id: str, settings: Settings) -> dict[str, Any]:
    copy, size = snapshot(payload, without=excluded_keys(settings))
    captured = CapturedPayload(copy, call_id, time.time(), size)
    event = Decoder().decode(EventBuilder(settings, Stats()).build(captured).value)
    return {"event_id": event["event_id"], **orjson.loads(event["document"])}
