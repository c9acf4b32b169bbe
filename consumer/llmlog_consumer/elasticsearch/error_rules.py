"""Owns the meaning of each answer of Elasticsearch: two tables, and a function over each. Pure.

The type of an error decides first. Reasons quote a document's own values. So a row that reads the
reason is bound to one type and anchored at the reason's start; `caused_by` is never read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.texts import cut

if TYPE_CHECKING:
    from collections.abc import Mapping


class Disposition(Enum):
    """The next step after an answer."""

    INDEXED = "indexed"
    DUPLICATE = "duplicate"
    RETRY = "retry"
    BISECT = "bisect"
    CHECK = "check"
    PERMANENT = "permanent"
    DROPPED = "dropped"
    CONFIGURATION = "configuration"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A disposition and how to go about it.

    Attributes:
        disposition: the next step.
        pushed_back: the cluster has too much to do: send fewer requests at once.
        bounded: the retry ends after some attempts, and `then` follows.
        then: the step after a bounded retry. PERMANENT means exhausted. It applies only where
            other documents of the same index pass meanwhile. Of CHECK, and of BISECT for a
            document that is alone: the step where the control is refused too.
        patience: attempts of a request that are refused before CHECK asks for a control.
        of_size: the request may be too large: smaller ones are sent where a control passes.
        unclassified: no row matches this answer; counted.
        is_final: the index never takes this document: it does not wait.
        advice: one clause that tells a person what to do.
    """

    disposition: Disposition
    pushed_back: bool = False
    bounded: bool = False
    then: Disposition = Disposition.PERMANENT
    patience: int = 1
    of_size: bool = False
    unclassified: bool = False
    is_final: bool = False
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: an answer of this status, type and start of reason has this verdict.

    Attributes:
        verdict: the meaning.
        error_type: `error.type`; None for any.
        statuses: HTTP statuses; empty for any.
        reason: matched at the start of `error.reason`; None for any.
    """

    verdict: Verdict
    error_type: str | None = None
    statuses: frozenset[int] = frozenset()
    reason: re.Pattern[str] | None = None

    def matches(self, status: int, error_type: str, reason: str) -> bool:
        """Tell whether this row applies to the answer."""
        return (
            (self.error_type is None or self.error_type == error_type)
            and (not self.statuses or status in self.statuses)
            and (self.reason is None or self.reason.match(reason) is not None)
        )


_INDEXED = Verdict(Disposition.INDEXED)
_DUPLICATE = Verdict(Disposition.DUPLICATE)
_RETRY = Verdict(Disposition.RETRY)
_DISK_FULL = Verdict(
    Disposition.RETRY, advice="a disk is above the flood-stage watermark: make room on it"
)
_PUSH_BACK = Verdict(Disposition.RETRY, pushed_back=True)
_BOUNDED = Verdict(Disposition.RETRY, bounded=True)


def _check(advice: str, *, patience: int = 1, of_size: bool = False) -> Verdict:
    """Return the verdict on a request that a control tells about; else the deployment is wrong."""
    return Verdict(
        Disposition.CHECK,
        then=Disposition.CONFIGURATION,
        patience=patience,
        of_size=of_size,
        advice=advice,
    )


def _wait(advice: str = "", *, patience: int, of_size: bool = True) -> Verdict:
    """Return the verdict on a request that a control tells about; else it is waited for."""
    return Verdict(
        Disposition.CHECK,
        then=Disposition.RETRY,
        patience=patience,
        of_size=of_size,
        advice=advice,
    )


MANY: Final = 6
"""Patience with an answer that says nothing of the request."""
_BETWEEN: Final = "it is not Elasticsearch's own: a proxy or a firewall between refuses the request"
_OTHER_SERVER: Final = (
    "it is not Elasticsearch's own: check the host, the port and the path of "
    "LLMLOG_ELASTICSEARCH_URL, and what answers there"
)
_REFUSED_REQUEST = _check("see Elasticsearch's log", patience=MANY)
_UNKNOWN_REQUEST = Verdict(
    Disposition.CHECK, then=Disposition.CONFIGURATION, patience=MANY, unclassified=True
)
_TOO_LARGE = _check("the request is too large for Elasticsearch or a proxy before it", of_size=True)
_GATEWAY = _wait("a proxy between has no answer of Elasticsearch", patience=3, of_size=False)
_GATEWAY_TIMEOUT = _wait("a proxy between does not wait for Elasticsearch's answer", patience=2)
BROKEN_ANSWER: Final = _check(
    "the server is no Elasticsearch, or a proxy cuts its answers short", patience=MANY
)
"""For a 2xx that does not answer every item that was sent."""
FOREIGN_PAGE: Final = _check(
    "it is not Elasticsearch's own: a proxy or a login page answers in its place"
)
"""For a 2xx that holds a page instead of JSON."""
CUT_OFF: Final = _wait(patience=MANY)
"""For a connection that is closed in the middle of a request. Some servers do so when a request is
too large, some firewalls when they dislike it."""
TIMED_OUT: Final = _wait(patience=2)
"""For a request that is not answered in time."""
DELETED_INDEX: Final = Verdict(Disposition.CONFIGURATION, is_final=True)
"""For documents of an index that was deleted, and is not the newest: nothing creates it again."""
_BISECT = Verdict(Disposition.BISECT)
_ABOVE_LIMIT = Verdict(Disposition.BISECT, then=Disposition.RETRY)
_PERMANENT = Verdict(Disposition.PERMANENT)
_UNKNOWN_REFUSAL = Verdict(Disposition.PERMANENT, unclassified=True)
_UNKNOWN = Verdict(Disposition.RETRY, bounded=True, unclassified=True)
_DROPPED = Verdict(Disposition.DROPPED)
DROPPED_ERROR: Final[Mapping[str, Any]] = {
    "type": "",
    "reason": "an ingest pipeline of the index dropped the document; where that is intended, set "
    "LLMLOG_INGEST_DROP=drop",
}
"""What a person reads of a `create` that is answered with 200: Elasticsearch gives no error."""
RENAMED: Final = _PERMANENT
"""For a document that exists under another `_id` than it was sent with. Sent again it may be
doubled, and its event is not found."""


def renamed_error(document_id: str) -> Mapping[str, Any]:
    """Return what a person reads of a document that has got this `_id` on the way."""
    return {
        "type": "",
        "reason": "an ingest pipeline of the index gave the document another _id: take that out of "
        f"the pipeline, delete the document, then replay; it is {document_id!r}",
    }


def _fix(advice: str) -> Verdict:
    return Verdict(Disposition.CONFIGURATION, advice=advice)


def _row(
    verdict: Verdict, error_type: str | None = None, *statuses: int, reason: str | None = None
) -> Rule:
    return Rule(
        verdict, error_type, frozenset(statuses), re.compile(reason, re.DOTALL) if reason else None
    )


# An index name, then the block: the text between the two is a constant of Elasticsearch.
_BLOCKED = r"(index \[[^\]]*\] blocked by: |blocked by: )"

ITEM_RULES: Final[tuple[Rule, ...]] = (
    # Answers about one document: whatever their text says.
    _row(_DUPLICATE, "version_conflict_engine_exception", 409),
    _row(_PERMANENT, "document_parsing_exception", 400),
    _row(_PERMANENT, "mapper_parsing_exception", 400),
    _row(_PERMANENT, "strict_dynamic_mapping_exception", 400),
    _row(_PERMANENT, "invalid_index_name_exception", 400),
    # Too busy.
    _row(_PUSH_BACK, "es_rejected_execution_exception", 429),
    _row(_PUSH_BACK, "circuit_breaking_exception", 429),
    _row(_RETRY, "process_cluster_event_timeout_exception", 429, 503),
    _row(_RETRY, "mapper_exception", reason="timed out while waiting for a dynamic mapping update"),
    # The disk is full; named by the block, because the status changed between versions.
    _row(_DISK_FULL, "cluster_block_exception", 403, 429,
         reason=_BLOCKED + r"\[TOO_MANY_REQUESTS/12/"),
    # A node or a shard is away for now.
    _row(_RETRY, "cluster_block_exception", 503),
    _row(_RETRY, "unavailable_shards_exception", 503),
    _row(_RETRY, "no_shard_available_action_exception", 503),
    _row(_RETRY, "node_closed_exception", 500, 503),
    _row(_RETRY, "node_disconnected_exception", 500, 503),
    _row(_RETRY, "node_not_connected_exception", 500, 503),
    _row(_RETRY, "master_not_discovered_exception", 503),
    # The deployment is wrong, not the document.
    _row(_fix("remove the block from the index"), "cluster_block_exception", 403, 429),
    _row(_fix("check the credentials and their privileges"), "security_exception", 401, 403),
    _row(_fix("run `pipeline setup`"), "index_not_found_exception", 404),
    _row(_fix("open the index"), "index_closed_exception", 400),
    _row(_fix("run `pipeline setup`"), "illegal_argument_exception", 400,
         reason="no write index is defined for alias"),
    _row(_fix("raise cluster.max_shards_per_node or delete old indices"),
         "validation_exception", 400,
         reason=r"Validation Failed: \d+: this action would add \[\d+\] shards?,.*maximum "),
    _row(_fix("point LLMLOG_INDEX at indices, not at a data stream"),
         "illegal_argument_exception", 400, reason="only write ops with an op_type of create"),
    _row(_fix("a plain index has the alias's name: run `pipeline setup`"),
         "invalid_alias_name_exception", 400),
    _row(_fix("create the ingest pipeline or take it out of the template"),
         "illegal_argument_exception", 400, reason=r"pipeline with id \[[^\]]*\] does not exist"),
    # The document, named by a type that the deployment may cause too.
    _row(_PERMANENT, "illegal_argument_exception", 400,
         reason="Document contains at least one immense term"),
    _row(_PERMANENT, "illegal_argument_exception", 400, reason=r"Limit of total fields \["),
    _row(_PERMANENT, "illegal_argument_exception", 400, reason=r"mapper \["),
    _row(_PERMANENT, "illegal_argument_exception", 400, reason="if _id is specified it must "),
    # By status alone.
    _row(_PUSH_BACK, None, 429),
    _row(_RETRY, None, 502, 503, 504),
    _row(_BOUNDED, None, *range(500, 600)),
    _row(_UNKNOWN_REFUSAL, None, *range(400, 500)),
)  # fmt: skip

_CREDENTIALS = _fix("check the credentials and their privileges")
_OTHER_VERSION = _fix("the server is no Elasticsearch that accepts this client")
_PLAIN = ""
"""The type of an error that names none: not Elasticsearch's own."""

