"""What a reason tells: the field at fault, its value, and the reason without values. Pure.

Elasticsearch quotes a document's values in its reasons, and so do our own errors: whoever may
see that a letter died need not be somebody who may see what it says.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

HIDDEN: Final = "…"

_PREVIEW: Final = re.compile(r"(?i)(preview of field's value: ).*", re.DOTALL)
# Leftmost wins: what is kept by its words, then whatever stands in quotes or brackets. A value
# may hold quotes itself, so the last quote ends it; too much is hidden rather than too little.
_PARTS: Final = re.compile(
    r"""
    (?P<kept>
        with\ id\ \[?'[A-Za-z0-9_-]{1,64}'\]?
      | ^\[-?\d+:-?\d+\]
      | field="[^"\s]*"
      | (?<!date\ )\b(?:field|type|mapper|mapping\ for|format|index|fields|ids?)\ \[[^\]]*\]
      | \[(?:true|false)\]
    )
    | (?:(?<!\w)|(?<=\bb))(?P<single>'.*'|'.*$)
    | (?P<double>".*"|".*$)
    | (?P<bracket>\[[^\]]*(?:\]|$))
    | (?<=value\ )\([^)]*(?:\)|$)
    """,
    re.DOTALL | re.VERBOSE,
)

_FIELD: Final = (
    re.compile(r"failed to parse field \[([^\]]+)\]"),
    re.compile(r"object mapping for \[[^\]]*\] tried to parse field \[([^\]]+)\]"),
    re.compile(r"object mapping for \[([^\]]+)\]"),
    re.compile(r"immense term in field=\"([^\"]+)\""),
    re.compile(r"mapper \[([^\]]+)\]"),
    re.compile(r"[Tt]he flattened field \[([^\]]+)\]"),
    re.compile(r"\bfield \[([^\]]+)\]"),
    re.compile(r"^TransformError: (event_id|document)\b"),
)
_VALUE: Final = (
    re.compile(r"[Pp]review of field's value: '(.*?)'?$", re.DOTALL),
    re.compile(r"For input string: \"(.*?)\"?$", re.DOTALL),
    re.compile(r"failed to parse date field \[(.*?)\]", re.DOTALL),
    re.compile(r"Failed to parse value \[(.*?)\]", re.DOTALL),
    re.compile(r"Numeric value \((.*?)\)", re.DOTALL),
    re.compile(r"^TransformError: event_id '(.*)' is", re.DOTALL),
    re.compile(r"it begins b['\"](.*)['\"]$", re.DOTALL),
)


class Blame(NamedTuple):
    """What is at fault, where it can be told.

    Attributes:
        field: its name; None where nobody named one.
        value: as far as it was quoted; None where it was not.
    """

    field: str | None
    value: str | None


def redacted(reason: str) -> str:
    """Return a reason without the values that it quotes."""
    return _PARTS.sub(_hide, _PREVIEW.sub(rf"\1'{HIDDEN}'", reason))


def blame(*reasons: str) -> Blame:
    """Find the offending field and its value in what was said, the most telling text first."""
    return Blame(_first(_FIELD, reasons), _first(_VALUE, reasons))


def _hide(match: re.Match[str]) -> str:
    part = match[0]
    if match["kept"] or part == f"'{HIDDEN}'":
        return part
    return f"{part[0]}{HIDDEN}{ {'[': ']', '(': ')'}.get(part[0], part[0]) }"


def _first(patterns: tuple[re.Pattern[str], ...], reasons: tuple[str, ...]) -> str | None:
    found = (pattern.search(reason) for pattern in patterns for reason in reasons)
    return next((match[1] for match in found if match), None)
