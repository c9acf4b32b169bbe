"""Tells which events without a document an ingest pipeline drops, where that is declared.

Nothing is kept of a document that was dropped. So Elasticsearch is asked to run the index's
pipelines over the event's document once more, without writing it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import orjson

from llmlog_consumer.elasticsearch.index_names import home_index
from llmlog_schemas.codec import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llmlog_consumer.checks.proof import Proof
    from llmlog_consumer.checks.sources import Sources
    from llmlog_schemas.codec import Decoder

    Documents = Sequence[tuple[str, Any]]
    """Event id and document of each event."""

_SIMULATED: Final = 100
"""Documents of one request."""
_NO_PIPELINE: Final = "_none"


def count_dropped(proof: Proof, sources: Sources, decoder: Decoder) -> None:
    """Count lost events that a pipeline of their index drops as dropped.

    Args:
        proof: of a round; only events with a row of their own are looked at.
        sources: topic and Elasticsearch.
        decoder: values to events.

    Raises:
        KafkaError, ElasticsearchError: a server refuses.
        Unreachable: a server does not answer.
    """
    pipelines: dict[str, tuple[str, ...]] = {}
    dropped: set[str] = set()
    for index, documents in _documents_by_index(proof, sources, decoder):
        if index not in pipelines:
            pipelines[index] = _pipelines_of(sources, index)
        dropped.update(_dropped_by(sources, index, pipelines[index], documents))
    proof.count_dropped(dropped)


def _documents_by_index(
    proof: Proof, sources: Sources, decoder: Decoder
) -> Iterator[tuple[str, Documents]]:
    """Yield the documents of lost events, some of one index at a time."""
    wanted = _places(proof)
    ranges = {partition: (min(offsets), max(offsets) + 1) for partition, offsets in wanted.items()}
    gathered: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for chunk in sources.read_topic(ranges):
        for record in chunk:
            if record.offset() not in wanted[record.partition()]:
                continue
            try:
                event = decoder.head(record.value())
                document = orjson.loads(event["document"])
            except (DecodeError, orjson.JSONDecodeError):
                continue
            event_id = event["event_id"]
            index = home_index(sources.settings.index, event_id, event["index_place"])
            if index is None:
                continue
            gathered[index].append((event_id, document))
            if len(gathered[index]) == _SIMULATED:
                yield index, gathered.pop(index)
    yield from gathered.items()


def _places(proof: Proof) -> Mapping[int, set[int]]:
    """Return one offset of each lost event, by partition."""
    wanted: dict[int, set[int]] = defaultdict(set)
    for row in proof.lost:
        if row["event_id"] is not None:
            _, partition, offset = row["coordinates"][0].rsplit("/", 2)
            wanted[int(partition)].add(int(offset))
    return wanted


def _pipelines_of(sources: Sources, index: str) -> tuple[str, ...]:
    """Return the names of the pipelines that a document of this index goes through."""
    found: dict[str, Any] = sources.elastic.find(f"/{index}/_settings") or {}
    of_index: dict[str, Any] = next(iter(found.values()), {})
    settings = of_index.get("settings", {}).get("index", {})
    names = (settings.get("default_pipeline"), settings.get("final_pipeline"))
    return tuple(name for name in names if name and name != _NO_PIPELINE)


def _dropped_by(
    sources: Sources, index: str, pipelines: Sequence[str], documents: Documents
) -> Iterator[str]:
    """Yield the ids of the documents that one of the pipelines drops; each gets the one before's.

    Elasticsearch answers null in the place of a document that is dropped.
    """
    for name in pipelines:
        if not documents:
            return
        docs = [{"_index": index, "_id": one, "_source": source} for one, source in documents]
        answer = sources.elastic.demand(
            "POST", f"/_ingest/pipeline/{name}/_simulate", body={"docs": docs}, params={}
        )
        results = answer.get("docs", [])
        pairs = list(zip(documents, results, strict=False))
        yield from (event_id for (event_id, _), result in pairs if result is None)
        documents = [
            (event_id, result["doc"].get("_source", source))
            for (event_id, source), result in pairs
            if isinstance(result, dict) and isinstance(result.get("doc"), dict)
        ]
