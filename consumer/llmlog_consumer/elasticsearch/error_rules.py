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
    PERMANENT = "permanent"
    CONFIGURATION = "configuration"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A disposition and how to go about it.

    Attributes:
        disposition: the next step.
        pushed_back: the cluster has too much to do: send fewer requests at once.
        bounded: the retry ends after some attempts, and `then` follows.
        then: the step after a bounded retry. PERMANENT means exhausted. It applies only where
            other documents of the same index pass meanwhile.
        unclassified: no row matches this answer; counted.
        is_final: the index never takes this document: it does not wait.
        advice: one clause that tells a person what to do.
    """

    disposition: Disposition
    pushed_back: bool = False
    bounded: bool = False
    then: Disposition = Disposition.PERMANENT
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
_BOUNDED_REQUEST = Verdict(Disposition.RETRY, bounded=True, then=Disposition.BISECT)
_UNKNOWN_REQUEST = Verdict(
    Disposition.RETRY, bounded=True, then=Disposition.BISECT, unclassified=True
)
BROKEN_ANSWER: Final = Verdict(
    Disposition.RETRY,
    bounded=True,
    then=Disposition.CONFIGURATION,
    advice="the server is no Elasticsearch, or a proxy cuts its answers short",
)
"""For a 2xx that does not answer every item that was sent."""
CUT_OFF: Final = Verdict(Disposition.RETRY, bounded=True, then=Disposition.BISECT)
"""For a connection that is closed in the middle of a request. Some servers do so when a request is
too large. A document that is alone in its request is sent again for as long as it takes."""
DELETED_INDEX: Final = Verdict(Disposition.CONFIGURATION, is_final=True)
"""For documents of an index that was deleted, and is not the newest: nothing creates it again."""
_BISECT = Verdict(Disposition.BISECT)
_PERMANENT = Verdict(Disposition.PERMANENT)
_UNKNOWN_REFUSAL = Verdict(Disposition.PERMANENT, unclassified=True)
_UNKNOWN = Verdict(Disposition.RETRY, bounded=True, unclassified=True)


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

REQUEST_RULES: Final[tuple[Rule, ...]] = (
    _row(_BISECT, None, 413),
    _row(_RETRY, "node_closed_exception", 500),
    _row(_RETRY, "node_disconnected_exception", 500),
    _row(_RETRY, "node_not_connected_exception", 500),
    _row(
        _fix("the server is no Elasticsearch that accepts this client"),
        "media_type_header_exception",
    ),
    _row(_fix("the server is no Elasticsearch that accepts this client"), None, 406),
    _row(_fix("check the credentials and their privileges"), None, 401, 403),
    _row(_fix("the server is no Elasticsearch, or the URL is wrong"), None, 404, 405, 501),
    _row(_PUSH_BACK, None, 429),
    _row(_RETRY, None, 502, 503, 504),
    # Elasticsearch names the type of its error; a proxy in its place does not.
    _row(_fix("the server is no Elasticsearch"), "", 400),
    _row(_BISECT, None, 400),
    _row(_BOUNDED_REQUEST, None, *range(500, 600)),
    _row(_UNKNOWN_REQUEST),
)

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
        return _INDEXED if status in (200, 201) else _UNKNOWN
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
        return _BISECT if limits and wants > min(limits) else None
    if error_type == "circuit_breaking_exception":
        wants, limit = _number(error, "bytes_wanted"), _number(error, "bytes_limit")
        # The parent breaker counts the bytes of all requests; a child breaker counts ours alone.
        ours = not reason.startswith("[parent]")
        if error.get("durability") == "PERMANENT" or (ours and 0 < limit < wants):
            return _BISECT
    return None


def _type_and_reason(error: Mapping[str, Any]) -> tuple[str, str]:
    return cut(str(error.get("type", ""))), cut(str(error.get("reason", "")))


def _number(error: Mapping[str, Any], name: str) -> int:
    value = error.get(name)
    return value if isinstance(value, int) else 0