REQUEST_RULES: Final[tuple[Rule, ...]] = (
    _row(_TOO_LARGE, None, 413),
    _row(_PUSH_BACK, None, 429),
    # Not Elasticsearch's own: a control tells whether other requests pass.
    _row(_check("LLMLOG_ELASTICSEARCH_URL is redirected: set it to Elasticsearch itself, not to a "
                "page that has moved or asks for a login"), _PLAIN, *range(300, 400)),
    _row(_check("it is not Elasticsearch's own: a proxy between wants credentials, or refuses the "
                "request"), _PLAIN, 401, 407),
    _row(_check(_OTHER_SERVER), _PLAIN, 404, 405, 501),
    _row(_check("it is OpenSearch, an Elasticsearch before 8, or a firewall: Elasticsearch 8 and 9 "
                "accept this client"), _PLAIN, 406),
    _row(_check("a proxy between does not take requests as they are sent: it wants their length"),
         _PLAIN, 411),
    _row(_check("the connection leads to another host than LLMLOG_ELASTICSEARCH_URL names: check "
                "it, and TLS of the proxy between"), _PLAIN, 421),
    _row(_GATEWAY_TIMEOUT, _PLAIN, 408, 460, 499, 504, 522, 524),
    _row(_GATEWAY, _PLAIN, 502, 503, *range(520, 531)),
    _row(_check(_BETWEEN, patience=MANY), _PLAIN, *range(500, 600)),
    _row(_check(_BETWEEN), _PLAIN, *range(400, 500)),
    _row(_UNKNOWN_REQUEST, _PLAIN),
    # Elasticsearch's own.
    _row(_RETRY, "node_closed_exception", 500),
    _row(_RETRY, "node_disconnected_exception", 500),
    _row(_RETRY, "node_not_connected_exception", 500),
    _row(_OTHER_VERSION, "media_type_header_exception"),
    _row(_OTHER_VERSION, None, 406),
    _row(_CREDENTIALS, None, 401, 403),
    _row(_fix("the server is no Elasticsearch, or the URL is wrong"), None, 404, 405, 501),
    _row(_RETRY, None, 502, 503),
    _row(_GATEWAY_TIMEOUT, None, 504),
    _row(_BISECT, None, 400),
    _row(_REFUSED_REQUEST, None, *range(500, 600)),
    _row(_UNKNOWN_REQUEST),
)  # fmt: skip

