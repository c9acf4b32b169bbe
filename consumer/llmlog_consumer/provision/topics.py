"""Owns the topics that setup creates: their partitions, replicas and retention."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from llmlog_common.kafka_clients import MAX_RECORD_BYTES
from llmlog_consumer.provision.steps import CREATED, DIFFERS, UNCHANGED, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmlog_common.settings import Settings
    from llmlog_consumer.kafka.admin import KafkaAdmin

MIN_DLQ_RETENTION: Final = timedelta(days=30)
"""Letters are kept for at least this long, and never shorter than their records."""
MIN_AUDIT_RETENTION: Final = timedelta(days=365)
"""Who opened contents is kept for at least this long."""
MAX_REPLICAS: Final = 3


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic as setup creates it.

    Attributes:
        name: of the topic.
        partitions: their number.
        replication: replicas of each partition.
        retention: how long it keeps records.
    """

    name: str
    partitions: int
    replication: int
    retention: timedelta

    @property
    def config(self) -> dict[str, str]:
        """Return the topic's configuration."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(int(self.retention / timedelta(milliseconds=1))),
            "max.message.bytes": str(MAX_RECORD_BYTES),
            "min.insync.replicas": str(max(1, min(2, self.replication - 1))),
        }


def plan_topics(settings: Settings, *, brokers: int, partitions: int) -> tuple[TopicPlan, ...]:
    """Return the source topic, the dead-letter topic and the audit topic. Pure.

    Args:
        settings: names, replication, retention.
        brokers: how many there are.
        partitions: of the first two.
    """
    replication = settings.replication or min(MAX_REPLICAS, brokers)
    return (
        TopicPlan(settings.topic, partitions, replication, settings.retention),
        TopicPlan(
            settings.dlq_topic,
            partitions,
            replication,
            max(MIN_DLQ_RETENTION, settings.retention),
        ),
        # One partition: its records are read in the order in which they were written.
        TopicPlan(
            settings.audit_topic, 1, replication, max(MIN_AUDIT_RETENTION, settings.retention)
        ),
    )


def topic_steps(settings: Settings, admin: KafkaAdmin) -> Iterator[Step]:
    """Yield a step for each topic; one that is missing is created.

    Raises:
        KafkaError: the broker refuses.
        KafkaUnreachable: no broker answers.
    """
    existing, brokers = admin.topics()
    there = existing.get(settings.topic)
    partitions = there.partitions if there else settings.partitions
    for plan in plan_topics(settings, brokers=brokers, partitions=partitions):
        what = f"topic {plan.name}"
        wanted = settings.partitions if plan.name == settings.topic else plan.partitions
        if plan.name not in existing:
            detail = (
                f"{plan.partitions} partitions, replication {plan.replication}, "
                f"kept {plan.retention.days} days"
            )
            yield Step(what, CREATED, detail, write=partial(_create, admin, plan))
        elif (has := existing[plan.name].partitions) != wanted:
            yield Step(what, DIFFERS, f"{has} partitions, {wanted} set: left alone")
        else:
            yield Step(what, UNCHANGED)


def _create(admin: KafkaAdmin, plan: TopicPlan) -> str:
    is_ours = admin.create(plan.name, plan.partitions, plan.replication, plan.config)
    return "" if is_ours else "created meanwhile by another setup"
