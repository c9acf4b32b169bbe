"""Computes the derived fields of a redacted payload. Pure; any payload is accepted.

What is absent, redacted or of another type than LiteLLM promises has no derived value: nothing is
guessed or converted. Originals of another type are handed back, to be kept under `extra.mistyped`.
"""

from __future__ import annotations

import math
import re
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from llmlog_schemas.derived.table import (
    BUDGETS,
    CALL_FACTS,
    DERIVED,
    ERRORS,
    GUARDRAILS,
    MAX_ITEMS,
    MONEY,
    TOKENS,
    WHO,
    Derived,
)
from llmlog_schemas.derived.tools import MAX_LOOKED_AT, flat, offered_tools, read_answer
from llmlog_schemas.json_form import to_text
from llmlog_schemas.kinds import Kind
from llmlog_schemas.limits import MAX_KEYWORD_CHARACTERS, REDACTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_MAX_COUNT: Final = 2**63 - 1
_PER_MILLISECOND: Final = 0.001
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.{0,512})?",
    re.DOTALL,
)
_STOP: Final = ["stop"]
_USAGE: Final = "metadata.usage_object"
_STATUS: Final = "status_fields.guardrail_status"

_Table = tuple[tuple[str, ...], tuple[tuple[str, type, str], ...]]
"""Keys of an object, and of each the field's name, the usual type of its value and its path."""


def derive(
    payload: Mapping[Any, Any], typed: Mapping[str, Any], untyped: dict[str, Any], response: Any
) -> dict[str, Any]:
    """Add the derived fields of a payload; return originals of another type by their paths.

    Args:
        payload: redacted.
        typed: its converted fields that the Avro schema has.
        untyped: its other converted fields; derived ones are added to them.
        response: the answer, as it can be read.
    """
    walk = _Walk(untyped)
    get = untyped.get
    metadata, hidden_params = get("metadata", _NONE), get("hidden_params", _NONE)
    walk.copy(metadata, _OF_METADATA)
    if costs := get("cost_breakdown"):
        walk.copy(costs, _OF_COSTS)
        walk.split_input_cost(costs)
    error = get("error_information")
    if error and any(error.values()):
        walk.copy(error, _OF_ERROR)
    if (status := get("status_fields", _NONE).get("guardrail_status")) is not None:
        walk.put("guardrail_status", status, str, _STATUS)
    walk.copy_usage(metadata, hidden_params)
    walk.copy_overhead(hidden_params)
    walk.measure_time(payload, typed, untyped)
    facts = payload.get(CALL_FACTS)
    if type(facts) is dict:
        walk.copy_facts(facts)
    walk.find_trace(metadata, facts)
    walk.name_tools(get("model_parameters"), response, metadata.get("mcp_tool_call_metadata"))
    walk.read_guardrails(payload.get("guardrail_information"), metadata.get("applied_guardrails"))
    return walk.mistyped