# A `create` makes a document, 201, or is answered with a conflict. With 200 it did nothing: noop.
_WITHOUT_ERROR: Final[Mapping[int, Verdict]] = {201: _INDEXED, 200: _DROPPED}

# Names and numbers have a bound, because the text is foreign.
_OPERATION_BYTES = re.compile(r"\b(?:[a-z]{1,20}_){0,4}operation_bytes=(\d{1,18})\b")
_LIMIT_BYTES = re.compile(r"\bmax_(?:[a-z]{1,20}_){1,4}bytes=(\d{1,18})\b")


def judge_item(status: int, error: Mapping[str, Any] | None) -> Verdict:
    """Judge one item of a bulk answer.

    Args:
        status: the item's `status`.
        error: the item's `error`; None where there is none.
    """
    if error is None:
        return _WITHOUT_ERROR.get(status, _UNKNOWN)
    return _judge_too_large(status, error) or _first(ITEM_RULES, status, error)


def judge_request(status: int, error: Mapping[str, Any] | None) -> Verdict:
    """Judge the answer to a whole request that was not answered item by item.

    Args:
        status: of the HTTP answer.
        error: the body's `error` object; None where the body has none.
    """
    return _judge_too_large(status, error or {}) or _first(REQUEST_RULES, status, error or {})


