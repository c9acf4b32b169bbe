"""Owns the cause of a dead letter, and the fingerprint that letters of one cause share. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.texts import MAX_CHARACTERS, cut

if TYPE_CHECKING:
    from collections.abc import Mapping


class Stage(StrEnum):
    """The step at which a record failed; a header value of dead letters."""

    DECODE = "decode"
    TRANSFORM = "transform"
    EXPIRED = "expired"
    OVERSIZE = "oversize"
    INDEX = "index"


class Ending(StrEnum):
    """The reason why a record is not tried again; a header value of dead letters."""

    POISON = "poison"
    PERMANENT = "permanent"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, slots=True)
class Cause:
    """The cause of one dead letter. Its texts are cut: servers and documents wrote them.

    Attributes:
        stage: the step at which the record failed.
        disposition: why it is not tried again.
        exception: class and text of our own error; empty where Elasticsearch refused.
        reason: Elasticsearch's `error.reason`.
        es_status: status of the bulk item; 0 where Elasticsearch did not answer for it.
        es_type: `error.type`.
        es_caused_by: `error.caused_by`, type and reason.
        index: the index that the document was meant for.
        document_id: the id that the document was to have.
        model: model of the event; empty where the event could not be read.
        attempts: how often the document was sent to Elasticsearch.
    """

    stage: Stage
    disposition: Ending
    exception: str = ""
    reason: str = ""
    es_status: int = 0
    es_type: str = ""
    es_caused_by: str = ""
    index: str = ""
    document_id: str = ""
    model: str = ""
    attempts: int = 0

    def __post_init__(self) -> None:
        """Cut the texts: a cause waits in memory for as long as its letter does."""
        for name in ("exception", "reason", "es_type", "es_caused_by", "model"):
            text = getattr(self, name)
            if len(text) > MAX_CHARACTERS:
                object.__setattr__(self, name, cut(text))

    @property
    def message(self) -> str:
        """The error in one line: ours, or Elasticsearch's type and reason."""
        return self.exception or f"{self.es_type}: {self.reason}".removeprefix(": ")

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that all letters of one cause share."""
        return compute_fingerprint(
            self.stage, self.es_type, self.index, self.exception or self.reason
        )


def compute_fingerprint(stage: str, es_type: str, index: str, message: str) -> str:
    """Return the 12 hexadecimal digits of a cause.

    Digits in the index name, quoted values and numbers in the message make no difference.

    Args:
        stage: the step at which the record failed.
        es_type: Elasticsearch's `error.type`.
        index: the index that the document was meant for.
        message: text of the error, ours or Elasticsearch's.
    """
    return _fingerprint(*map(cut, (stage, es_type, index, message)))


@lru_cache(1024)  # computed twice for each letter, and many letters have the same texts
def _fingerprint(stage: str, es_type: str, index: str, message: str) -> str:
    pattern = _NUMBER.sub("#", index)
    seed = f"{stage}|{es_type}|{pattern}|{strip_literals(message)}"
    return hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()[:12]


# What differs between documents that failed of one cause, in the order in which it is removed, and
# what takes its place. Each pattern reads a text once: a quote that is not closed reaches to the
# end of the text. Otherwise each quote would be searched to the end. An apostrophe opens nothing.
_NUMBER: Final = re.compile(r"\d+")
_LITERALS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"(?i)preview of field's value: .*", re.DOTALL), ""),
    (
        re.compile(r"""(?:(?<!\w)|(?<=\bb))'(?:[^'\\]|\\.?)*+'?|"(?:[^"\\]|\\.?)*+"?""", re.DOTALL),
        "?",
    ),
    (re.compile(r"(?<=id )\[?'?[A-Za-z0-9_-]{20}'?\]?"), "?"),
    (re.compile(r"(?<![\w-])[A-Za-z0-9_-]{20}(?![\w-])"), "?"),
    (re.compile(r"(?<=begin with )(?:[0-9a-f]{2}\b ?)++|\b0x[0-9a-f]++"), "# "),
    (_NUMBER, "#"),
)


def strip_literals(reason: str) -> str:
    """Remove what differs between documents that failed of one cause: quoted values, numbers."""
    bare = cut(reason)
    for pattern, replacement in _LITERALS:
        bare = pattern.sub(replacement, bare)
    return bare


def read_es_error(error: Mapping[str, Any]) -> dict[str, str]:
    """Return an Elasticsearch error object as arguments of `Cause`.

    Args:
        error: the `error` of a bulk item, with `type`, `reason` and `caused_by`; all optional.
    """
    caused = error.get("caused_by")
    if not isinstance(caused, dict):  # a proxy in Elasticsearch's place may write anything
        caused = {}
    return {
        "es_type": str(error.get("type", "")),
        "reason": str(error.get("reason", "")),
        "es_caused_by": f"{caused.get('type', '')}: {caused.get('reason', '')}" if caused else "",
    }
