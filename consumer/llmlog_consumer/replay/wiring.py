"""Owns how a dry run and a replay are put together, for the command line and for the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlog_consumer.delivery.pipeline import Delivery
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.elasticsearch.lookup import DocumentLookup
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.producer import KafkaProducer
from llmlog_consumer.replay.mending import Mending
from llmlog_consumer.replay.plan import SOURCE_TOPIC, DryRun, ReplayPolicy
from llmlog_consumer.replay.replay import (
    MAX_IN_FLIGHT_BYTES,
    MAX_MENDED_BYTES,
    IndexReplay,
    TopicReplay,
)
from llmlog_schemas.codec import Decoder
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letters.mending.changes import Change
    from llmlog_consumer.outcomes import Settle
    from llmlog_consumer.replay.replay import ReplayRun


def new_policy(
    settings: Settings, changes: Sequence[Change] = (), *, by: str = "", force: bool = False
) -> ReplayPolicy:
    """Return which letters are replayed, and in what form.

    Args:
        settings: of the deployment.
        changes: that mend each record.
        by: who mends, for the letter's headers.
        force: also what failed again after three replays.
    """
    if not changes:
        return ReplayPolicy(settings, force)
    decoder = Decoder(Registry.from_settings(settings))
    return ReplayPolicy(settings, force, mending=Mending(changes, decoder, by=by))


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

    is_mended = run.policy.mending is not None
    most = MAX_MENDED_BYTES if is_mended else MAX_IN_FLIGHT_BYTES
    return IndexReplay(run, new_delivery, max_in_flight_bytes=most)
