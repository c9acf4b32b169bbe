"""Owns failed pass-through requests: LiteLLM tells of most of them by another hook than the rest.

A provider refuses or does not answer: `async_post_call_failure_hook` alone is called. A stream
breaks off: the log hooks are called as well, before or after it. Both come with the request's own
logging object, so that the second of them is known. Call ids would not do: clients choose them.
"""

from __future__ import annotations

import datetime as dt
import importlib
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from llmlog_producer.events.completion import PASS_THROUGH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_ERROR_CHARACTERS: Final = 100_000

_KEY_FIELDS: Final = {
    "user_api_key_hash": "api_key",
    "user_api_key_alias": "key_alias",
    "user_api_key_team_id": "team_id",
    "user_api_key_team_alias": "team_alias",
    "user_api_key_org_id": "org_id",
    "user_api_key_user_id": "user_id",
    "user_api_key_user_email": "user_email",
    "user_api_key_end_user_id": "end_user_id",
    "user_api_key_request_route": "request_route",
}
"""LiteLLM's names in a payload's metadata, and those of the key's attributes."""


class PassThroughFailures:
    """Makes payloads of failed pass-through requests, one for each.

    Hooks on several threads use it. What it remembers ends with the request's logging object.

    Args:
        build: makes payloads; by default LiteLLM's own function. Where it fails, the event has
            what the hook was given.
    """

    def __init__(self, build: Callable[..., Any] | None = None) -> None:
        self._build = build or _find_builder()
        self._logged: weakref.WeakSet[Any] = weakref.WeakSet()
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()

    def is_second(self, kwargs: Mapping[str, Any]) -> bool:
        """Tell whether the call of a log hook is for a request whose failure is an event already.

        Args:
            kwargs: as the log hook got it.
        """
        if kwargs.get("call_type") != PASS_THROUGH:
            return False
        logging = _logging_object(kwargs)
        if logging is None:
            return False
        if logging in self._made:
            return True
        self._logged.add(logging)
        return False

    def payload_of(
        self,
        request_data: Mapping[str, Any],
        error: BaseException,
        key: object = None,
        traceback: str | None = None,
    ) -> dict[str, Any] | None:
        """Return the payload of a failed pass-through request; None where no event is to be made.

        None for all other calls, whose failures the log hooks tell; for a request that has an event
        already; and for one that the proxy's own authentication refused.

        Args:
            request_data: as the hook got it: the client's own fields, and LiteLLM's among them.
            error: why it failed.
            key: LiteLLM's `UserAPIKeyAuth`.
            traceback: as LiteLLM wrote it.
        """
        began = request_data.get("start_time")
        # A client can send any JSON, but no datetime: LiteLLM adds it once authentication is over.
        if request_data.get("call_type") != PASS_THROUGH or not isinstance(began, dt.datetime):
            return None
        if request_data.get("standard_logging_object") is not None:
            return None
        logging = _logging_object(request_data)
        if logging is not None:
            if logging in self._logged or logging in self._made:
                return None
            self._made.add(logging)
        payload = self._ask_litellm(request_data, error, logging, began)
        if payload is None:
            payload = _minimal_payload(request_data, key)
        return _with_failure(payload, request_data, error, began, traceback)

    def _ask_litellm(
        self,
        request_data: Mapping[str, Any],
        error: BaseException,
        logging: Any,
        began: dt.datetime,
    ) -> dict[str, Any] | None:
        """Return the payload as LiteLLM's own failure handler would make it; None: it cannot."""
        if self._build is None or logging is None:
            return None
        try:
            payload = self._build(
                kwargs={
                    **logging.model_call_details,
                    "litellm_params": request_data["litellm_params"],
                },
                init_response_obj={},
                start_time=began,
                end_time=dt.datetime.now(began.tzinfo),
                logging_obj=logging,
                status="failure",
                error_str=str(error)[:_MAX_ERROR_CHARACTERS],
                original_exception=error,
            )
        except Exception:  # noqa: BLE001 - LiteLLM's inner function, and not ours to rely on
            return None
        return dict(payload) if isinstance(payload, dict) else None


def _find_builder() -> Callable[..., Any] | None:
    """Return LiteLLM's own function for payloads; None where this version has none."""
    try:
        module = importlib.import_module("litellm.litellm_core_utils.litellm_logging")
    except ImportError:
        return None
    return getattr(module, "get_standard_logging_object_payload", None)


def _logging_object(fields: Mapping[str, Any]) -> Any:
    """Return the request's logging object; None where there is none, or a client's JSON for it."""
    held = fields.get("litellm_params")
    logging = held.get("litellm_logging_obj") if isinstance(held, dict) else None
    return logging if isinstance(getattr(logging, "model_call_details", None), dict) else None


def _minimal_payload(request_data: Mapping[str, Any], key: object) -> dict[str, Any]:
    """Return what LiteLLM tells of a request that failed before it was sent."""
    metadata = {name: getattr(key, attribute, None) for name, attribute in _KEY_FIELDS.items()}
    return {
        "litellm_call_id": request_data.get("litellm_call_id"),
        "call_type": PASS_THROUGH,
        "metadata": {name: value for name, value in metadata.items() if value is not None},
        "response_cost": 0.0,
        "messages": request_data.get("messages"),
    }


def _with_failure(
    payload: dict[str, Any],
    request_data: Mapping[str, Any],
    error: BaseException,
    began: dt.datetime,
    traceback: str | None,
) -> dict[str, Any]:
    """Return the payload with what is known about the failure, whoever has made it."""
    ended = time.time()
    sent = request_data.get("passthrough_logging_payload")
    url = sent.get("url") if isinstance(sent, dict) else None
    code = getattr(error, "status_code", None) or getattr(error, "code", None)
    text = str(getattr(error, "detail", None) or error)[:_MAX_ERROR_CHARACTERS]
    information = {
        "error_code": "" if code is None else str(code),
        "error_class": type(error).__name__,
        "error_message": text,
        "traceback": traceback or "",
        "llm_provider": request_data.get("custom_llm_provider") or "",
    }
    given = payload.get("error_information")
    if isinstance(given, dict):
        information = {**given, **{name: value for name, value in information.items() if value}}
    start = payload.get("startTime")
    model = request_data.get("model")
    return {
        **payload,
        "status": "failure",
        "model": model if isinstance(model, str) and model else payload.get("model") or "unknown",
        "custom_llm_provider": payload.get("custom_llm_provider")
        or request_data.get("custom_llm_provider"),
        "api_base": payload.get("api_base") or url,
        "response": request_data.get("response_body") or payload.get("response"),
        "startTime": start if isinstance(start, float) else began.timestamp(),
        "endTime": ended,
        "error_str": text,
        "error_information": information,
    }
