"""Fakes of the gateway's side: a Kafka client that answers as told, and publishers that use it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from llmlog_common.job_thread import JobThread
from llmlog_common.settings import load
from llmlog_common.throttled_log import GatewayLogger, ThrottledLog
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EncodedEvent
from llmlog_producer.events.snapshot import snapshot
from llmlog_producer.journal.journal import Journal
from llmlog_producer.sending.partitioner import BurstPartitioner
from llmlog_producer.sending.publisher import Publisher
from llmlog_producer.sending.queue import EventQueue
from llmlog_producer.sending.sender import Sender
from llmlog_producer.sending.shutdown import Handover
from llmlog_producer.sending.timing import Timing
from llmlog_producer.sending.wakeup import Wakeup
from llmlog_schemas.codec import Decoder
from support.payloads import payload

TRANSPORT = KafkaError._TRANSPORT
TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE

FAST = Timing(
    max_idle_seconds=0.01,
    poll_seconds=0.01,
    housekeeping_seconds=0.01,
    refusal_pause_seconds=0.05,
    overdue_seconds=0.1,
    rebuild_seconds=0.05,
    topic_retry_seconds=0.05,
    hook_seconds=5.0,
)
"""Everything that takes a second in a gateway takes some milliseconds."""


class FakeCluster:
    """The Kafka cluster that fake clients talk to; a test changes it while they do.

    Attributes:
        up: it acknowledges; otherwise it leaves events unanswered.
        has_topic: the topic exists and brokers answer.
        answer: the code of every answer; None for an acknowledgement.
        partition_count: partitions of the topic; 0: they are not told.
        is_by_key: the user's own partitioner decides.
        leaderless: the partitions that the cluster says have no leader.
        silent_partitions: the partitions whose events are not answered.
        refusing_partitions: codes of the answers of some partitions.
        fatal: raised by each call of every client, until it is None.
        room: events that a client's own queue takes.
        limit: bytes of the largest record that a client takes.
        batch_limit: bytes of the largest batch that the cluster takes.
        topic_bytes: the topic's bound as the cluster tells it; None: it does not.
        delay_seconds: age at which an event is answered.
        silent: until it is set, a lookup of the topic waits.
        lookup_begun: set once the topic is looked up.
        records: the values that were acknowledged.
        partitions: the partition of each of them.
        produced: events that were handed to a client.
        lookups: lookups of the topic.
        bound_lookups: questions for the topic's bound.
        batch_bytes: the bound of a batch that a client was given.
        rebuilds: clients that were replaced after a fatal error.
        clients: the clients, in the order of their creation.
    """

    def __init__(self) -> None:
        self.has_topic = self.up = True
        self.answer: int | None = None
        self.room = self.limit = self.batch_limit = 10**9
        self.topic_bytes: int | None = None
        self.delay_seconds = 0.0
        self.silent: threading.Event | None = None
        self.lookup_begun = threading.Event()
        self.partition_count = 0
        self.is_by_key = False
        self.leaderless: set[int] = set()
        self.silent_partitions: set[int] = set()
        self.refusing_partitions: dict[int, int] = {}
        self.fatal: KafkaError | None = None
        self.records: list[bytes] = []
        self.partitions: list[int] = []
        self.produced = self.lookups = self.bound_lookups = self.rebuilds = 0
        self.batch_bytes: int | None = None
        self.clients: list[FakeKafkaProducer] = []

    def new_client(self, settings: Any, on_report: Any, on_error: Any) -> FakeKafkaProducer:
        """Return a client of this cluster; to be passed as `new_client`."""
        self.clients.append(FakeKafkaProducer(self, on_report, on_error))
        return self.clients[-1]

    def call_ids(self) -> list[str]:
        """Return the call ids of the acknowledged events."""
        return [Decoder().decode(value)["litellm_call_id"] or "" for value in self.records]


class FakeKafkaProducer:
    """In the place of `kafka_producer.KafkaProducer`.

    Attributes:
        waiting: events that are not answered yet, with their values and partitions.
        partitions: as the gateway knows them.
        before_poll: called once, in the middle of the next step.
    """

    def __init__(self, cluster: FakeCluster, on_report: Any, on_error: Any) -> None:
        self.cluster = cluster
        self.on_report = on_report
        self.on_error = on_error
        self.waiting: list[tuple[EncodedEvent, bytes, int]] = []
        self.partitions = BurstPartitioner(is_by_key=cluster.is_by_key)
        self.broken = self.down = self.is_outdated = False
        self.before_poll: Any = None

    def topic_exists(self, timeout: float, *, known: bool) -> bool:
        self.cluster.lookups += 1
        self.cluster.lookup_begun.set()
        if self.cluster.silent:
            self.cluster.silent.wait(30)
        if not self.cluster.has_topic:
            raise KafkaException(KafkaError(TRANSPORT))
        self.partitions.partition_count = self.cluster.partition_count
        self.partitions.leaderless = frozenset(self.cluster.leaderless)
        return True

    def max_message_bytes(self, timeout: float) -> int | None:
        self.cluster.bound_lookups += 1
        return self.cluster.topic_bytes

    def limit_batches(self, topic_bytes: int) -> None:
        self.cluster.batch_bytes = topic_bytes

    def mark_up(self) -> None:
        self.down = False

    def produce(self, event: EncodedEvent, value: bytes, partition: int) -> None:
        self.cluster.produced += 1
        if self.cluster.fatal:
            self.broken = True
            raise KafkaException(self.cluster.fatal)
        if len(self.waiting) >= self.cluster.room:
            raise BufferError
        if len(value) > self.cluster.limit:
            raise KafkaException(KafkaError(TOO_LARGE))
        self.waiting.append((event, value, partition))

    def poll(self, timeout: float) -> None:
        if self.before_poll:
            act, self.before_poll = self.before_poll, None
            act()
        if self.cluster.fatal:
            self.broken = True
            self.on_error(self.cluster.fatal)
        elif self.cluster.up:
            oldest = self.waiting[0][0].sent if self.waiting else 0.0
            if self.waiting and time.monotonic() - oldest < self.cluster.delay_seconds:
                threading.Event().wait(timeout / 10)
                return
            silent = self.cluster.silent_partitions
            answered = [one for one in self.waiting if one[2] not in silent]
            self.waiting = [one for one in self.waiting if one[2] in silent]
            if sum(len(value) for _, value, _ in answered) > self.cluster.batch_limit:
                for event, _, _ in answered:
                    self.on_report(event, KafkaError(TOO_LARGE))
                answered = []
            for event, value, partition in answered:
                self._answer(event, value, partition)
        if timeout:
            threading.Event().wait(timeout / 10)

    def _answer(self, event: EncodedEvent, value: bytes, partition: int) -> None:
        code = self.cluster.refusing_partitions.get(partition, self.cluster.answer)
        if code is None:
            self.cluster.records.append(value)
            self.cluster.partitions.append(partition)
        self.on_report(event, None if code is None else KafkaError(code))

    def purge(self) -> None:
        self.waiting = []

    def rebuild(self) -> None:
        self.cluster.rebuilds += 1
        self.waiting = []
        self.broken = False


class FakeProducer:
    """In the place of confluent-kafka's `Producer`.

    Attributes:
        config: as it was created.
        topics: number of partitions by topic, as a lookup finds them.
        asked: the topic of each lookup; None for all topics.
        produced: the arguments of each `produce`.
        topic_error: what a lookup says of every topic.
        leaderless: numbers of partitions without a leader.
        refusal: raised by `produce` and `poll`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.topics: dict[str, int] = {}
        self.asked: list[str | None] = []
        self.produced: list[dict[str, Any]] = []
        self.topic_error: KafkaError | None = None
        self.leaderless: set[int] = set()
        self.refusal: Exception | None = None

    def list_topics(self, topic: str | None, timeout: float) -> Any:
        self.asked.append(topic)
        topics = {
            name: SimpleNamespace(
                error=self.topic_error,
                partitions={
                    one: SimpleNamespace(leader=-1 if one in self.leaderless else 1)
                    for one in range(number)
                },
            )
            for name, number in self.topics.items()
        }
        return SimpleNamespace(topics=topics)

    def produce(self, topic: str, **arguments: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.produced.append(arguments)

    def poll(self, timeout: float) -> None:
        if self.refusal is not None:
            raise self.refusal

    def purge(self) -> None:
        """Forget everything, without a report."""


class RecordedWakeup(Wakeup):
    """A wake-up that never waits.

    Attributes:
        waits: the seconds of each idle wait.
        pauses: the seconds of each pause in which it gave way.
        wakes: how often it was woken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.pauses: list[float] = []
        self.wakes = 0

    def give_way(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def wake(self) -> None:
        self.wakes += 1

    def idle_wait(self, seconds: float) -> None:
        self.waits.append(seconds)


class Disk(Journal):
    """A journal on a disk that hangs as long as `answers` is not set.

    Attributes:
        answers: set: it takes what it is given.
        is_reached: set once it was called while it hung.
    """

    def __init__(self, folder: Path, max_bytes: int = 1 << 20) -> None:
        super().__init__(folder, max_bytes)
        self.answers, self.is_reached = threading.Event(), threading.Event()

    def open(self) -> None:
        self._answer()
        super().open()

    def append(self, bodies: Any, *, taken: bool) -> Any:
        self._answer()
        return super().append(bodies, taken=taken)

    def adopt(self) -> None:
        self._answer()
        super().adopt()

    def _answer(self) -> None:
        if not self.answers.is_set():
            self.is_reached.set()
            assert self.answers.wait(60)


class InlineJobs(JobThread):
    """A thread of jobs that is none: whoever submits a job does it."""

    def __init__(self) -> None:
        super().__init__("inline")

    def submit(self, job: Callable[[], None]) -> None:
        job()


class LateJobs(JobThread):
    """A thread of jobs that does none before it is told to.

    Attributes:
        jobs: what is to be done.
    """

    def __init__(self) -> None:
        super().__init__("late")
        self.jobs: list[Callable[[], None]] = []

    def submit(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)


class Clock:
    """Monotonic seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Steps:
    """A sender whose steps a test takes by itself, by a clock of its own.

    Attributes:
        client: its Kafka client.
    """

    def __init__(
        self,
        cluster: FakeCluster,
        folder: Path | None,
        *,
        timing: Timing = FAST,
        max_bytes: int = 1 << 20,
        queue: EventQueue | None = None,
        jobs: JobThread | None = None,
    ) -> None:
        self.clock, self.wakeup, self.stats = Clock(), RecordedWakeup(), Stats()
        self.queue = queue or EventQueue()
        self.journal = Journal(folder, max_bytes) if folder else None
        self.handover = Handover(
            self.wakeup,
            hooks_write=False,
            is_enough=lambda: True,
            has_thread=lambda: True,
            clock=self.clock,
        )
        self.sender = Sender(
            load(environ={}),
            self.stats,
            ThrottledLog(GatewayLogger(), self.clock),
            self.queue,
            self.journal,
            wakeup=self.wakeup,
            handover=self.handover,
            timing=timing,
            new_client=cluster.new_client,
            clock=self.clock,
            journal_thread=jobs or InlineJobs(),
        )
        self.client = cluster.clients[-1]

    def step(self, *, background: bool = False) -> None:
        """Take one step."""
        self.sender.step(10.0, background=background)

    def offer(self, *names: str) -> None:
        """Put an event for each call id into the queue."""
        for name in names:
            self.stats.add("accepted")
            self.queue.put(captured(name))

    def pass_time(self, seconds: float, steps: int = 4) -> None:
        """Let so much time pass, in equal parts, with a step after each."""
        for _ in range(steps):
            self.clock.now += seconds / steps
            self.step()


class Gateway:
    """A publisher on a fake cluster, with the objects that a test asks afterwards.

    Attributes:
        publisher: the publisher.
        stats: its counters.
        client: its Kafka client.
    """

    def __init__(
        self,
        cluster: FakeCluster,
        folder: Path,
        journal: str = "spill",
        *,
        timing: Timing = FAST,
        background: bool = True,
        limits: Any = None,
        queue: Any = None,
        disk: Any = None,
        **settings: object,
    ) -> None:
        environ = {"LLMLOG_JOURNAL": journal, "LLMLOG_JOURNAL_DIR": str(folder)}
        environ |= {f"LLMLOG_{name.upper()}": str(value) for name, value in settings.items()}
        self.stats = Stats()
        more = {} if limits is None else {"limits": limits}
        self.publisher = Publisher(
            load(environ=environ),
            self.stats,
            timing=timing,
            background=background,
            queue=queue,
            journal=disk,
            new_client=cluster.new_client,
            **more,
        )
        self.client = cluster.clients[-1]

    def offer(self, *names: str, **fields: object) -> None:
        """Offer an event for each call id; all have to be accepted."""
        for name in names:
            assert self.publisher.offer(captured(name, **fields))

    def counter(self, name: str) -> int:
        """Return a counter."""
        return self.stats.snapshot()[name]

    @property
    def in_journal(self) -> int:
        """Events that the journal holds."""
        return self.counter("in_journal")

    def kill(self) -> None:
        """End it as kill -9 does: nothing is flushed, the kernel drops the locks."""
        self.publisher.stop(30)
        self.publisher.abandon()


def captured(name: str, **fields: object) -> CapturedPayload:
    """Return the copy of a payload, as a hook makes it now."""
    copy, size = snapshot(payload(1, litellm_call_id=name, **fields), without=frozenset())
    return CapturedPayload(copy, "", time.time(), size)
