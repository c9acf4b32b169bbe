"""Owns which redaction mode one event has, by its team, key, tags or headers. Pure.

    team:payments=drop, key:ci-*=keep, tag:health=nothing, header:x-data-class:secret*=mask

The first rule that matches counts. Tags and headers are the client's own words: a rule by them
makes an event stricter than it would be without it, never looser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_common.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from llmlog_common.settings import RedactMode

NOTHING: Final = "nothing"
"""The mode of an event of which no content is kept."""

MODES: Final[tuple[RedactMode, ...]] = ("keep", "mask", "drop")
"""The modes of a field, the strictest one last."""

_BY_PROXY: Final = {
    "team": ("user_api_key_team_alias", "user_api_key_team_id"),
    "key": ("user_api_key_alias", "user_api_key_hash"),
}
"""What the proxy itself says of a call, and where: keys of the payload's metadata."""

_BY_CLIENT: Final = ("tag", "header")
_FORM: Final = "team:NAME=MODE, key:NAME=MODE, tag:NAME=MODE or header:x-NAME[:VALUE]=MODE"


class Rule(NamedTuple):
    """One rule.

    Attributes:
        number: its place in the setting, from 1.
        by: `team`, `key`, `tag` or `header`.
        header: the header's name in lower case; empty for the others.
        pattern: of the value; `*` stands for any characters.
        mode: of the fields with a mode; or `NOTHING`.
    """

    number: int
    by: str
    header: str
    pattern: str
    mode: str


class Decision(NamedTuple):
    """What is done to one event.

    Attributes:
        modes: by field; those that are kept are left out.
        nothing_by: the number of the rule that keeps nothing; 0 where there is content.
    """

    modes: Mapping[str, RedactMode]
    nothing_by: int = 0


class Rules:
    """The rules, and the modes of events that none of them matches.

    Args:
        texts: the rules as set.
        general: the mode of each field by the other settings; those that are kept are left out.
        fields: the fields that have a mode.

    Raises:
        ConfigurationError: a text is no rule.
    """

    def __init__(
        self, texts: Sequence[str], general: Mapping[str, RedactMode], fields: Iterable[str]
    ) -> None:
        self._rules = [_parse(number, text) for number, text in enumerate(texts, start=1)]
        self._fields = tuple(fields)
        self._general = Decision(general)

    def __len__(self) -> int:
        return len(self._rules)

    def decide(self, payload: Mapping[Any, Any]) -> Decision:
        """Return what is done to the event of a payload that nothing was taken from yet."""
        if not self._rules:
            return self._general
        first = self._first(payload, self._rules)
        if first is None:
            return self._general
        if first.by not in _BY_CLIENT:
            return self._by(first)
        floor = self._first(payload, [one for one in self._rules if one.by not in _BY_CLIENT])
        without = self._by(floor) if floor else self._general
        if without.nothing_by or first.mode == NOTHING:
            return without if without.nothing_by else self._by(first)
        modes: dict[str, RedactMode] = {}
        for name in self._fields:
            mode = max(without.modes.get(name, MODES[0]), first.mode, key=MODES.index)
            if mode != MODES[0]:
                modes[name] = mode  # type: ignore[assignment]
        return Decision(modes)

    def _by(self, rule: Rule) -> Decision:
        if rule.mode == NOTHING:
            return Decision({}, rule.number)
        if rule.mode == "keep":
            return Decision({})
        return Decision(dict.fromkeys(self._fields, rule.mode))  # type: ignore[arg-type]

    def _first(self, payload: Mapping[Any, Any], rules: Iterable[Rule]) -> Rule | None:
        metadata = payload.get("metadata")
        known: Mapping[Any, Any] = metadata if isinstance(metadata, dict) else {}
        for rule in rules:
            if any(matches(rule.pattern, value) for value in _values(rule, payload, known)):
                return rule
        return None


def matches(pattern: str, text: str) -> bool:
    """Tell whether a text has a pattern's form; `*` stands for any characters. Linear time."""
    first, *others = pattern.split("*")
    if not others:
        return text == pattern
    *middle, last = others
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def _values(rule: Rule, payload: Mapping[Any, Any], metadata: Mapping[Any, Any]) -> Iterator[str]:
    if rule.by in _BY_PROXY:
        found: Iterable[Any] = (metadata.get(name) for name in _BY_PROXY[rule.by])
    elif rule.by == "tag":
        tags = payload.get("request_tags")
        found = tags if isinstance(tags, (list, tuple)) else ()
    else:
        own = metadata.get("requester_metadata")
        sent = (
            metadata.get("requester_custom_headers"),
            isinstance(own, dict) and own.get("headers"),
        )
        found = (
            value
            for headers in sent
            if isinstance(headers, dict)
            for name, value in headers.items()
            if isinstance(name, str) and name.lower() == rule.header
        )
    return (value for value in found if isinstance(value, str) and value)


def _parse(number: int, text: str) -> Rule:
    where = f"LLMLOG_REDACT_RULES: rule {number} ({text!r})"
    selector, is_set, mode = (part.strip() for part in text.rpartition("="))
    by, has_pattern, pattern = (part.strip() for part in selector.partition(":"))
    if not is_set or not has_pattern or not pattern or by not in (*_BY_PROXY, *_BY_CLIENT):
        raise ConfigurationError(f"{where} has to be {_FORM}")
    if mode not in (*MODES, NOTHING):
        known = ", ".join((*MODES, NOTHING))
        raise ConfigurationError(f"{where}: the mode has to be one of {known}")
    if by != "header":
        return Rule(number, by, "", pattern, mode)
    name, has_value, value = (part.strip() for part in pattern.partition(":"))
    if not name.lower().startswith("x-") or (has_value and not value):
        raise ConfigurationError(f"{where}: LiteLLM hands on the headers that begin with x- alone")
    return Rule(number, by, name.lower(), value or "*", mode)
