"""The texts of a call for full-text search: what was asked, answered, called. Pure and bounded.

What was asked begins with the newest turn of the user and goes back in time, the system's
instructions last: of a long conversation the oldest part is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from llmlog_schemas.json_form import dumps, to_text
from llmlog_schemas.limits import (
    MAX_PARSED_CHARACTERS,
    MAX_SEARCH_TEXT_CHARACTERS,
    MAX_SEARCH_TEXT_DEPTH,
    MAX_TOOL_TEXT_CHARACTERS,
    REDACTED,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_SCALARS: Final = frozenset((int, float, bool, type(None)))

# These keys hold what people and models wrote, in every request and response format.
_TEXT_KEYS: Final = frozenset(
    (
        "arguments", "code", "content", "documents", "input", "instructions", "output",
        "output_text", "prompt", "query", "reasoning", "reasoning_content", "refusal", "result",
        "revised_prompt", "system", "text", "thinking", "transcript",
    )
)  # fmt: skip
_ARGUMENTS: Final = ("arguments", "input", "args")
"""Keys of a tool call's arguments, beside its name."""
_SYSTEM_ROLES: Final = frozenset(("system", "developer"))
_TOOL_RESULTS: Final = frozenset(("tool_result", "function_call_output"))
_NO_TEXTS: Final = frozenset(("", REDACTED, "default-message-value"))
"""The last is LiteLLM's, for a call that has no messages."""


def search_texts(
    messages: Any, response: Any, mcp: Any = None, *, has_body: bool = False
) -> dict[str, str]:
    """Return the texts of a call by field; those that are empty are left out.

    Args:
        messages: what was asked.
        response: the answer.
        mcp: LiteLLM's description of a call of an MCP tool.
        has_body: of a pass-through: the text of its one message is the request's body.
    """
    asked, answered = _Texts(), _Texts()
    parsed = readable(response)
    answered.collect(parsed, is_text=True, depth=0)
    if parsed is not response and not answered.pieces:
        answered.collect(response["response"], is_text=True, depth=0)
    if isinstance(mcp, dict):
        asked.collect(mcp, is_text=False, depth=0)
    for turn in _body_in(messages) if has_body else _newest_first(messages):
        if asked.room <= 0:
            break
        asked.collect(turn, is_text=True, depth=1)
    if has_body and not asked.pieces:
        asked.collect(messages, is_text=True, depth=0)
    calls = "\n".join(answered.calls + asked.calls)[:MAX_TOOL_TEXT_CHARACTERS]
    texts = {
        "messages_text": "\n".join(asked.pieces),
        "response_text": "\n".join(answered.pieces),
        "tool_text": calls,
    }
    return {name: text for name, text in texts.items() if text}


def readable(response: Any) -> Any:
    """Return an answer; that of a pass-through, which LiteLLM keeps as a text of JSON, parsed."""
    if type(response) is dict and len(response) == 1 and type(response.get("response")) is str:
        return _parse(response["response"])
    return response


def _newest_first(messages: Any) -> Iterable[Any]:
    """Return the parts of a request in the order in which they are searched."""
    if isinstance(messages, (list, tuple)) and len(messages) > 1:
        return _order(messages)
    return [messages]


def _order(turns: Any) -> list[Any]:
    asked: Any = None
    others: list[Any] = []
    system: list[Any] = []
    for turn in reversed(turns):
        role = _role_of(turn)
        if role == "user" and asked is None and not _is_tool_result(turn.get("content")):
            asked = turn
        elif role in _SYSTEM_ROLES:
            system.append(turn)
        else:
            others.append(turn)
    if asked is None and not system and not any(map(_role_of, turns)):
        return list(turns)  # no conversation: texts to embed, documents to rank
    return [*([] if asked is None else [asked]), *others, *system]


def _role_of(turn: Any) -> Any:
    role = turn.get("role") if isinstance(turn, dict) else None
    return role if isinstance(role, str) else None


def _is_tool_result(content: Any) -> bool:
    """Tell whether a user's turn is nothing but what tools have answered."""
    if not isinstance(content, (list, tuple)) or not content:
        return False
    return all(
        isinstance(block, dict) and str(block.get("type")) in _TOOL_RESULTS for block in content
    )


def _body_in(messages: Any) -> Iterable[Any]:
    """Return the parts of a request whose body is the text of one message."""
    first = messages[0] if isinstance(messages, (list, tuple)) and len(messages) == 1 else None
    content = first.get("content") if isinstance(first, dict) else None
    body = _parse(content) if isinstance(content, str) else None
    if not isinstance(body, dict):
        return _newest_first(messages)
    for key in ("messages", "contents", "input"):
        if isinstance(turns := body.get(key), (list, tuple)):
            return [*_order(turns), {name: value for name, value in body.items() if name != key}]
    return [body]


def _parse(text: str) -> Any:
    """Return what a text of JSON holds; the text where it is none."""
    if text[:1] in {"{", "["} and len(text) <= MAX_PARSED_CHARACTERS:
        try:
            return orjson.loads(text)
        except ValueError:  # cut off, or no JSON
            return text
    return text


class _Texts:
    """The texts of one side of a call.

    Attributes:
        pieces: texts, in the order of the search.
        calls: names and arguments of the tools that it calls.
        room: characters that are left; 0 or less for none.
    """

    __slots__ = ("calls", "pieces", "room")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.calls: list[str] = []
        self.room = MAX_SEARCH_TEXT_CHARACTERS

    def collect(self, value: Any, *, is_text: bool, depth: int) -> None:  # noqa: C901 - one walk
        """Append the texts in a value."""
        if self.room <= 0:
            return
        if isinstance(value, str):
            if is_text:
                self._append(value)
            return
        if depth >= MAX_SEARCH_TEXT_DEPTH:
            return
        if isinstance(value, dict):
            if "name" in value and self._append_call(value):
                return
            for key, item in value.items():
                if type(item) not in _SCALARS:
                    self.collect(item, is_text=key in _TEXT_KEYS, depth=depth + 1)
        elif isinstance(value, (list, tuple)):
            for item in value:
                self.collect(item, is_text=is_text, depth=depth + 1)
        elif callable(dump := getattr(value, "model_dump", None)):
            self.collect(_dump_model(dump), is_text=is_text, depth=depth + 1)

    def _append(self, value: str) -> None:
        # An event stream begins with `data: `; a URI has no blank there.
        if value in _NO_TEXTS or (value.startswith("data:") and value[5:6] != " "):
            return
        self.pieces.append(to_text(value[: self.room]))
        self.room -= len(value) + 1

    def _append_call(self, value: Mapping[Any, Any]) -> bool:
        """Append the call of a tool; False where the object is none."""
        name = value["name"]
        key = next((key for key in _ARGUMENTS if key in value), None)
        if key is None or not isinstance(name, str):
            return False
        arguments = value[key]
        if isinstance(arguments, str):
            text = "" if arguments == REDACTED else arguments
        else:
            text = dumps(arguments).decode() if arguments else ""
        call = f"{'' if name == REDACTED else name} {text}".strip()
        if call:
            self.calls.append(to_text(call[:MAX_TOOL_TEXT_CHARACTERS]))
            self._append(call)
        return True


def _dump_model(dump: Callable[[], Any]) -> Any:
    try:
        return dump()
    except Exception:  # noqa: BLE001 - any object's own code runs here
        return None
