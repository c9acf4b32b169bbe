"""Takes out of a payload what must not leave the gateway, before anything is written anywhere.

In this order: the user's function, fields with a mode, named fields, named keys; then secrets,
where the event that came of it looks as if it held any (to walk every payload would cost more than
everything else). It works on the hook's copy of the payload and may change it.
"""

from __future__ import annotations

import datetime as dt
import importlib
import logging
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from llmlog_common.errors import ConfigurationError
from llmlog_common.throttled_log import GatewayLogger, ThrottledLog
from llmlog_producer.events.secrets import REDACTED, may_hold, names_secret, without_secrets
from llmlog_schemas.fields import TYPED
from llmlog_schemas.json_form import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import RedactMode, Settings

NOTE: Final = "llmlog_redacted"
"""Key, in the event's `extra`, of the list of what was redacted by name."""

_SAFE: Final = frozenset(
    (*TYPED, "id", "model_group", "custom_llm_provider", "stream", "cache_hit",
     "completionStartTime", "saved_cache_cost")
)  # fmt: skip
"""What is kept of a payload whose redaction failed: nothing that a person wrote."""

_HARMLESS: Final = (bool, int, float, type(None), dt.date, dt.time, dt.timedelta, Decimal, UUID)
_MAX_DEPTH: Final = 60
_ORDER: Final[tuple[RedactMode, ...]] = ("keep", "mask", "drop")


