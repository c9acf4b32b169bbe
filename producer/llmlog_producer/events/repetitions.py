"""Owns where LiteLLM's payload repeats what its messages and its response hold. Pure.

A mode that hides messages or response hides these too, each as a whole.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Repetition(NamedTuple):
    """A place of a payload.

    Attributes:
        path: as in LLMLOG_REDACT_FIELDS.
        of: the fields that it repeats; it is hidden where one of them is.
    """

    path: str
    of: tuple[str, ...]


_ASKED: Final = ("messages",)
_ANSWERED: Final = ("response",)
_BOTH: Final = ("messages", "response")

REPETITIONS: Final = (
    Repetition("metadata.mcp_tool_call_metadata.arguments", _ASKED),
    Repetition("metadata.mcp_tool_call_metadata.result", _ANSWERED),
    Repetition("metadata.vector_store_request_metadata.*.query", _ASKED),
    # What was found goes into the prompt.
    Repetition("metadata.vector_store_request_metadata.*.vector_store_search_response", _BOTH),
    Repetition("metadata.prompt_management_metadata.prompt_variables", _ASKED),
    *(
        Repetition(f"model_parameters.{name}", _ASKED)
        for name in ("instructions", "instruction", "prediction", "query", "documents", "suffix")
    ),
    *(
        Repetition(f"guardrail_information.{entry}{name}", _BOTH)
        for name in ("guardrail_request", "guardrail_response", "match_details")
        for entry in ("*.", "")
    ),
)
