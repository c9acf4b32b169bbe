"""Owns what a hook is told of a call beside LiteLLM's payload: a closed list of scalars. Pure.

They are put into the payload under one key, and so redacted, copied and converted with it.
"""

from __future__ import annotations

import socket
from importlib import metadata
from typing import Any, Final

from llmlog_schemas.derived.table import CALL_FACTS

_MAX_CHARACTERS: Final = 1_024
OF_METADATA: Final = (
    "queue_time_seconds",
    "attempted_retries",
    "max_retries",
    "attempted_fallbacks",
    "original_model_group",
)
"""Keys of `kwargs["litellm_params"]["metadata"]`, or of `litellm_metadata` beside it."""
_NUMBERS: Final = frozenset((int, float))


def _version() -> str:
    try:
        return metadata.version("litellm")
    except Exception:  # noqa: BLE001 - not installed, or its metadata cannot be read
        return ""


_GATEWAY: Final = {
    name: value
    for name, value in (("gateway_host", socket.gethostname()), ("gateway_version", _version()))
    if value
}


def add_call_facts(payload: dict[Any, Any], kwargs: Any) -> dict[Any, Any]:
    """Return the payload with the facts of its call; itself where they cannot be read.

    Args:
        payload: LiteLLM's own, which other callbacks share; it is not changed.
        kwargs: as the hook got it.
    """
    try:
        return {**payload, CALL_FACTS: _facts_in(payload, kwargs)}
    except Exception:  # noqa: BLE001 - objects in it may raise any error
        return payload


def _facts_in(payload: dict[Any, Any], kwargs: Any) -> dict[str, Any]:
    facts: dict[str, Any] = _GATEWAY.copy()
    parameters = kwargs.get("litellm_params")
    if type(parameters) is not dict:
        return facts
    for bucket in ("metadata", "litellm_metadata"):
        of_call = parameters.get(bucket)
        if type(of_call) is dict:
            for name in OF_METADATA:
                value: Any = of_call.get(name)
                kind = type(value)
                if kind in _NUMBERS or (kind is str and len(value) <= _MAX_CHARACTERS):
                    facts[name] = value
    own = payload.get("metadata")
    sent = own.get("requester_metadata") if type(own) is dict else None
    if type(sent) is not dict or "headers" not in sent:  # they are in the payload mostly
        request = parameters.get("proxy_server_request")
        headers = request.get("headers") if type(request) is dict else None
        trace = headers.get("traceparent") if type(headers) is dict else None
        if type(trace) is str and len(trace) <= _MAX_CHARACTERS:
            facts["traceparent"] = trace
    return facts
