"""Owns the reading of error reasons: the offending field, its value, and redaction. Pure.

Elasticsearch quotes a document's values in its reasons, and so do our own errors. A reader who may
know that a record failed need not be allowed to see its contents: so values are redacted.

The texts are cut, and the time of every pattern grows with the length of its text, not faster: a
reason may quote megabytes that were written to keep us busy.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from llmlog_common.texts import cut, is_cut

HIDDEN: Final = "…"

_PREVIEW: Final = re.compile(r"(?i)(preview of field's value: ).*", re.DOTALL)


def _parts(single: str, double: str) -> re.Pattern[str]:
    """Return the pattern of what a reason may quote.

    The leftmost match wins. `keep` names no value; everything else in quotes or brackets is
    hidden. What is kept in brackets holds no bracket: else each one would be searched to the end.
    """
    return re.compile(
        rf"""
        (?P<keep>
            with\ id\ \[?'[A-Za-z0-9_-]{{1,64}}'\]?
          | ^\[-?\d+:-?\d+\]
          | field="[^"\s]*"
          | (?<!date\ )\b(?:field|type|mapper|mapping\ for|format|index|fields|ids?)\ \[[^\[\]]*\]
          | \[(?:true|false)\]
          | (?<=blocked\ by:\ )(?:\[[A-Z_]{{1,30}}/\d{{1,3}}/[^\[\]]{{1,200}}\];?)+
        )
        | (?:(?<!\w)|(?<=\bb))(?:{single})
        | (?:{double})
        | \[[^\]]*(?:\]|$)
        | (?<=value\ )\([^)]*(?:\)|$)
        """,
        re.DOTALL | re.VERBOSE,
    )


# A value may hold quotes itself, so the last quote ends it: rather too much is hidden than too
# little. Where the end of a text is missing, the last quote may be one within the value.
_PARTS: Final = _parts(single="'.*'|'.*$", double='".*"|".*$')
_PARTS_OF_A_CUT_TEXT: Final = _parts(single="'.*", double='".*')

# A name or a value has a bound. Without one, each repetition of the words before it would be
# searched to the end of the text.
_NAME: Final = r"([^\]]{1,500})"
_FIELD: Final = (
    re.compile(rf"failed to parse field \[{_NAME}\]"),
    re.compile(rf"object mapping for \[[^\]]{{0,500}}\] tried to parse field \[{_NAME}\]"),
    re.compile(rf"object mapping for \[{_NAME}\]"),
    re.compile(r"immense term in field=\"([^\"]{1,500})\""),
    re.compile(rf"mapper \[{_NAME}\]"),
    re.compile(rf"[Tt]he flattened field \[{_NAME}\]"),
    re.compile(rf"\bfield \[{_NAME}\]"),
    re.compile(r"^TransformError: (event_id|document)\b"),
)
_VALUE: Final = (
    re.compile(r"[Pp]review of field's value: '(.*?)'?$", re.DOTALL),
    re.compile(r"For input string: \"(.*?)\"?$", re.DOTALL),
    re.compile(r"failed to parse date field \[([^\]]{0,500})\]"),
    re.compile(r"Failed to parse value \[([^\]]{0,500})\]"),
    re.compile(r"Numeric value \(([^)]{0,500})\)"),
    re.compile(r"^TransformError: event_id '(.*)' is", re.DOTALL),
    re.compile(r"^TransformError: document is no JSON object: it begins b['\"](.*)['\"]$"),
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
    text = cut(reason)
    parts = _PARTS_OF_A_CUT_TEXT if is_cut(text) else _PARTS
    return parts.sub(_hide, _PREVIEW.sub(rf"\1'{HIDDEN}'", text))


def find_offending_field(*reasons: str) -> OffendingField:
    """Find the field, and its value, that an error blames.

    Args:
        reasons: texts of one error, the most telling first.
    """
    texts = tuple(map(cut, reasons))
    return OffendingField(_search(_FIELD, texts), _search(_VALUE, texts))


def _hide(match: re.Match[str]) -> str:
    part = match[0]
    if match["keep"] or part == f"'{HIDDEN}'":
        return part
    return f"{part[0]}{HIDDEN}{ {'[': ']', '(': ')'}.get(part[0], part[0]) }"


def _search(patterns: tuple[re.Pattern[str], ...], reasons: tuple[str, ...]) -> str | None:
    matches = (pattern.search(reason) for pattern in patterns for reason in reasons)
    return next((match[1] for match in matches if match), None)
