"""Owns redaction: it removes from a payload what must not leave the gateway.

Nothing is written anywhere before it has run. The order: the user's function, fields with a mode,
what repeats these, named fields, named keys; then secrets, if the event's JSON may hold any (to
walk every payload would cost more than all other steps). It works on the hook's copy of the payload
and may change it.
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
from llmlog_common.throttled_log import GatewayLogger, ThrottledLog, error_name
from llmlog_producer.events.repetitions import REPETITIONS
from llmlog_producer.events.rules import MODES, Rules
from llmlog_producer.events.secrets import Looks, hide_secrets, is_secret_name
from llmlog_producer.events.secrets_in_json import may_hold_secret
from llmlog_schemas.derived.table import DERIVED
from llmlog_schemas.fields import TYPED
from llmlog_schemas.json_form import to_plain
from llmlog_schemas.limits import MAX_PAYLOAD_DEPTH, REDACTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import RedactMode, Settings

NOTE: Final = "llmlog_redacted"
"""Key, in the event's `extra`, of the list of fields that were redacted by name."""

_METADATA_FIELDS: Final = frozenset(
    (*TYPED, "id", "model_group", "custom_llm_provider", "stream", "cache_hit",
     "completionStartTime", "saved_cache_cost", "call_origin")
)  # fmt: skip
"""The fields that are kept where nothing else may be: none has a person's words."""

_MODE_FIELDS: Final = ("messages", "response", "error_str", "error_information")

_HARMLESS_TYPES: Final = (
    bool,
    int,
    float,
    type(None),
    dt.date,
    dt.time,
    dt.timedelta,
    Decimal,
    UUID,
)
_PLAIN_TYPES: Final = frozenset((str, bool, int, float, type(None), Decimal))
"""Exact types: to read them runs no code but Python's."""
_REPEATED: Final = tuple((one.path, one.path.split("."), frozenset(one.of)) for one in REPETITIONS)


