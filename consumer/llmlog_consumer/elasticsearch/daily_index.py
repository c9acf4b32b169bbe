"""Owns the first use of a daily index: creates it from our template, or checks its mapping."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ElasticsearchError
from llmlog_consumer.elasticsearch.connection import NOT_FOUND
from llmlog_consumer.elasticsearch.error_rules import (
    DELETED_INDEX,
    Disposition,
    Verdict,
    judge_item,
)
from llmlog_consumer.elasticsearch.index_names import is_before

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_consumer.elasticsearch.connection import Answer, Elastic

ALREADY_EXISTS: Final = "resource_already_exists_exception"
_NO_LOGIN: Final = 401
_FORBIDDEN: Final = 403
_WRONG: Final = Verdict(Disposition.CONFIGURATION)
_NOT_NOW: Final = Verdict(Disposition.RETRY)

_TOMBSTONES_PATH: Final = "/_cluster/state/metadata"
_TOMBSTONES_PARAMS: Final = {"filter_path": "metadata.index-graveyard.tombstones.index.index_name"}


class IndexRefusedError(Exception):
    """An index cannot be used now; others can.

    Args:
        verdict: the meaning, for its documents.
        reason: what happened, and what to do.
        status: of the answer; 0 where the fault was found here.
        kind: the answer's `error.type`.
    """

    def __init__(self, verdict: Verdict, reason: str, status: int = 0, kind: str = "") -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.status = status
        self.error = {"type": kind, "reason": reason}


class RequestRefusedError(Exception):
    """The server refuses a request in a way that says nothing about its index."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.describe())
        self.answer = answer


class DailyIndices:
    """The daily indices that one worker has used, and what is done before their first use.

    Args:
        elastic: the connection.
        alias: also the template's name, and the prefix of the indices.

    Attributes:
        newest: name of the newest index, empty where it is unknown. An index before it is not
            created again where it was deleted. The thread that runs the delivery sets it; the bulk
            threads read it.
    """

    def __init__(self, elastic: Elastic, alias: str) -> None:
        self._elastic = elastic
        self._alias = alias
        self._lock = threading.Lock()
        self._known: set[str] = set()  # any thread, under `_lock`
        self._seen: set[str] = set()  # likewise: all that were ever known
        self.newest = ""

    def prepare(self, indices: frozenset[str]) -> dict[str, IndexRefusedError]:
        """Make indices ready for use; return those that cannot be used, and why.

        Raises:
            RequestRefusedError: the server refuses in a way that says nothing about an index.
            ElasticsearchError: what answers is no Elasticsearch.
            Unreachable: Elasticsearch does not answer.
        """
        refused = {}
        for index in indices - self._known:
            try:
                self._prepare_one(index)
            except IndexRefusedError as refusal:
                refused[index] = refusal
        return refused

    def forget(self, index: str) -> None:
        """Check the index again before its next use: it may have been deleted."""
        with self._lock:
            self._known.discard(index)

    def _prepare_one(self, index: str) -> None:
        """Create the index from our template, or check that it has our mapping.

        Without the template Elasticsearch would guess a mapping, and an index keeps its first
        mapping. So: no template, no index.
        """
        found = self._mapping(index)
        # A proxy in Elasticsearch's place may answer 404 too, with a text.
        if found.status == NOT_FOUND and isinstance(found.body, dict):
            self._create(index)
            found = self._mapping(index)
        if llmlog_version(_body_of(found)) is None:
            raise IndexRefusedError(
                _WRONG,
                f"index {index} was not created from our template (no _meta.llmlog_version): "
                "run `pipeline setup`, then delete or reindex it",
            )
        with self._lock:
            self._known.add(index)
            self._seen.add(index)

    def _mapping(self, index: str) -> Answer:
        return self._elastic.request("GET", f"/{index}/_mapping", is_whole=_names_mappings)

    def _create(self, index: str) -> None:
        if self._is_deleted(index):
            raise IndexRefusedError(
                DELETED_INDEX,
                f"index {index} was deleted: no late event creates it again",
                NOT_FOUND,
                "index_not_found_exception",
            )
        template = self._elastic.request("GET", f"/_index_template/{self._alias}")
        if template.status == NOT_FOUND:
            raise IndexRefusedError(
                _WRONG, f"index template {self._alias} is missing: run `pipeline setup`"
            )
        if template.status != _FORBIDDEN:  # who may not read it may still create indices from it
            _body_of(template)
        answer = self._elastic.request("PUT", f"/{index}")
        if answer.error.get("type") != ALREADY_EXISTS:
            _body_of(answer)

    def _is_deleted(self, index: str) -> bool:
        """Tell whether an absent index existed before, and is not to be created again.

        Elasticsearch remembers the last 500 indices that were deleted. Where it does not tell us,
        what this worker has seen counts.
        """
        if not self.newest or not is_before(index, self.newest):
            return False
        if index in self._seen:
            return True
        answer = self._elastic.request("GET", _TOMBSTONES_PATH, params=_TOMBSTONES_PARAMS)
        return answer.good and index in _deleted_names(answer.body)


def _body_of(answer: Answer) -> Any:
    """Return the body of a good answer about one index.

    Raises:
        IndexRefusedError: Elasticsearch refuses for this index, or asks to wait.
        RequestRefusedError: it refuses for another reason, or a server in its place does.
        ElasticsearchError: a good status without a JSON object.
    """
    if answer.good:
        return answer.body
    if answer.ok:
        raise ElasticsearchError(answer.describe())
    kind = str(answer.error.get("type") or "")
    if not kind or answer.status == _NO_LOGIN:
        raise RequestRefusedError(answer)
    advice = judge_item(answer.status, answer.error).advice
    verdict = _NOT_NOW if answer.not_now else Verdict(Disposition.CONFIGURATION, advice=advice)
    raise IndexRefusedError(verdict, str(answer.error.get("reason") or ""), answer.status, kind)


def _names_mappings(body: Any) -> bool:
    indices = body.values() if isinstance(body, dict) else ()
    return any(isinstance(index, dict) and "mappings" in index for index in indices)


def _deleted_names(state: Any) -> set[str]:
    """Return the names of deleted indices in an answer of the cluster state."""
    for name in ("metadata", "index-graveyard", "tombstones"):
        state = state.get(name) if isinstance(state, dict) else None
    tombstones = state if isinstance(state, list) else []
    indices = [one.get("index") for one in tombstones if isinstance(one, dict)]
    return {str(index.get("index_name")) for index in indices if isinstance(index, dict)}


def llmlog_version(mappings: Mapping[str, Any]) -> int | None:
    """Return `_meta.llmlog_version` of the one index in an answer of `GET /index/_mapping`."""
    version: Any = next(iter(mappings.values()), None)
    for name in ("mappings", "_meta", "llmlog_version"):
        version = version.get(name) if isinstance(version, dict) else None
    return version if isinstance(version, int) else None
