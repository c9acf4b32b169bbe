"""What has to be right before workers start: wrong ends with an exit code, unreachable waits."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from llmlog_common.errors import Unreachable
from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer import provision
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.worker.worker import Task
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from llmlog_common.settings import Settings

log = structlog.get_logger("llmlog.preflight")

_LOOK_AGAIN: Final = 2.0

T = TypeVar("T")


def wait_for(look: Callable[[], T], stop: threading.Event, deadline: float | None) -> T | None:
    """Look until the server answers; None when told to stop before.

    Raises:
        Unreachable: the deadline (monotonic seconds) passed without an answer.
    """
    throttled = ThrottledLog(log)
    while not stop.is_set():
        try:
            return look()
        except Unreachable as error:
            if deadline is not None and time.monotonic() >= deadline:
                raise
            throttled(logging.WARNING, "waiting", "waiting", why=str(error))
        stop.wait(_LOOK_AGAIN)
    return None


def check(
    settings: Settings,
    *,
    latest: bool,
    until_end: bool,
    stop: threading.Event,
    accepted: frozenset[str] = frozenset(),
    deadline: float | None = None,
) -> Task | None:
    """See that topics, template and alias are as they should be; settle where to begin.

    Returns:
        The workers' task; None when told to stop before everything answered.

    Raises:
        KafkaError, ElasticsearchError, ConfigurationError: with what to do.
        Unreachable: the deadline passed.
    """
    Registry.from_settings(settings)
    elastic = Elastic(settings)
    admin = KafkaAdmin(settings)
    admin.require_properties()

    def kafka() -> Task:
        source, letters = admin.require(settings.topic), admin.require(settings.dlq_topic)
        partitions = range(source.partitions)
        if passed := admin.begin(settings.topic, partitions, latest=latest):
            log.warning("group has no offsets", group=settings.group, what=passed)
        ends = None
        if until_end:
            marks = admin.watermarks(settings.topic, partitions)
            ends = {p: end for p, (start, end) in marks.items() if end > start}
        return Task(dlq_partitions=letters.partitions, until=ends, accepted=accepted)

    def indices() -> bool:
        provision.require_template(elastic, settings.index)
        return True

    task = wait_for(kafka, stop, deadline)
    ready = wait_for(indices, stop, deadline)
    elastic.close()
    return task if ready else None
