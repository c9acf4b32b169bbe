"""Owns requests to `_bulk`: sends a batch, and gives each item of the answer a verdict.

Runs in the bulk threads. Nothing is dropped here: either each operation has a verdict, or the
whole batch has one.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ElasticsearchCutOff, ElasticsearchError, Unreachable
from llmlog_consumer.elasticsearch.connection import NOT_FOUND
from llmlog_consumer.elasticsearch.error_rules import (
    BROKEN_ANSWER,
    CUT_OFF,
    Disposition,
    Verdict,
    judge_item,
    judge_request,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmlog_consumer.elasticsearch.batch import Batch, Operation
    from llmlog_consumer.elasticsearch.connection import Answer, Elastic

_PARAMS: Final = {
    "filter_path": "errors,items.*.status,items.*.error,items.*._id,items.*.failure_store",
}
CREATED: Final = 201
ALREADY_EXISTS: Final = "resource_already_exists_exception"


class UnexpectedItemsError(Exception):
    """The answer names operations that were not sent: a document reached beyond its line."""


@dataclass(slots=True)
class ItemResult:
    """One operation, the answer to it, and the verdict.

    Attributes:
        operation: as sent.
        verdict: the meaning of the answer.
        status: of the item.
        error: the item's error object; None where there is none.
    """

    operation: Operation
    verdict: Verdict
    status: int
    error: Mapping[str, Any] | None


@dataclass(slots=True)
class BulkResponse:
    """The outcome of one request.

    Attributes:
        batch: as sent.
        all_created: every operation created its document; there are no `items` then.
        items: each operation with its verdict; empty where the request has one verdict.
        verdict: of the request as a whole; None where each item has its own.
        detail: the answer in one line, for logs.
        status: of HTTP; 0 where there was no answer.
        retry_after: seconds that the server asked for.
        failure_store: items accepted into the failure store, where no search finds them.
    """

    batch: Batch
    all_created: bool = False
    items: list[ItemResult] = field(default_factory=list)
    verdict: Verdict | None = None
    detail: str = ""
    status: int = 0
    retry_after: float = 0.0
    failure_store: int = 0


class BulkClient:
    """The bulk requests of one worker into the daily indices.

    The bulk threads call `send`; the thread that runs the delivery calls `forget`.

    Args:
        elastic: the connection.
        alias: also the template's name, and the prefix of the indices.
    """

    def __init__(self, elastic: Elastic, alias: str) -> None:
        self._elastic = elastic
        self._alias = alias
        self._lock = threading.Lock()
        self._known: set[str] = set()  # any thread, under `_lock`

    def send(self, batch: Batch) -> BulkResponse:
        """Send one batch and judge the answer; an answer of any kind is a value.

        Raises:
            UnexpectedItemsError: the answer holds an item that was not sent.
        """
        try:
            for index in batch.indices - self._known:
                self._first_use(index)
            answer = self._elastic.request("POST", "/_bulk", body=batch.body(), params=_PARAMS)
        except ElasticsearchCutOff as error:
            return BulkResponse(batch, verdict=CUT_OFF, detail=str(error))
        except Unreachable as error:
            return BulkResponse(batch, verdict=Verdict(Disposition.RETRY), detail=str(error))
        except ElasticsearchError as error:
            return BulkResponse(
                batch, verdict=Verdict(Disposition.CONFIGURATION), detail=str(error)
            )
        return self._judge(batch, answer)

    def _judge(self, batch: Batch, answer: Answer) -> BulkResponse:
        if not answer.ok:
            return BulkResponse(
                batch,
                verdict=judge_request(answer.status, answer.error),
                detail=answer.describe(),
                status=answer.status,
                retry_after=answer.retry_after,
            )
        if _all_created(answer.body, batch.operations):
            return BulkResponse(batch, all_created=True, status=answer.status)
        results = _results(answer.body)
        if results is None or len(results) < len(batch.operations):
            return BulkResponse(
                batch, verdict=BROKEN_ANSWER, detail="the answer does not hold all items"
            )
        if len(results) > len(batch.operations):
            raise UnexpectedItemsError(
                f"{len(results)} items for {len(batch.operations)} operations"
            )
        response = BulkResponse(batch, status=answer.status)
        for operation, result in zip(batch.operations, results, strict=True):
            if result.get("_id") != operation.document_id:
                raise UnexpectedItemsError(
                    f"item {result.get('_id')!r} in the place of {operation.document_id}"
                )
            status, error = result["status"], result.get("error") or None
            response.items.append(ItemResult(operation, judge_item(status, error), status, error))
            response.failure_store += result.get("failure_store") == "used"
        return response

    def _first_use(self, index: str) -> None:
        """Create the index from our template, or check that it has our mapping.

        Without the template Elasticsearch would guess a mapping, and an index keeps its first
        mapping. So: no template, no index.

        Raises:
            ElasticsearchError: the template is missing, or the index has another mapping.
            Unreachable: Elasticsearch does not answer, or answers "not now".
        """
        if self._elastic.request("GET", f"/{index}/_mapping").status == NOT_FOUND:
            template = self._elastic.request("GET", f"/_index_template/{self._alias}")
            if template.status == NOT_FOUND:
                raise ElasticsearchError(
                    f"index template {self._alias} is missing: run `pipeline setup`"
                )
            answer = self._elastic.request("PUT", f"/{index}")
            if answer.error.get("type") != ALREADY_EXISTS:
                _body_of(answer, f"PUT /{index}")
        mapping = _body_of(self._elastic.request("GET", f"/{index}/_mapping"), f"GET /{index}")
        if llmlog_version(mapping) is None:
            raise ElasticsearchError(
                f"index {index} was not created from our template (no _meta.llmlog_version): "
                "run `pipeline setup`, then delete or reindex it"
            )
        with self._lock:
            self._known.add(index)

    def forget(self, index: str) -> None:
        """Check the index again before its next use: it may have been deleted."""
        with self._lock:
            self._known.discard(index)


def _body_of(answer: Answer, request: str) -> Any:
    """Return the body of a good answer.

    Raises:
        ElasticsearchError: the deployment is wrong, or the body is no JSON object; the text says
            what to do.
        Unreachable: the answer says "not now".
    """
    if answer.good:
        return answer.body
    if answer.not_now:
        raise Unreachable(f"Elasticsearch: {request}: {answer.describe()}")
    verdicts = judge_item(answer.status, answer.error), judge_request(answer.status, answer.error)
    advice = next((f" ({verdict.advice})" for verdict in verdicts if verdict.advice), "")
    raise ElasticsearchError(f"Elasticsearch: {request}: {answer.describe()}{advice}")


def _all_created(body: Any, operations: Sequence[Operation]) -> bool:
    """Tell whether each operation created its document, without reading each item closely."""
    try:
        results = [item["create"] for item in body["items"]]
        ids = [result["_id"] for result in results]
        created = all(result["status"] == CREATED and len(result) == 2 for result in results)  # noqa: PLR2004
    except (KeyError, TypeError):
        return False
    return created and ids == [operation.document_id for operation in operations]


def _results(body: Any) -> list[dict[str, Any]] | None:
    """Return the result of each item of a bulk answer; None where it is no such answer."""
    items = body.get("items") if isinstance(body, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) and item for item in items):
        return None
    results = [next(iter(item.values())) for item in items]
    well_formed = all(
        isinstance(result, dict)
        and isinstance(result.get("status"), int)
        and isinstance(result.get("error") or {}, dict)
        for result in results
    )
    return results if well_formed else None


def llmlog_version(mappings: Mapping[str, Any]) -> int | None:
    """Return `_meta.llmlog_version` of the one index in an answer of `GET /index/_mapping`."""
    version: Any = next(iter(mappings.values()), None)
    for name in ("mappings", "_meta", "llmlog_version"):
        version = version.get(name) if isinstance(version, dict) else None
    return version if isinstance(version, int) else None
