"""Owns the look-up which dead letters are recovered: have a document in Elasticsearch."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.elasticsearch.connection import Elastic

MAX_REQUEST_DOCUMENTS: Final = 1000
"""Documents that one request asks for."""


def find_recovered(elastic: Elastic, letters: Iterable[DeadLetter]) -> set[str]:
    """Return the source coordinates of those letters whose document exists.

    Raises:
        ElasticsearchError: the server refuses.
        ElasticsearchUnreachable: the server does not answer.
    """
    targets = (
        (letter.source_coordinates, letter.headers["index"], letter.headers["document_id"])
        for letter in letters
        if letter.headers.get("index") and letter.headers.get("document_id")
    )
    recovered: set[str] = set()
    while chunk := list(islice(targets, MAX_REQUEST_DOCUMENTS)):
        existing = find_existing(elastic, [(index, doc_id) for _, index, doc_id in chunk])
        recovered |= {source for source, index, doc_id in chunk if (index, doc_id) in existing}
    return recovered


def find_existing(elastic: Elastic, documents: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those documents that exist.

    Args:
        elastic: the connection.
        documents: index and id of each, up to `MAX_REQUEST_DOCUMENTS`.
    """
    if not documents:
        return set()
    docs = [{"_index": index, "_id": doc_id, "_source": False} for index, doc_id in documents]
    answer = elastic.demand("POST", "/_mget", body={"docs": docs})
    return {pair for pair, doc in zip(documents, answer["docs"], strict=True) if doc.get("found")}
