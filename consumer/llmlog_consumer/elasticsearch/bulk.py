"""Owns requests to `_bulk`: sends a batch, and gives each item of the answer a verdict.

Runs in the bulk threads. Nothing is dropped here: either each operation has a verdict, or the
whole batch has one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import (
    ElasticsearchCutOff,
    ElasticsearchError,
    ElasticsearchTimedOut,
    Unreachable,
)
from llmlog_consumer.elasticsearch.daily_index import DailyIndices, RequestRefusedError
from llmlog_consumer.elasticsearch.error_rules import (
    BROKEN_ANSWER,
    CUT_OFF,
    FOREIGN_PAGE,
    RENAMED,
    TIMED_OUT,
    Disposition,
    Verdict,
    judge_item,
    judge_request,
    renamed_error,
)
from llmlog_consumer.elasticsearch.foreign_answers import describe_foreign, is_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmlog_consumer.elasticsearch.batch import Batch, Operation
    from llmlog_consumer.elasticsearch.connection import Answer, Elastic
    from llmlog_consumer.elasticsearch.daily_index import IndexRefusedError

BULK_PARAMS: Final = {
    "filter_path": "errors,items.*.status,items.*.error,items.*._id,items.*._index,"
    "items.*.failure_store",
    # An index without its primary shard answers after this time, and delays all documents of its
    # request: Elasticsearch's own minute is as long as our wait for any answer.
    "timeout": "2s",
}
CREATED: Final = 201
_EXISTS: Final = frozenset({Disposition.INDEXED, Disposition.DUPLICATE})
_NO_ANSWER: Final[Mapping[type[Unreachable], Verdict]] = {
    ElasticsearchCutOff: CUT_OFF,
    ElasticsearchTimedOut: TIMED_OUT,
}


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
        unsent: the operations that were not sent, because `items` are of indices that cannot be
            used; None where all were.
        rerouted: documents created in an index that was not asked for, by that index.
        seconds: from the batch's hand-over to a bulk thread until this answer.
    """

    batch: Batch
    all_created: bool = False
    items: list[ItemResult] = field(default_factory=list)
    verdict: Verdict | None = None
    detail: str = ""
    status: int = 0
    retry_after: float = 0.0
    failure_store: int = 0
    unsent: Batch | None = None
    rerouted: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class BulkClient:
    """The bulk requests of one worker into the daily indices.

    The bulk threads call `send`; the thread that runs the delivery calls the other methods.

    Args:
        elastic: the connection.
        alias: also the template's name, and the prefix of the indices.
    """

    def __init__(self, elastic: Elastic, alias: str) -> None:
        self._elastic = elastic
        self._indices = DailyIndices(elastic, alias)

    def set_newest(self, index: str) -> None:
        """Say which index is the newest; see `DailyIndices`."""
        self._indices.newest = index

    def forget(self, index: str) -> None:
        """Check the index again before its next use; see `DailyIndices`."""
        self._indices.forget(index)

    def send(self, batch: Batch) -> BulkResponse:
        """Send one batch and judge the answer; an answer of any kind is a value.

        Raises:
            UnexpectedItemsError: the answer holds an item that was not sent.
        """
        try:
            refused = self._indices.prepare(batch.indices)
            if refused:
                return _without(batch, refused)
            answer = self._elastic.request(
                "POST", "/_bulk", body=batch.body(), params=BULK_PARAMS,
                is_whole=partial(_has_items, len(batch.operations)),
            )  # fmt: skip
        except RequestRefusedError as error:
            return _not_sent(self._judge(batch, error.answer))
        except Unreachable as error:
            verdict = _NO_ANSWER.get(type(error), Verdict(Disposition.RETRY))
            return BulkResponse(batch, verdict=verdict, detail=str(error))
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
        if is_page(answer.body):
            return BulkResponse(
                batch, verdict=FOREIGN_PAGE, status=answer.status,
                detail=f"{answer.status} {describe_foreign(answer.body)}",
            )  # fmt: skip
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
        sent = {operation.document_id for operation in batch.operations}
        for operation, (action, result) in zip(batch.operations, results, strict=True):
            document_id = result.get("_id")
            is_renamed = document_id != operation.document_id
            if is_renamed and (action != "create" or document_id is None or document_id in sent):
                raise UnexpectedItemsError(
                    f"item {document_id!r} in the place of {operation.document_id}"
                )
            status, error = result["status"], result.get("error") or None
            verdict = judge_item(status, error)
            if is_renamed and verdict.disposition in _EXISTS:
                verdict, error = RENAMED, renamed_error(str(document_id))
            response.items.append(ItemResult(operation, verdict, status, error))
            response.failure_store += result.get("failure_store") == "used"
            if (index := _rerouted_to(operation, result)) is not None:
                response.rerouted[index] += 1
        return response


def _has_items(number: int, body: Any) -> bool:
    items = _items(body)
    return isinstance(items, list) and len(items) == number


def _items(body: Any) -> Any:
    return body.get("items") if isinstance(body, dict) else None


def _not_sent(response: BulkResponse) -> BulkResponse:
    """Return the response to a look at an index: no document was sent, and none is at fault."""
    verdict = response.verdict
    if verdict is not None and verdict.disposition is Disposition.CHECK:
        response.verdict = replace(verdict, disposition=verdict.then)
    return response


def _without(batch: Batch, refused: Mapping[str, IndexRefusedError]) -> BulkResponse:
    """Return the response for the operations of refused indices; the others were not sent."""
    response, unsent = BulkResponse(batch), []
    for operation in batch.operations:
        refusal = refused.get(operation.index_name)
        if refusal is None:
            unsent.append(operation)
        else:
            item = ItemResult(operation, refusal.verdict, refusal.status, refusal.error)
            response.items.append(item)
    response.unsent = batch.part(unsent) if unsent else None
    return response


def _all_created(body: Any, operations: Sequence[Operation]) -> bool:
    """Tell whether each operation created its document, without reading each item closely."""
    try:
        results = [item["create"] for item in body["items"]]
        ids = [result["_id"] for result in results]
        indices = [result["_index"] for result in results]
        created = all(result["status"] == CREATED and len(result) == 3 for result in results)  # noqa: PLR2004
    except (KeyError, TypeError):
        return False
    return (
        created
        and ids == [operation.document_id for operation in operations]
        and indices == [operation.index_name for operation in operations]
    )


def _rerouted_to(operation: Operation, result: Mapping[str, Any]) -> str | None:
    """Return the index that an ingest pipeline sent a document to; None where it is ours."""
    index = result.get("_index", operation.index_name)
    return None if index == operation.index_name or result["status"] != CREATED else str(index)


def _results(body: Any) -> list[tuple[str, dict[str, Any]]] | None:
    """Return action and result of each item of a bulk answer; None where it is no such answer."""
    items = _items(body)
    if not isinstance(items, list) or not all(isinstance(item, dict) and item for item in items):
        return None
    results = [next(iter(item.items())) for item in items]
    well_formed = all(
        isinstance(result, dict)
        and isinstance(result.get("status"), int)
        and isinstance(result.get("error") or {}, dict)
        for _, result in results
    )
    return results if well_formed else None