class _Walk:
    """One look through one payload. It is taken for every event: its usual case calls little.

    Attributes:
        found: where derived fields are put.
        mistyped: originals of another type, by path.
    """

    __slots__ = ("found", "mistyped")

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found
        self.mistyped: dict[str, Any] = {}

    def copy(self, parent: Mapping[Any, Any], table: _Table) -> None:
        """Take the values of a table out of one object."""
        keys, rows = table
        found = self.found
        value: Any
        for value, row in zip(map(parent.get, keys), rows, strict=True):
            if value is None:  # most of them: their rows are not touched
                continue
            name, usual, path = row
            kind = type(value)
            if kind is usual:
                if usual is float:
                    if value - value == 0:
                        found[name] = value
                        continue
                elif usual is str:
                    if value and value != REDACTED and len(value) <= MAX_KEYWORD_CHARACTERS:
                        found[name] = value if value.isascii() else to_text(value)
                    continue
                elif 0 <= value <= _MAX_COUNT:
                    found[name] = value
                    continue
            self.put(name, value, usual, path)

    def put(self, name: str, value: Any, usual: type, path: str) -> None:
        """Take one value that is there, of a field whose values have this type."""
        value = value.value if isinstance(value, Enum) else value
        if value is None or (isinstance(value, str) and value in {"", REDACTED}):
            return
        checked = _CHECKS[usual](value)
        if checked is None:
            self.mistyped[path] = value
        else:
            self.found[name] = checked

    def put_names(self, name: str, values: Iterable[Any], path: str) -> None:
        """Take names, each once and no more than fit."""
        names: dict[str, None] = {}
        value: Any
        for value in values:
            if type(value) is not str:
                if value is not None:
                    self.mistyped[path] = value
            elif value and value != REDACTED and len(value) <= MAX_KEYWORD_CHARACTERS:
                names[value if value.isascii() else to_text(value)] = None
                if len(names) == MAX_ITEMS:
                    break
        if names:
            self.found[name] = list(names)

    def object_in(self, parent: Mapping[Any, Any], key: str, path: str) -> Mapping[Any, Any]:
        """Return the object under a key; an empty one where there is none."""
        value = parent.get(key)
        if value is None or isinstance(value, dict):
            return value or _NONE
        if value != REDACTED:
            self.mistyped[path] = value
        return _NONE

    def split_input_cost(self, costs: Mapping[Any, Any]) -> None:
        """Take the cost of the cache out of LiteLLM's `input_cost`, which has it in it.

        Its documentation says otherwise. Which of the two is told by what adds up.
        """
        found = self.found
        if added := self.object_in(costs, "additional_costs", "cost_breakdown.additional_costs"):
            values = list(added.values())
            if all(_measure(value) is not None for value in values):
                found["additional_cost"] = sum(values)
            else:
                self.mistyped["cost_breakdown.additional_costs"] = added
        if "input_cost" not in found:
            return
        get = found.get
        cache = get("cache_read_cost", 0) + get("cache_write_cost", 0)
        if not cache:
            return
        whole = get("original_cost")
        if whole is None and (total := _measure(costs.get("total_cost"))) is not None:
            whole = total - get("guardrail_cost", 0)
            whole += get("discount_amount", 0) - get("margin_amount", 0)
        rest = get("output_cost", 0) + get("tool_cost", 0) + get("additional_cost", 0)
        is_within = cache <= found["input_cost"] or _is_close(cache, found["input_cost"])
        if is_within and (whole is None or _is_close(whole - rest, found["input_cost"])):
            found["input_cost"] = round(max(0.0, found["input_cost"] - cache), 12)
        elif whole is None or not _is_close(whole - rest, found["input_cost"] + cache):
            del found["input_cost"]

    def copy_usage(self, metadata: Mapping[Any, Any], hidden_params: Mapping[Any, Any]) -> None:
        """Take the numbers of tokens that LiteLLM has beside the three totals."""
        usage = metadata.get("usage_object")
        if type(usage) is not dict:
            usage = self.object_in(metadata, "usage_object", _USAGE)
        usage = usage or self.object_in(hidden_params, "usage_object", "hidden_params.usage_object")
        if not usage:
            return
        self.copy(usage, _OF_USAGE)
        if _DETAIL_PLACES.isdisjoint(usage):
            return
        for place, path, table in _OF_DETAILS:
            if usage.get(place) is not None:
                self.copy(self.object_in(usage, place, path), table)

    def copy_overhead(self, hidden_params: Mapping[Any, Any]) -> None:
        """Take LiteLLM's own time, which it has in milliseconds."""
        value = hidden_params.get("litellm_overhead_time_ms")
        if value is None:
            return
        if type(value) is not float or value - value:
            self.put("overhead", value, float, DERIVED["overhead"].paths[0])
            value = self.found.get("overhead")
        if value is not None:
            self.found["overhead"] = round(value * _PER_MILLISECOND, 9)

    def measure_time(
        self, payload: Mapping[Any, Any], typed: Mapping[str, Any], untyped: Mapping[str, Any]
    ) -> None:
        """Compute durations, in seconds."""
        start, end = payload.get("startTime"), payload.get("endTime")
        if type(start) is not float or type(end) is not float or "startTime" not in typed:
            start, end = _second(payload, typed, "startTime"), _second(payload, typed, "endTime")
        if start is None or end is None or not end >= start or "endTime" not in typed:
            return
        found = self.found
        found["duration"] = round(end - start, 6)
        if untyped.get("stream") is not True:
            return
        first = _second(payload, untyped, "completionStartTime")
        # Where no token came LiteLLM puts the end there.
        if first is None or not start <= first < end:
            return
        found["time_to_first_token"] = round(first - start, 6)
        tokens = typed.get("completion_tokens")
        if tokens and untyped.get("cache_hit") is not True:
            found["tokens_per_second"] = round(tokens / (end - first), 3)

    def copy_facts(self, facts: Mapping[Any, Any]) -> None:
        """Take what the gateway has found beside LiteLLM's payload."""
        self.copy(facts, _OF_FACTS)
        found = self.found
        if "retries" in found:
            found["attempt"] = found["retries"] + 1
        if not found.get("fallbacks"):
            found.pop("fallback_from", None)

    def find_trace(self, metadata: Mapping[Any, Any], facts: Any) -> None:
        """Take the trace id of a `traceparent`; headers are any client's own words."""
        sent = metadata.get("requester_metadata")
        headers = sent.get("headers") if isinstance(sent, dict) else None
        text = headers.get("traceparent") if isinstance(headers, dict) else None
        if text is None and isinstance(facts, dict):
            text = facts.get("traceparent")
        if isinstance(text, str) and (match := _TRACEPARENT.fullmatch(text)):
            self.found["trace.id"] = match[1]

    def name_tools(self, parameters: Any, response: Any, mcp: Any) -> None:
        """Take the names of tools; their form is the provider's, so nothing is mistyped."""
        if isinstance(parameters, dict):
            tools = parameters.get("tools") or parameters.get("functions")
            if tools:
                self.put_texts("tool_names_offered", offered_tools(tools))
        called: list[Any] = []
        if isinstance(response, dict):
            called, reasons = read_answer(response)
            if reasons == _STOP:  # the usual case
                self.found["finish_reasons"] = reasons
            else:
                self.put_texts("finish_reasons", reasons)
        if isinstance(mcp, dict):
            called.append(mcp.get("name"))
            if (server := mcp.get("mcp_server_name")) is not None:
                self.put("mcp_server", server, str, DERIVED["mcp_server"].paths[0])
        if called:
            self.put_texts("tool_names_called", called)

    def put_texts(self, name: str, values: Iterable[Any]) -> None:
        """Take the texts among values of any kind."""
        texts = [value for value in values if type(value) is str]
        if texts:
            self.put_names(name, texts, "")

    def read_guardrails(self, information: Any, applied: Any) -> None:
        """Take what each guardrail did."""
        if information is None and not applied:
            return
        entries = []
        if isinstance(information, (list, tuple)):
            entries = [one for one in information[:MAX_LOOKED_AT] if isinstance(one, dict)]
        elif information is not None and information != REDACTED:
            self.mistyped["guardrail_information"] = information
        where = "guardrail_information[]"
        for key, name in _OF_GUARDRAIL:
            if values := [one[key] for one in entries if one.get(key) is not None]:
                self.put_names(name, flat(values), f"{where}.{key}")
        if "guardrail_names" not in self.found and isinstance(applied, (list, tuple)):
            self.put_names("guardrail_names", applied, "metadata.applied_guardrails[]")
        times = [one["duration"] for one in entries if one.get("duration") is not None]
        if times and all(_measure(time) is not None for time in times):
            self.found["guardrail_duration"] = round(sum(times), 6)


