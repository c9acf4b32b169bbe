"""Owns the checks before workers start: ends on a wrong deployment, waits for absent servers."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from llmlog_common.errors import KafkaError, KafkaRightMissing, Unreachable
from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.provision.requirements import require_template
from llmlog_consumer.worker.task import Task

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from llmlog_common.settings import Settings
    from llmlog_consumer.elasticsearch.connection import Elastic
    from llmlog_consumer.kafka.admin import KafkaAdmin
    from llmlog_consumer.kafka.offsets import KafkaOffsets

log = structlog.get_logger("llmlog.preflight")

RETRY_SECONDS: Final = 2.0
"""Wait between two attempts to reach a server."""

T = TypeVar("T")


def wait_for(
    request: Callable[[], T],
    stop: threading.Event,
    deadline: float | None = None,
    throttled: ThrottledLog | None = None,
    on_wait: Callable[[str], object] = str,
) -> T | None:
    """Repeat a request until the server answers; return None where `stop` is set before.

    Args:
        request: asks the server.
        stop: ends the waiting; set by a signal handler.
        deadline: monotonic seconds; None to wait without end.
        throttled: takes the reason of the waiting.
        on_wait: is told the reason each time.

    Raises:
        Unreachable: the deadline passed without an answer.
    """
    throttled = throttled or ThrottledLog(log)
    while not stop.is_set():
        try:
            return request()
        except Unreachable as error:
            if deadline is not None and time.monotonic() >= deadline:
                raise
            throttled(logging.WARNING, "waiting", "waiting", why=str(error))
            on_wait(str(error))
        stop.wait(RETRY_SECONDS)
    return None


def require_rights(admin: KafkaAdmin, settings: Settings) -> None:
    """Check that this user may read the source topic and write dead letters.

    Raises:
        KafkaError: it may not read.
        KafkaRightMissing: it may not write dead letters: the first one would be refused.
    """
    if admin.missing_rights(settings.topic, "READ"):
        raise KafkaError(f"this user may not read the topic {settings.topic}: grant READ on it")
    if admin.missing_rights(settings.dlq_topic, "WRITE"):
        raise KafkaRightMissing(
            f"this user may not write to the dead-letter topic {settings.dlq_topic}: "
            "grant WRITE on it"
        )


def check(
    settings: Settings,
    admin: KafkaAdmin,
    offsets: KafkaOffsets,
    elastic: Elastic,
    *,
    latest: bool,
    until_end: bool,
    stop: threading.Event,
    accepted: frozenset[str] = frozenset(),
    deadline: float | None = None,
    on_wait: Callable[[str], object] = str,
) -> Task | None:
    """Check topics, index template and alias, and commit where a new group starts.

    Args:
        settings: as loaded.
        admin: for the topics.
        offsets: of the topic and the group.
        elastic: for the template; it is closed at the end.
        latest: a group without offsets starts at the log's end.
        until_end: the task ends at the log's end of this moment.
        stop: ends the waiting for servers.
        accepted: fingerprints that the circuit breaker lets through as letters.
        deadline: monotonic seconds at which the waiting for servers fails.
        on_wait: is told what is waited for, each time that a server does not answer.

    Returns:
        The workers' task; None where `stop` was set before all servers answered.

    Raises:
        KafkaError, ElasticsearchError, ConfigurationError: the text says what to do.
        Unreachable: the deadline passed.
    """
    throttled = ThrottledLog(log)

    def on_trouble(why: str) -> None:
        throttled(logging.WARNING, "waiting", "waiting", why=why)
        on_wait(why)

    admin.on_trouble = on_trouble
    if settings.schema_registry_url is not None:
        from llmlog_schemas.registry import Registry  # noqa: PLC0415 - few deployments have one

        Registry.from_settings(settings)
    admin.require_properties()

    def check_kafka() -> Task:
        source, letters = admin.require(settings.topic), admin.require(settings.dlq_topic)
        require_rights(admin, settings)
        partitions = range(source.partitions)
        away = source.leaderless
        if unread := offsets.commit_start(
            settings.topic, partitions, latest=latest, leaderless=away
        ):
            log.warning("group has no offsets", group=settings.group, what=unread)
        ends = None
        if until_end:
            logs = offsets.bounds(settings.topic, partitions, away)
            ends = {p: None if log is None else log.end for p, log in logs.items()}
        return Task(dlq_partitions=letters.partitions, until=ends, accepted=accepted)

    def check_elasticsearch() -> bool:
        require_template(elastic, settings.index)
        return True

    try:
        task = wait_for(check_kafka, stop, deadline, throttled, on_wait)
    finally:
        admin.on_trouble = str  # others ask through it later, while workers run
    is_ready = wait_for(check_elasticsearch, stop, deadline, on_wait=on_wait)
    elastic.close()
    return task if is_ready else None
