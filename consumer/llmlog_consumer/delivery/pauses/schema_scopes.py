"""Owns the questions to the Schema Registry, and the schemas that it has returned.

A registry that hangs must not stand in the way of records whose schema is known. So it is asked
in a thread of its own, one question at a time, and the decoder is told to wait meanwhile.
"""

from __future__ import annotations

import logging
import queue
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import structlog

from llmlog_common.errors import ConfigurationError, Unreachable
from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.delivery.pauses.schema_holds import MAX_HELD_BYTES, SchemaHolds
from llmlog_schemas.codec import DecodeError, SchemaPendingError, UnknownSchemaError, check_schema

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from llmlog_consumer.delivery.pauses.held_records import HeldRecord
    from llmlog_consumer.kafka_record import KafkaRecord
    from llmlog_consumer.offset_tracker import Span
    from llmlog_schemas.registry import Registry

log = structlog.get_logger("llmlog.delivery")

_NOT_SET = "no Schema Registry is set: set LLMLOG_SCHEMA_REGISTRY_URL"


class SchemaScopes:
    """The schemas by id, and the records that wait for one: a `codec.SchemaSource`.

    The thread that runs the delivery owns it; the thread of the questions only asks.

    Args:
        registry: None where none is set.
        max_bytes: weight of held records at which the partitions that they come from pause.
        executor: asks; by default a thread, started with the first question.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        registry: Registry | None,
        *,
        max_bytes: int = MAX_HELD_BYTES,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._executor = executor
        self._clock = clock
        self._holds = SchemaHolds(max_bytes)
        self._texts: dict[int, str] = {}
        self._answers: queue.SimpleQueue[tuple[int, Future[str]]] = queue.SimpleQueue()
        self._throttled = ThrottledLog(log, clock)

    @property
    def reason(self) -> str:
        """Say for which ids records are held, why, and what to do; empty where all is well."""
        return self._holds.reason

    @property
    def reason_for_person(self) -> str:
        """Say the same of the ids that waiting alone does not help."""
        return self._holds.reason_for_person

    @property
    def partitions(self) -> Counter[int]:
        """How many records of each partition are held."""
        return self._holds.partitions

    @property
    def held_ids(self) -> int:
        """For how many ids records are held."""
        return self._holds.ids

    @property
    def full_partitions(self) -> AbstractSet[int]:
        """The partitions to pause: so much is held of them."""
        return set(self._holds.partitions) if self._holds.is_full else frozenset()

    def schema_text(self, schema_id: int) -> str:
        """Return the schema of an id; see `codec.SchemaSource`.

        Raises:
            DecodeError: the registry does not know the id, as it has said more than once.
            SchemaPendingError: it is not known yet; its record has to be held.
        """
        if schema_id in self._texts:
            return self._texts[schema_id]
        if why := self._holds.unknown(schema_id, self._clock()):
            raise UnknownSchemaError(why)
        raise SchemaPendingError(schema_id)

    def hold(self, schema_id: int, span: Span, record: KafkaRecord) -> None:
        """Hold a record until the schema of its id is known."""
        self._holds.hold(schema_id, span, record)

    def drop_released(self) -> None:
        """Drop the records that a rebalance took away."""
        self._holds.drop_released()

    def step(self) -> list[HeldRecord]:
        """Ask what is due, and return the records whose wait is over: for a schema, or a letter."""
        if not self._holds and self._answers.empty():
            return []
        now = self._clock()
        for schema_id in self._holds.take_due(now):
            self._ask(schema_id)
        over: list[HeldRecord] = []
        while not self._answers.empty():
            schema_id, answer = self._answers.get()
            over += self._read(schema_id, answer, now)
        return over

    def close(self) -> None:
        """Stop asking, without waiting for an answer."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _ask(self, schema_id: int) -> None:
        if self._registry is None:
            answer: Future[str] = Future()
            answer.set_exception(ConfigurationError(_NOT_SET))
        else:
            self._executor = self._executor or ThreadPoolExecutor(1, "llmlog-registry")
            answer = self._executor.submit(self._registry.schema_text, schema_id)
        answer.add_done_callback(partial(self._put, schema_id))

    def _put(self, schema_id: int, answer: Future[str]) -> None:
        if not answer.cancelled():
            self._answers.put((schema_id, answer))

    def _read(self, schema_id: int, answer: Future[str], now: float) -> list[HeldRecord]:
        """Act on an answer; return the records whose wait is over."""
        reason_before = self._holds.reason
        try:
            text = answer.result()
            check_schema(schema_id, text)
        except UnknownSchemaError as error:
            over = self._holds.record_unknown(schema_id, str(error), now)
        except Unreachable as error:
            self._holds.record_unreachable(schema_id, str(error), now)
            over = []
        except (ConfigurationError, DecodeError) as error:
            self._holds.record_refused(schema_id, str(error), now)
            over = []
        else:
            self._texts[schema_id] = text
            over = self._holds.record_known(schema_id)
        if over and reason_before:
            log.info("records wait no more for a schema", schema_id=schema_id, records=len(over))
        if reason := self._holds.reason:
            self._throttled(logging.ERROR, "schema", "records wait for a schema", why=reason)
        return over