def _second(payload: Mapping[Any, Any], known: Mapping[str, Any], name: str) -> float | None:
    """Return a time in seconds; with its microseconds where the payload has a number."""
    converted = known.get(name)
    if converted is None:
        return None
    value = payload.get(name)
    return value if type(value) is float else converted * _PER_MILLISECOND


def _is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12)


def _measure(value: Any) -> float | None:
    """Return a number that is finite."""
    kind = type(value)
    if kind is float:
        return value if not value - value else None
    return value if kind is int and abs(value) <= _MAX_COUNT else None


def _count(value: Any) -> int | None:
    """Return a whole number that is not negative."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MAX_COUNT else None


def _keyword(value: Any) -> str | None:
    if not isinstance(value, str) or len(value) > MAX_KEYWORD_CHARACTERS:
        return None
    return to_text(value)


_NONE: Final[dict[Any, Any]] = {}
_CHECKS: Final[dict[type, Callable[[Any], Any]]] = {str: _keyword, float: _measure, int: _count}
_USUAL_TYPES: Final = {Kind.KEYWORD: str, Kind.MEASURE: float, Kind.COUNT: int}


def _table(fields: Mapping[str, Derived], parent: str) -> _Table:
    """Return keys and rows of the fields that are values of one object as they are.

    Of several paths of a field the first comes last: it decides.
    """
    rows = [
        (path.removeprefix(f"{parent}."), (name, _USUAL_TYPES[field.kind], path))
        for name, field in fields.items()
        for path in reversed(field.paths)
        if path.rpartition(".")[0] == parent and field.kind in _USUAL_TYPES and "{}" not in path
    ]
    return tuple(key for key, _ in rows), tuple(row for _, row in rows)


_FACTS: Final = {name: DERIVED[name] for name in DERIVED.keys() - {"attempt", "trace.id"}}
_OF_METADATA: Final = _table(WHO | BUDGETS, "metadata")
_OF_COSTS: Final = _table(MONEY, "cost_breakdown")
_OF_ERROR: Final = _table(ERRORS, "error_information")
_OF_USAGE: Final = _table(TOKENS, _USAGE)
_OF_FACTS: Final = _table(_FACTS, CALL_FACTS)
_OF_DETAILS: Final = tuple(
    (place, f"{_USAGE}.{place}", _table(TOKENS, f"{_USAGE}.{place}"))
    for place in (
        "input_tokens_details",
        "prompt_tokens_details",
        "output_tokens_details",
        "completion_tokens_details",
    )
)
_DETAIL_PLACES: Final = frozenset(place for place, _, _ in _OF_DETAILS)
_OF_GUARDRAIL: Final = tuple(
    (path.removeprefix("guardrail_information[].").rstrip("[]{}"), name)
    for name, field in GUARDRAILS.items()
    for path in field.paths
    if path.startswith("guardrail_information[]") and field.kind is Kind.KEYWORDS
)
