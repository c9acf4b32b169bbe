"""Owns what a payload says of its call and LiteLLM left in another place, or out. Pure.

Before redaction `complete` fills three fields: `call_origin`, `end_user` and a pass-through's
`model`. `follow` runs after it: what was hidden at a field's source is hidden in the field.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

PASS_THROUGH: Final = "pass_through_endpoint"  # noqa: S105 - no password
"""The call type of a request that the proxy passes through to a provider."""

HEALTH_CHECK: Final = "health_check"
"""`call_origin` of a call that the proxy makes itself to see if a model answers."""

_HEALTH_CHECK_ALIAS: Final = "litellm-internal-health-check"
"""The key alias of such calls: LiteLLM's LITTELM_INTERNAL_HEALTH_SERVICE_ACCOUNT_NAME."""

_UNKNOWN: Final = (None, "", "unknown")
_MODEL_KEYS: Final = ("model", "modelId", "model_id", "modelName", "model_name", "engine")
# A path names a model so: …/models/NAME:generateContent, /deployments/NAME/…, /model/NAME/invoke.
_IN_PATH: Final = re.compile(r"/(?:models|deployments|engines|model)/([^/:?]+)")
_MAX_BODY_CHARACTERS: Final = 65_536
_MAX_URL_CHARACTERS: Final = 8_192
_MAX_MODEL_CHARACTERS: Final = 256
_RETRIEVALS: Final = frozenset(("aretrieve_batch", "retrieve_batch"))
_COUNTED_ONCE: Final = ("response_cost", "total_tokens", "prompt_tokens", "completion_tokens")


def complete(payload: dict[Any, Any], clean: Callable[[str], str] = str) -> Any:
    """Fill in `call_origin`, `end_user` and `model` where LiteLLM did not.

    Args:
        payload: the hook's copy; it is changed.
        clean: takes secrets out of a text.

    Returns:
        For `follow`: the parameter that became `end_user`; None where none did.
    """
    try:
        return _complete(payload, clean)
    except Exception:  # noqa: BLE001 - objects in it may raise any error: it stays as it is
        return None


def _complete(payload: dict[Any, Any], clean: Callable[[str], str]) -> Any:
    metadata = payload.get("metadata")
    if isinstance(metadata, dict) and metadata.get("user_api_key_alias") == _HEALTH_CHECK_ALIAS:
        payload["call_origin"] = HEALTH_CHECK
    is_nameless = payload.get("model", "") in _UNKNOWN
    if (
        is_nameless
        and payload.get("call_type") == PASS_THROUGH
        and (model := _requested_model(payload))
    ):
        payload["model"] = clean(model)
    # Without the key: LiteLLM's own setting excludes it.
    if "end_user" not in payload or payload["end_user"] not in (None, ""):
        return None
    user = _user_in(payload)
    if user is not None:
        payload["end_user"] = user
    return user


def follow(payload: dict[Any, Any], user: Any) -> None:
    """Hide `end_user` where redaction has hidden the parameter that it was taken from.

    Args:
        payload: redacted.
        user: as `complete` returned it.
    """
    if user is None:
        return
    try:
        left = _user_in(payload)
        if payload.get("end_user") == user != left:
            payload["end_user"] = left
    except Exception:  # noqa: BLE001 - objects in it may raise any error
        payload["end_user"] = None


def _user_in(payload: dict[Any, Any]) -> Any:
    """Return the parameter `user` of a call, as `litellm.completion(user=…)` gets it; or None."""
    parameters = payload.get("model_parameters")
    user = parameters.get("user") if isinstance(parameters, dict) else None
    return user if isinstance(user, (str, int, dict)) and user not in ("", {}) else None


def _requested_model(payload: dict[Any, Any]) -> str:
    """Return the model that a pass-through request names: in its body, its path or its query."""
    url = payload.get("api_base")
    url = url[:_MAX_URL_CHARACTERS] if isinstance(url, str) else ""
    found = _model_in_body(payload.get("messages"))
    if not found and (match := _IN_PATH.search(url)):
        found = unquote(match[1])
    return (found or _model_in_query(url))[:_MAX_MODEL_CHARACTERS]


def _model_in_body(messages: Any) -> str:
    """Return the model in the request's body, which LiteLLM keeps as the text of one message."""
    try:
        content = messages[0]["content"]
        if not isinstance(content, str) or len(content) > _MAX_BODY_CHARACTERS:
            return ""
        body = orjson.loads(content)
    except Exception:  # noqa: BLE001 - no body, or one that is no JSON
        return ""
    if not isinstance(body, dict):
        return ""
    inner = [value for value in body.values() if isinstance(value, dict)]
    named = [part.get(key) for part in (body, *inner) for key in _MODEL_KEYS]
    return next((name for name in named if isinstance(name, str) and name not in _UNKNOWN), "")


def _model_in_query(url: str) -> str:
    try:
        query = parse_qs(urlsplit(url).query)
    except ValueError:
        return ""
    return next((query[key][0] for key in _MODEL_KEYS if key in query), "")


class BatchCosts:
    """Counts the cost of each batch once, though each retrieval of it brings all of it again.

    It remembers the batches of one process, the newest ones.

    Args:
        most: batches that are remembered.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._counted: OrderedDict[tuple[str, ...], tuple[Any, ...]] = OrderedDict()

    def count_once(self, payload: dict[Any, Any]) -> dict[Any, Any]:
        """Return the payload; for the retrieval of a batch that was counted one without its cost.

        What the payload said is kept under `batch_cost`. The two payloads of a hook that fires
        twice are of one retrieval.
        """
        kind: Any = payload.get("call_type")
        is_retrieval = issubclass(type(kind), str) and kind in _RETRIEVALS  # may be a list
        if not is_retrieval or not payload.get("response_cost"):
            return payload
        batch = (str(payload.get("custom_llm_provider")), str(payload.get("id"))[:512])
        call = (payload.get("litellm_call_id"), payload.get("startTime"))
        counted = self._counted.setdefault(batch, call)
        if len(self._counted) > self._most:
            self._counted.popitem(last=False)
        if counted == call:
            return payload
        kept = {name: payload.get(name) for name in (*_COUNTED_ONCE, "cost_breakdown")}
        zeros = {name: 0 for name in _COUNTED_ONCE if payload.get(name) is not None}
        return {**payload, **zeros, "cost_breakdown": None, "batch_cost": kept}
