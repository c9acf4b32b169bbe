"""What `verify` and `trace` read: the source topic, the dead letters, the documents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmlog_consumer.dead_letters.reader import DeadLetters
from llmlog_consumer.elasticsearch.connection import REQUEST_TIMEOUT_SECONDS
from llmlog_consumer.elasticsearch.lookup import DocumentLookup
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
        """Return the dead letters that are on their topic now; by default this group's alone.

        Args:
            since_ms: epoch milliseconds; letters that were written before are left out.

        Raises:
            KafkaError: the topic is missing, or the broker refuses.
            KafkaUnreachable: no broker answers.
        """
        return DeadLetters(self.settings, since_ms=since_ms, progress=self.on_progress)

    def documents(self, **options: Any) -> DocumentLookup:
        """Return the look-up of documents, as the alias is now.

        Args:
            options: of `DocumentLookup`.
        """
        return DocumentLookup(self.elastic, self.settings.index, **options)
