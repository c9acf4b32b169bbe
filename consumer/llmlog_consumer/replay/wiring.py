"""Owns how a dry run and a replay are put together, for the command line and for the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlog_consumer.delivery.pipeline import Delivery
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.elasticsearch.lookup import DocumentLookup
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.producer import KafkaProducer
from llmlog_consumer.replay.plan import SOURCE_TOPIC, DryRun
from llmlog_consumer.replay.replay import IndexReplay, TopicReplay
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from llmlog_common.settings import Settings
    from llmlog_consumer.outcomes import Settle
    from llmlog_consumer.replay.plan import ReplayPolicy
    from llmlog_consumer.replay.replay import ReplayRun


def new_dry_run(policy: ReplayPolicy, elastic: Elastic | None) -> DryRun:
    """Return the dry run of a replay into the index; without a connection, of one onto a topic."""
    settings = policy.settings
    lookup = None if elastic is None else DocumentLookup(elastic, settings.index)
    return DryRun(policy, lookup, Registry.from_settings(settings))


def new_replay(
    settings: Settings, run: ReplayRun, to_topic: str | None = None
) -> IndexReplay | TopicReplay:
    """Return the replay.

    Args:
        settings: of the deployment.
        run: which letters, how fast, until when.
        to_topic: the target; None for the index, `SOURCE_TOPIC` for each record's own topic.

    Raises:
        KafkaError: the dead-letter topic is missing.
    """
    if to_topic is not None:
        topic = None if to_topic == SOURCE_TOPIC else to_topic
        return TopicReplay(run, topic, KafkaProducer(settings))
    partitions = KafkaAdmin(settings).require(settings.dlq_topic).partitions
    elastic = Elastic(settings)  # not a patient one: the delivery engine sends again what it sends

    def new_delivery(settle: Settle) -> Delivery:
        return Delivery.from_settings(settings, elastic, partitions, settle)

    return IndexReplay(run, new_delivery)
