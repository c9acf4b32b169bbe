"""What `verify` and `trace` read: the source topic, the dead letters, the daily indices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmlog_common.errors import ElasticsearchError, ElasticsearchUnreachable
from llmlog_consumer.dead_letters.reader import DeadLetters
from llmlog_consumer.elasticsearch.connection import REQUEST_TIMEOUT_SECONDS
from llmlog_consumer.elasticsearch.index_names import daily_indices
from llmlog_consumer.elasticsearch.patience import PatientElastic
from llmlog_consumer.kafka import reader as topic_reader
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.gaps import AcceptedGaps
from llmlog_consumer.kafka.offsets import KafkaOffsets
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llmlog_common.settings import Settings
    from llmlog_consumer.elasticsearch.connection import Elastic
    from llmlog_consumer.kafka_record import KafkaRecord
    from llmlog_schemas.codec import SchemaSource

OnProgress = Callable[[str, int, int], None]
"""Called with a step's name, how much of it is done, and its total (0: unknown)."""


@dataclass(frozen=True)
class Sources:
    """The servers of one deployment, as a check reads them. Nothing is written.

    Attributes:
        settings: topics, group, index.
        offsets: of the source topic and the group.
        gaps: that an operator accepted.
        elastic: for documents.
        registry: for values framed with a schema id; None without a Schema Registry.
        on_progress: called while a topic is read.
    """

    settings: Settings
    offsets: KafkaOffsets
    gaps: AcceptedGaps
    elastic: Elastic
    registry: SchemaSource | None
    on_progress: OnProgress

    @classmethod
    def connect(
        cls,
        settings: Settings,
        on_progress: OnProgress,
        *,
        timeout: float = REQUEST_TIMEOUT_SECONDS,
        announce: Callable[[str], None] = lambda _: None,
    ) -> Sources:
        """Make the clients that the settings describe.

        Args:
            settings: of the deployment.
            on_progress: called while a topic is read.
            timeout: seconds after which an answer of Elasticsearch counts as lost.
            announce: is told once what a request waits for.

        Raises:
            ConfigurationError: a setting cannot be used as it is.
        """
        admin = KafkaAdmin(settings)
        return cls(
            settings,
            KafkaOffsets(admin),
            AcceptedGaps(admin),
            PatientElastic(settings, timeout=timeout, announce=announce),
            Registry.from_settings(settings),
            on_progress,
        )

    def read_topic(self, ranges: Mapping[int, tuple[int, int]]) -> Iterator[list[KafkaRecord]]:
        """Yield the source topic's records in chunks.

        Args:
            ranges: first and next-after-last offset of each partition.

        Raises:
            KafkaError: the broker refuses, or the topic was recreated meanwhile.
            KafkaUnreachable: no broker answers.
        """
        total, done = sum(max(0, end - start) for start, end in ranges.values()), 0
        for chunk in topic_reader.read(self.settings, self.settings.topic, ranges):
            yield chunk
            done += len(chunk)
            self.on_progress("reading the topic", done, total)

    def dead_letters(self, since_ms: int | None = None) -> DeadLetters:
        """Return the dead letters that are on their topic now.

        Args:
            since_ms: epoch milliseconds; letters that were written before are left out.

        Raises:
            KafkaError: the topic is missing, or the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        return DeadLetters(self.settings, since_ms=since_ms, progress=self.on_progress)

    def refresh(self) -> None:
        """Make everything that was indexed until now visible to `search`."""
        self.elastic.request("POST", f"/{daily_indices(self.settings.index)}/_refresh")

    def search(
        self, body: Mapping[str, Any], *, hit_fields: tuple[str, ...] = ()
    ) -> list[dict[str, Any]]:
        """Return the hits of one search over all daily indices of this deployment.

        An answer without some of the shards is an error: a missing shard may hold the document.

        Args:
            body: of the search.
            hit_fields: the fields of a hit that are returned; empty for all.

        Raises:
            ElasticsearchUnreachable: no answer, or one that leaves shards out.
            ElasticsearchError: Elasticsearch refuses.
        """
        params = {"allow_partial_search_results": "false"}
        if hit_fields:
            fields = [f"hits.hits.{name}" for name in hit_fields]
            params["filter_path"] = ",".join((*fields, "_shards.failed", "timed_out"))
        path = f"/{daily_indices(self.settings.index)}/_search"
        answer = self.elastic.demand("POST", path, body=body, params=params)
        failed_shards = answer.get("_shards", {}).get("failed", 0)
        if failed_shards or answer.get("timed_out"):
            raise ElasticsearchUnreachable(
                f"Elasticsearch left {failed_shards or 'some'} shards out of a search of {path}: "
                "run this again when the cluster is green"
            )
        # `filter_path` leaves an empty list of hits out, but never what it was asked about shards.
        if "_shards" not in answer:
            raise ElasticsearchError(f"Elasticsearch: POST {path}: no answer to a search")
        hits: list[dict[str, Any]] = answer.get("hits", {}).get("hits", [])
        return hits