def _first(rules: tuple[Rule, ...], status: int, error: Mapping[str, Any]) -> Verdict:
    error_type, reason = _type_and_reason(error)
    return next((r.verdict for r in rules if r.matches(status, error_type, reason)), _UNKNOWN)


def _judge_too_large(status: int, error: Mapping[str, Any]) -> Verdict | None:
    """Return a verdict where waiting cannot help: the request is larger than the limit itself."""
    if status != 429:  # noqa: PLR2004
        return None
    error_type, reason = _type_and_reason(error)
    if error_type == "es_rejected_execution_exception":
        wants = max(map(int, _OPERATION_BYTES.findall(reason)), default=0)
        limits = [int(limit) for limit in _LIMIT_BYTES.findall(reason)]
        return _ABOVE_LIMIT if limits and wants > min(limits) else None
    if error_type == "circuit_breaking_exception":
        wants, limit = _number(error, "bytes_wanted"), _number(error, "bytes_limit")
        # The parent breaker counts the bytes of all requests, and its durability is that of what
        # holds most; a child breaker counts ours alone.
        ours = not reason.startswith("[parent]")
        if ours and (error.get("durability") == "PERMANENT" or 0 < limit < wants):
            return _ABOVE_LIMIT
    return None


def _type_and_reason(error: Mapping[str, Any]) -> tuple[str, str]:
    return cut(str(error.get("type") or "")), cut(str(error.get("reason") or ""))


def _number(error: Mapping[str, Any], name: str) -> int:
    value = error.get(name)
    return value if isinstance(value, int) else 0