class Redactor:
    """Redacts payloads as the settings say.

    Its methods may be called from several threads at the same time.

    Attributes:
        may_add: a user's function is set: it may put new content into a payload.
        hidden: derived fields that the settings name: they have no path in a payload.
        summary: what is redacted, in a few words.

    Raises:
        ConfigurationError: the user's function cannot be imported, or a mode is unknown.
    """

    def __init__(self, settings: Settings) -> None:
        self._log = ThrottledLog(GatewayLogger())
        self._function = _import_function(settings.redact_function)
        modes = _modes_by_field(settings)
        self._rules = Rules(settings.redact_rules, modes, _MODE_FIELDS)
        self._fields = [(name, name.split(".")) for name in settings.redact_fields]
        self._keys = frozenset(name.lower() for name in settings.redact_keys)
        self.hidden = self._keys.union(settings.redact_fields) & DERIVED.keys()
        self._secrets = settings.redact_secrets
        self.may_add = self._function is not None
        self.summary = _summary(settings, modes, len(self._rules))

    def redact(self, payload: dict[Any, Any]) -> dict[Any, Any]:
        """Return the payload that may leave the gateway; secrets are left to `scrub`.

        Never raises: if redaction fails, the content is dropped.
        """
        try:
            return self._apply(payload)
        except Exception as error:  # noqa: BLE001 - a user's function, foreign objects
            return self._drop_content(payload, error)

    def _drop_content(self, payload: dict[Any, Any], error: Exception) -> dict[Any, Any]:
        kind = error_name(error)
        self._log(logging.ERROR, f"redaction {kind}", f"redaction failed, content dropped: {kind}")
        return self.without_content(payload, "redaction failed")

    def without_content(self, payload: dict[Any, Any], why: str) -> dict[Any, Any]:
        """Return identity, status, times, costs and counts alone; runs no foreign code.

        Args:
            payload: it is not changed.
            why: for the note that the event has.
        """
        kept = {
            name: value
            for name, value in payload.items()
            if type(name) is str and name in _METADATA_FIELDS and type(value) in _PLAIN_TYPES
        }
        for _, path in self._fields:
            _redact_path(kept, path)
        if self._keys:
            kept = self._scrub_dict(kept, 0, Looks())
        return {**kept, NOTE: [f"everything: {why}"]}

    def may_hold_secret(self, json: bytes) -> bool:
        """Tell whether a JSON text may hold a secret, which is rare: then `scrub` finds it."""
        return self._secrets and may_hold_secret(json)

    def scrub(self, payload: dict[Any, Any]) -> dict[Any, Any]:
        """Return the payload without secrets. Never raises."""
        try:
            return self._scrub_dict(payload, 0, Looks())
        except Exception as error:  # noqa: BLE001 - foreign objects may raise any error
            return self._drop_content(payload, error)

    def clean_text(self, value: str, looks: Looks | None = None) -> str:
        """Return a text without secrets; `looks`: those that are left of its payload."""
        return hide_secrets(value, looks) if self._secrets else value

    def _apply(self, payload: dict[Any, Any]) -> dict[Any, Any]:
        modes, nothing_by = self._rules.decide(payload)
        if nothing_by:
            return self.without_content(payload, f"rule {nothing_by}")
        if self._function is not None:
            returned = self._function(payload)
            if not isinstance(returned, dict):
                raise TypeError("the redaction function returned no dict")
            payload = returned
        names = []
        for name, mode in modes.items():
            if payload.get(name) is not None:
                payload[name] = _ACTIONS[mode](name, payload[name])
                names.append(name)
        repeated = ((name, path) for name, path, of in _REPEATED if not of.isdisjoint(modes))
        for name, path in (*repeated, *self._fields):
            if _redact_path(payload, path):
                names.append(name)
        if self._keys:
            payload = self._scrub_dict(payload, 0, Looks())
        return {**payload, NOTE: names} if names else payload

    def _scrub_value(self, value: Any, depth: int, looks: Looks) -> Any:
        """Rebuild a value without secrets; keys are texts like any other."""
        if isinstance(value, str) and not isinstance(value, Enum):
            return self.clean_text(value, looks)
        if isinstance(value, _HARMLESS_TYPES) and not isinstance(value, Enum):
            return value
        if type(value) not in {dict, list, tuple} or depth > MAX_PAYLOAD_DEPTH:
            value = to_plain(value)
            if isinstance(value, str):
                return self.clean_text(value, looks)
        if isinstance(value, dict):
            return self._scrub_dict(value, depth, looks)
        if isinstance(value, (list, tuple)):
            return [self._scrub_value(item, depth + 1, looks) for item in value]
        return value

    def _scrub_dict(self, value: dict[Any, Any], depth: int, looks: Looks) -> dict[Any, Any]:
        return {
            self._scrub_key(key, looks): (
                REDACTED
                if self._is_hidden(key, item, value)
                else self._scrub_value(item, depth + 1, looks)
            )
            for key, item in ((_document_key(key), item) for key, item in value.items())
        }

    def _scrub_key(self, key: Any, looks: Looks) -> Any:
        if isinstance(key, str) and not isinstance(key, Enum):
            return self.clean_text(key, looks)
        if isinstance(key, _HARMLESS_TYPES):
            return key
        return self._scrub_value(next(iter(to_plain({key: None}))), 0, looks)

    def _is_hidden(self, key: Any, item: Any, container: dict[Any, Any]) -> bool:
        """Tell whether the whole value under a key is redacted, because of the key's name."""
        if not isinstance(key, str) or item is None:
            return False
        if key.lower() in self._keys:
            return True
        if not self._secrets or isinstance(item, bool) or not is_secret_name(key):
            return False
        # Not a secret: a token of a model's vocabulary, with its probability; a number of tokens.
        return not (key == "token" and "logprob" in container) and not (
            isinstance(item, (int, float)) and key.lower().endswith("token")
        )


