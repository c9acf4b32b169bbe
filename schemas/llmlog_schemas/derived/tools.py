"""Finds which tools requests and answers name, in any provider's form. Pure and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_LOOKED_AT: Final = 1_024
"""Entries of a list in a payload that are looked at."""


def offered_tools(tools: Any) -> Iterable[Any]:
    """Yield the names of tools that a request offers; the type of one without a name."""
    for tool in objects_in(tools):
        declared = tool.get("function_declarations") or tool.get("functionDeclarations")
        if declared:
            yield from map(_name_in, objects_in(declared))
        else:
            yield _name_of(tool) or tool.get("name") or tool.get("type")


def read_answer(response: Mapping[Any, Any]) -> tuple[list[Any], list[Any]]:
    """Return the names of the tools that an answer calls, and why the model stopped.

    Beside texts there may be what stands in a name's or a reason's place.
    """
    if choices := response.get("choices"):
        return _read_choices(choices)
    called: list[Any] = []
    for item in objects_in(response.get("output")):
        kind = item.get("type")
        if isinstance(kind, str) and kind.endswith("_call"):
            called.append(item.get("name") or kind.removesuffix("_call"))
    called.extend(
        block.get("name")
        for block in objects_in(response.get("content"))
        if str(block.get("type")).endswith("tool_use")
    )
    reasons = [response.get("stop_reason")]
    for candidate in objects_in(response.get("candidates")):
        reasons.append(candidate.get("finishReason"))
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        called.extend(_name_in(part.get("functionCall")) for part in objects_in(parts))
    return called, reasons


def _read_choices(choices: Any) -> tuple[list[Any], list[Any]]:
    called: list[Any] = []
    reasons: list[Any] = []
    if not isinstance(choices, (list, tuple)):
        return called, reasons
    # Read for nearly every event: no list is made of the one choice that there is.
    for choice in choices if len(choices) == 1 else choices[:MAX_LOOKED_AT]:
        if not isinstance(choice, dict):
            continue
        reasons.append(choice.get("finish_reason"))
        message = choice.get("message")
        if isinstance(message, dict):
            if calls := message.get("tool_calls"):
                called += [_name_of(call) for call in objects_in(calls)]
            if single := message.get("function_call"):
                called.append(_name_in(single))
    return called, reasons


def objects_in(value: Any) -> Iterable[Mapping[Any, Any]]:
    """Return the objects in a list; none where it is no list."""
    if not isinstance(value, (list, tuple)):
        return ()
    return [item for item in value[:MAX_LOOKED_AT] if isinstance(item, dict)]


def flat(values: Iterable[Any]) -> Iterable[Any]:
    """Yield values; the entries of those that are lists, and the keys of those that are objects."""
    for value in values:
        if isinstance(value, (list, tuple, dict)):
            yield from list(value)[:MAX_LOOKED_AT]
        else:
            yield value


def _name_of(tool: Mapping[Any, Any]) -> Any:
    """Return the name of a function, or of a custom tool, whose input is a text."""
    return _name_in(tool.get("function")) or _name_in(tool.get("custom"))


def _name_in(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) else None
