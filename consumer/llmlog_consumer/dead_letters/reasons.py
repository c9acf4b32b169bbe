"""Owns the reading of error reasons: the offending field, its value, and redaction. Pure.

Elasticsearch quotes a document's values in its reasons, and so do our own errors. A reader who may
know that a record failed need not be allowed to see its contents: so values are redacted.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

HIDDEN: Final = "…"

_PREVIEW: Final = re.compile(r"(?i)(preview of field's value: ).*", re.DOTALL)
# The leftmost match wins. A `keep` pattern names no value; everything else in quotes or brackets is
# hidden. A value may hold quotes itself, so the last quote ends it: rather too much is hidden than
# too little.
_PARTS: Final = re.compile(
    r"""
    (?P<keep>
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


class OffendingField(NamedTuple):
    """The field that a reason blames.

    Attributes:
        name: of the field; None where the reason names none.
        value: as far as the reason quotes it; None where it does not.
    """

    name: str | None
    value: str | None


def redact(reason: str) -> str:
    """Return a reason without the values that it quotes."""
    return _PARTS.sub(_hide, _PREVIEW.sub(rf"\1'{HIDDEN}'", reason))


def find_offending_field(*reasons: str) -> OffendingField:
    """Find the field, and its value, that an error blames.

    Args:
        reasons: texts of one error, the most telling first.
    """
    return OffendingField(_search(_FIELD, reasons), _search(_VALUE, reasons))


def _hide(match: re.Match[str]) -> str:
    part = match[0]
    if match["keep"] or part == f"'{HIDDEN}'":
        return part
    return f"{part[0]}{HIDDEN}{ {'[': ']', '(': ')'}.get(part[0], part[0]) }"


def _search(patterns: tuple[re.Pattern[str], ...], reasons: tuple[str, ...]) -> str | None:
    matches = (pattern.search(reason) for pattern in patterns for reason in reasons)
    return next((match[1] for match in matches if match), None)
