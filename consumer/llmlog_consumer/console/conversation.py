"""Owns the conversation of a call: its messages and its answer, turn by turn. Pure.

Messages are what clients sent: any shape is taken, and what is not understood is shown as JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from llmlog_schemas.limits import CUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_TURNS: Final = 400
MAX_PARTS: Final = 64
MAX_TEXT_CHARACTERS: Final = 20_000
"""Characters of one part that are shown; the raw JSON has the rest."""
_TEXT_KEYS: Final = ("text", "thinking", "refusal", "transcript", "output_text")
_IMAGES: Final = ("image", "image_url", "input_image")
_TOOL_CALLS: Final = ("tool_use", "function_call", "tool_call")
_TOOL_RESULTS: Final = ("tool_result", "function_call_output")
_LONG_DATA: Final = 300
"""Characters of an address or of data that are shown of an image."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a turn.

    Attributes:
        kind: `text`, `thinking`, `tool call`, `tool result`, `image`, `json`.
        text: to show, as it is.
        title: the name of a tool, for example.
        left_out: characters that are not shown.
    """

    kind: str
    text: str
    title: str = ""
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said.

    Attributes:
        role: `user`, `assistant`, `system`, `tool`, or what the client called it.
        parts: of it.
        is_answer: whether the model said it in this call.
    """

    role: str
    parts: list[Part] = field(default_factory=list)
    is_answer: bool = False


def read_conversation(source: Mapping[str, Any]) -> tuple[list[Turn], int]:
    """Return the turns of a call, and how many more there are in the middle.

    Args:
        source: `_source` of its document.
    """
    turns = [*_read_messages(source.get("messages")), *_read_answer(source.get("response"))]
    if len(turns) <= MAX_TURNS:
        return turns, 0
    half = MAX_TURNS // 2
    return [*turns[:half], *turns[-half:]], len(turns) - MAX_TURNS


def _read_messages(messages: Any) -> Iterator[Turn]:
    if messages in (None, "", [], {}):
        return
    for message in messages if isinstance(messages, list) else [messages]:
        if isinstance(message, dict):
            role = message.get("role")
            kind = role if isinstance(role, str) else str(message.get("type") or "input")
            yield Turn(kind[:40], _read_message(message))
        else:
            yield Turn("user", [_text("text", message)])


def _read_answer(response: Any) -> Iterator[Turn]:
    if response in (None, "", [], {}):
        return
    choices = response.get("choices") if isinstance(response, dict) else None
    if isinstance(choices, list):
        for choice in choices:
            message = choice.get("message") if isinstance(choice, dict) else None
            if isinstance(message, dict):
                yield Turn("assistant", _read_message(message), is_answer=True)
            else:
                yield Turn("assistant", [_text("json", choice)], is_answer=True)
        return
    if isinstance(response, dict):
        for name in ("output", "content"):
            if isinstance(response.get(name), list | str):
                yield Turn("assistant", _read_content(response[name]), is_answer=True)
                return
    yield Turn("assistant", _read_content(response), is_answer=True)


def _read_message(message: Mapping[str, Any]) -> list[Part]:
    parts: list[Part] = []
    if message.get("reasoning_content"):
        parts.append(_text("thinking", message["reasoning_content"]))
    content = message.get("content")
    if content not in (None, "", []):
        kind = "tool result" if message.get("role") == "tool" else "text"
        parts += [_text(kind, content)] if isinstance(content, str) else _read_content(content)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        parts.append(_read_tool_call(call))
    if isinstance(message.get("function_call"), dict):
        parts.append(_read_tool_call({"function": message["function_call"]}))
    if not parts:
        known = {name: value for name, value in message.items() if value not in (None, "", [])}
        known.pop("role", None)
        if known:
            parts.append(_text("json", known))
    return parts[:MAX_PARTS]


def _read_content(content: Any) -> list[Part]:
    parts: list[Part] = []
    for item in content[:MAX_PARTS] if isinstance(content, list) else [content]:
        # An answer of the Responses API holds messages, which hold parts.
        inner = item.get("content") if isinstance(item, dict) else None
        if isinstance(inner, list) and item.get("type") == "message":
            parts += [_read_part(one) for one in inner[:MAX_PARTS]]
        else:
            parts.append(_read_part(item))
    return parts


def _read_part(item: Any) -> Part:
    if not isinstance(item, dict):
        return _text("text" if isinstance(item, str) else "json", item)
    kind = str(item.get("type") or "")
    if kind in _IMAGES:
        return _read_image(item)
    if kind in _TOOL_CALLS:
        return _read_tool_call(item)
    if kind in _TOOL_RESULTS:
        return _text("tool result", item.get("content", item.get("output")))
    for key in _TEXT_KEYS:
        if isinstance(item.get(key), str):
            return _text("thinking" if key == "thinking" else "text", item[key])
    return _text("json", item)


def _find_cut(value: Any, levels: int = 3) -> Mapping[str, Any] | None:
    """Return what a gateway's marker says of what it has left out; None where there is none."""
    if not isinstance(value, dict):
        return None
    marker = value.get(CUT)
    if isinstance(marker, dict):
        return marker
    inner = (_find_cut(one, levels - 1) for one in value.values()) if levels > 1 else ()
    return next(filter(None, inner), None)


def _describe_cut(marker: Mapping[str, Any]) -> str:
    size = marker.get("bytes")
    is_size = isinstance(size, int) and not isinstance(size, bool)
    words = [
        str(marker.get("type") or "content"),
        f"{size:,} bytes" if is_size else "",
        f"sha256 {marker['sha256']}" if marker.get("sha256") else "",
    ]
    return f"the gateway has left out: {', '.join(filter(None, words))}"[:_LONG_DATA]


def _read_image(item: Mapping[str, Any]) -> Part:
    if (marker := _find_cut(item)) is not None:
        return Part("image", _describe_cut(marker), "it is not in the document")
    inner = item.get("image_url", item.get("source", item))
    where = inner.get("url", inner) if isinstance(inner, dict) else inner
    part = _text("image", where)
    return Part("image", part.text[:_LONG_DATA], "an image is not shown; it was sent as")


def _read_tool_call(call: Any) -> Part:
    if not isinstance(call, dict):
        return _text("json", call)
    function = call.get("function")
    inner = function if isinstance(function, dict) else call
    arguments = inner.get("arguments", inner.get("input"))
    part = _text("tool call", "" if arguments is None else arguments)
    return Part("tool call", part.text, str(inner.get("name") or "")[:200], part.left_out)


def _text(kind: str, value: Any) -> Part:
    if isinstance(value, dict) and CUT in value and (marker := _find_cut(value)) is not None:
        return Part(kind, _describe_cut(marker))
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return Part(kind, text[:MAX_TEXT_CHARACTERS], left_out=max(0, len(text) - MAX_TEXT_CHARACTERS))