class Redactor:
    """Redacts payloads as the settings say.

    Attributes:
        adds: the user's function may put something into a payload that was not there.
        summary: in a few words, what is redacted.

    Raises:
        ConfigurationError: the user's function cannot be imported.
    """

    def __init__(self, settings: Settings) -> None:
        self._log = ThrottledLog(GatewayLogger())
        self._function = _imported(settings.redact_function)
        self._modes = _modes(settings)
        self._fields = [(name, name.split(".")) for name in settings.redact_fields]
        self._keys = frozenset(name.lower() for name in settings.redact_keys)
        self._secrets = settings.redact_secrets
        self.adds = self._function is not None
        self.summary = _summary(settings, self._modes)

    def __call__(self, payload: dict[Any, Any]) -> dict[Any, Any]:
        """Return what may leave. Never raises: where redaction fails, the content is dropped."""
        try:
            return self._redacted(payload)
        except Exception as error:  # noqa: BLE001 - a user's function, foreign objects
            return self._failed(payload, error)

    def _failed(self, payload: dict[Any, Any], error: Exception) -> dict[Any, Any]:
        # Not the error's own text: it may quote the payload.
        kind = type(error).__name__
        self._log(logging.ERROR, f"redaction {kind}", f"redaction failed, content dropped: {kind}")
        return {**_safe(payload), NOTE: ["everything: redaction failed"]}

    def suspects(self, json: bytes) -> bool:
        """Tell whether there may be a secret in a JSON text: rare, and then `scrub` finds it."""
        return self._secrets and may_hold(json)

    def scrub(self, payload: dict[Any, Any]) -> dict[Any, Any]:
        """Return the payload without secrets. Never raises."""
        try:
            return self._scrubbed_dict(payload, 0)
        except Exception as error:  # noqa: BLE001 - foreign objects raise what they like
            return self._failed(payload, error)

    def text(self, value: str) -> str:
        """Return a text of the gateway's own without secrets."""
        return without_secrets(value) if self._secrets else value

    def _redacted(self, payload: dict[Any, Any]) -> dict[Any, Any]:
        if self._function is not None:
            returned = self._function(payload)
            if not isinstance(returned, dict):
                raise TypeError("the redaction function returned no dict")
            payload = returned
        noted = []
        for name, mode in self._modes.items():
            if payload.get(name) is not None:
                noted.append(name)
                if mode == "drop":
                    payload[name] = {} if name == "error_information" else REDACTED
                else:
                    payload[name] = _masked(plain(payload[name]))
        for name, path in self._fields:
            if _mask_path(payload, path):
                noted.append(name)
        if self._keys:
            payload = self._scrubbed_dict(payload, 0)
        return {**payload, NOTE: noted} if noted else payload

    def _scrubbed(self, value: Any, depth: int) -> Any:
        """Rebuild a value without secrets; keys are texts like any other."""
        if isinstance(value, str) and not isinstance(value, Enum):
            return self.text(value)
        if isinstance(value, _HARMLESS) and not isinstance(value, Enum):
            return value
        if type(value) not in {dict, list, tuple} or depth > _MAX_DEPTH:
            value = plain(value)
            if isinstance(value, str):
                return self.text(value)
        if isinstance(value, dict):
            return self._scrubbed_dict(value, depth)
        if isinstance(value, (list, tuple)):
            return [self._scrubbed(item, depth + 1) for item in value]
        return value

    def _scrubbed_dict(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        return {
            self._scrubbed_key(key): (
                REDACTED if self._hides(key, item, value) else self._scrubbed(item, depth + 1)
            )
            for key, item in ((_as_written(key), item) for key, item in value.items())
        }

    def _scrubbed_key(self, key: Any) -> Any:
        if isinstance(key, str) and not isinstance(key, Enum):
            return self.text(key)
        if isinstance(key, _HARMLESS):
            return key
        return self._scrubbed(next(iter(plain({key: None}))), 0)

    def _hides(self, key: Any, item: Any, among: dict[Any, Any]) -> bool:
        if not isinstance(key, str) or item is None:
            return False
        if key.lower() in self._keys:
            return True
        if not self._secrets or isinstance(item, bool) or not names_secret(key):
            return False
        # A token of a model's vocabulary, with its probability; or a number of tokens.
        return not (key == "token" and "logprob" in among) and not (
            isinstance(item, (int, float)) and key.lower().endswith("token")
        )


def _as_written(key: Any) -> Any:
    """Return what will stand in the document for a key: without NUL, and of an enumeration."""
    if isinstance(key, Enum):
        key = next(iter(plain({key: None})))
    return key.replace("\0", "") if isinstance(key, str) and "\0" in key else key


def _modes(settings: Settings) -> dict[str, RedactMode]:
    """Return the fields that have a mode other than keep."""
    strictest = max(settings.redact_messages, settings.redact_response, key=_ORDER.index)
    modes: dict[str, RedactMode] = {
        "messages": settings.redact_messages,
        "response": settings.redact_response,
        "error_str": settings.redact_error_str or strictest,
        "error_information": settings.redact_error_information or strictest,
    }
    return {name: mode for name, mode in modes.items() if mode != "keep"}


def _summary(settings: Settings, modes: dict[str, RedactMode]) -> str:
    """Say in a few words what is redacted."""
    said = [f"{name} ({mode})" for name, mode in modes.items()]
    said += [*settings.redact_fields, *settings.redact_keys]
    if settings.redact_secrets:
        said.append("what looks like a secret")
    if settings.redact_function:
        said.append(f"what {settings.redact_function} takes out")
    return ", ".join(said) or "nothing"


def _imported(path: str | None) -> Callable[[dict[Any, Any]], Any] | None:
    if not path:
        return None
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001 - a module of the user's may raise anything
        raise ConfigurationError(
            f"LLMLOG_REDACT_FUNCTION: cannot import {path}: {type(error).__name__}: {error}"
        ) from None
    if not callable(function):
        raise ConfigurationError(f"LLMLOG_REDACT_FUNCTION: {path} is no function")
    return function  # type: ignore[no-any-return]


def _masked(value: Any) -> Any:
    """Replace every value and keep the shape: the keys, the roles, the types of content."""
    if isinstance(value, dict):
        return {
            key: item if key in _SHAPE and isinstance(item, str) else _masked(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return value if value is None or isinstance(value, bool) else REDACTED


_SHAPE: Final = frozenset(("role", "type", "object", "finish_reason"))


def _mask_path(value: Any, path: list[str]) -> bool:
    """Mask what lies at a dotted path; tell whether there was anything."""
    first, rest = path[0], path[1:]
    found = False
    if isinstance(value, dict):
        keys = [key for key in value if _named(str(key), first)]
        # A key may hold dots itself: try the longer names too.
        if rest:
            found = _mask_path(value, [f"{first}.{rest[0]}", *rest[1:]])
    elif isinstance(value, list):
        keys = [at for at in range(len(value)) if first in {"*", str(at)}]
    else:
        return False
    for key in keys:
        if rest:
            if not isinstance(value[key], (dict, list)):
                value[key] = plain(value[key])
            found |= _mask_path(value[key], rest)
        elif value[key] is not None:
            value[key] = REDACTED
            found = True
    return found


def _named(key: str, name: str) -> bool:
    """Tell whether a name means a key: `*` any key, and beside dots any part between dots."""
    if "*" not in name or name == "*":
        return name in {"*", key}
    parts, wanted = key.split("."), name.split(".")
    return len(parts) == len(wanted) and all(
        one in {"*", part} for one, part in zip(wanted, parts, strict=True)
    )


def _safe(payload: dict[Any, Any]) -> dict[Any, Any]:
    return {name: value for name, value in payload.items() if name in _SAFE}