def _document_key(key: Any) -> Any:
    """Return a key as the document will have it: the value of an enumeration, without NUL."""
    if isinstance(key, Enum):
        key = next(iter(to_plain({key: None})))
    return key.replace("\0", "") if isinstance(key, str) and "\0" in key else key


def _keep_field(_name: str, value: Any) -> Any:
    return value


def _mask_field(_name: str, value: Any) -> Any:
    return _mask(to_plain(value))


def _drop_field(name: str, _value: Any) -> Any:
    return {} if name == "error_information" else REDACTED


_ACTIONS: Final[dict[RedactMode, Callable[[str, Any], Any]]] = {
    "keep": _keep_field,
    "mask": _mask_field,
    "drop": _drop_field,
}
"""What each mode does to a field, by the field's name and value."""


def _modes_by_field(settings: Settings) -> dict[str, RedactMode]:
    """Return the fields that have a mode other than keep.

    Raises:
        ConfigurationError: a mode is unknown.
    """
    modes: dict[str, RedactMode | None] = {
        "messages": settings.redact_messages,
        "response": settings.redact_response,
        "error_str": settings.redact_error_str,
        "error_information": settings.redact_error_information,
    }
    for name, mode in modes.items():
        if mode is not None and mode not in _ACTIONS:
            known = ", ".join(MODES)
            raise ConfigurationError(
                f"the redaction mode of {name} is {mode!r}: it must be one of {known}"
            )
    strictest = max(settings.redact_messages, settings.redact_response, key=MODES.index)
    filled = {name: mode or strictest for name, mode in modes.items()}
    return {name: mode for name, mode in filled.items() if mode != "keep"}


def _summary(settings: Settings, modes: dict[str, RedactMode], rules: int) -> str:
    """Say in a few words what is redacted."""
    parts = [f"{name} ({mode})" for name, mode in modes.items()]
    if rules:
        parts.append(f"by {rules} rules")
    parts += [*settings.redact_fields, *settings.redact_keys]
    if settings.redact_secrets:
        parts.append("secrets, by name and form")
    if settings.redact_function:
        parts.append(f"the function {settings.redact_function}")
    return ", ".join(parts) or "nothing"


def _import_function(path: str | None) -> Callable[[dict[Any, Any]], Any] | None:
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


_SHAPE_KEYS: Final = frozenset(("role", "type", "object", "finish_reason"))


def _mask(value: Any) -> Any:
    """Replace every value and keep the shape: the keys, the roles, the types of content."""
    if isinstance(value, dict):
        return {
            key: item if key in _SHAPE_KEYS and isinstance(item, str) else _mask(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_mask(item) for item in value]
    return value if value is None or isinstance(value, bool) else REDACTED


def _redact_path(value: Any, path: list[str]) -> bool:
    """Redact the values at a dotted path; tell whether there were any."""
    first, rest = path[0], path[1:]
    found = False
    if isinstance(value, dict):
        keys = [key for key in value if _matches(str(key), first)]
        # A key may have dots in it: try the longer names too.
        if rest:
            found = _redact_path(value, [f"{first}.{rest[0]}", *rest[1:]])
    elif isinstance(value, list):
        keys = [at for at in range(len(value)) if first in {"*", str(at)}]
    else:
        return False
    for key in keys:
        if rest:
            if not isinstance(value[key], (dict, list)):
                value[key] = to_plain(value[key])
            found |= _redact_path(value[key], rest)
        elif value[key] is not None:
            value[key] = REDACTED
            found = True
    return found


def _matches(key: str, name: str) -> bool:
    """Tell whether a name matches a key; `*` matches any key, or any part of a dotted one."""
    if "*" not in name or name == "*":
        return name in {"*", key}
    parts, wanted = key.split("."), name.split(".")
    return len(parts) == len(wanted) and all(
        one in {"*", part} for one, part in zip(wanted, parts, strict=True)
    )
