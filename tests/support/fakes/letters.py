"""Dead letters, and what reads and replays them, without servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llmlog_common.settings import load
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.headers import PREFIX, build_headers
from llmlog_consumer.dead_letters.reader import DeadLetters
from llmlog_consumer.elasticsearch.lookup import Found
from llmlog_consumer.outcomes import Outcome
from llmlog_consumer.replay.scan import SHARE_OFFSETS, ReplayScan
from support.messages import Message

SETTINGS = load(environ={})
DLQ_TOPIC = "litellm-logs.dlq"
HOUR_MS = 3_600_000

REFUSED = Cause(
    Stage.INDEX,
    Ending.PERMANENT,
    reason="[1:9] failed to parse field [model] of type [long] in document with id "
    "'AZtXgOIAPqM4wrx7hCk_'. Preview of field's value: 'my secret'",
    es_status=400,
    es_type="document_parsing_exception",
    es_caused_by='illegal_argument_exception: For input string: "my secret"',
    index="litellm-logs-2026.01.31",
    document_id="AZtXgOIAPqM4wrx7hCk_",
    model="gpt-4o",
)
POISON = Cause(Stage.DECODE, Ending.POISON, "DecodeError: the record has no value")

CONNECT_HEADERS = [
    ("__connect.errors.topic", b"orders"),
    ("__connect.errors.partition", b"4"),
    ("__connect.errors.offset", b"77"),
    ("__connect.errors.stage", b"VALUE_CONVERTER"),
    ("__connect.errors.exception.class.name", b"org.example.DataException"),
    ("__connect.errors.exception.message", b"bad 'value'"),
]


def new_letter(
    cause: Cause = REFUSED,
    *,
    source: tuple[str, int, int] = ("litellm-logs", 3, 41),
    source_headers: Sequence[tuple[str, Any]] = (),
    partition: int = 3,
    offset: int = 7,
    at_ms: int = HOUR_MS,
    key: bytes | None = b"k",
    value: bytes | None = b"v",
    group: str = SETTINGS.group,
    source_ms: int = Message().timestamp()[1],
    kind: type[Message] = Message,
) -> Message:
    """Return a letter as it lies on the dead-letter topic.

    Args:
        cause: of the failure.
        source: topic, partition and offset of the record that failed.
        source_headers: the headers that record had, ours of an earlier failure too.
        partition: of the letter.
        offset: of the letter.
        at_ms: epoch milliseconds of the letter.
        key: of the record.
        value: of the record.
        group: in which the record failed.
        source_ms: epoch milliseconds of the record.
        kind: class of the message.
    """
    failed = Message(*source, headers_=list(source_headers), timestamp_=(1, source_ms))
    headers = build_headers(failed, cause, group=group)
    return kind(DLQ_TOPIC, partition, offset, key, value, headers, (1, at_ms))


class UnreadableMessage(Message):
    """A message with a header name that is not UTF-8; asking twice would end the process."""

    asked = 0

    def headers(self) -> Any:
        self.asked += 1
        assert self.asked == 1, "a second question ends the process"
        raise SystemError


class CountingMessage(Message):
    """A message that counts how often any message's headers are read."""

    header_reads = 0

    def headers(self) -> Any:
        CountingMessage.header_reads += 1
        return super().headers()


class FakeTopic:
    """A dead-letter topic that is a list for each partition, read a few letters at a time.

    Attributes:
        logs: the letters of each partition.
        chunks: partition and number of letters of each chunk, in the order of reading.
    """

    def __init__(self, partitions: int = 1, chunk_letters: int = 3) -> None:
        self.logs: dict[int, list[Message]] = {p: [] for p in range(partitions)}
        self.chunks: list[tuple[int, int]] = []
        self._chunk_letters = chunk_letters

    @property
    def ranges(self) -> dict[int, tuple[int, int]]:
        return {p: (0, len(log)) for p, log in self.logs.items()}

    def append(
        self, source: tuple[int, int], *, at: int = 0, partition: int | None = None, **letter: Any
    ) -> Message:
        """Append a letter of a source partition and offset, by default where it belongs.

        Args:
            source: partition and offset of the record that failed.
            at: epoch seconds of the letter.
            partition: of the letter, where another tool wrote it.
            letter: more of `new_letter`.
        """
        if partition is None:
            partition = source[0] % len(self.logs)
        log = self.logs[partition]
        letter = {"source": ("t", *source), "at_ms": at * 1000, **letter}
        message = new_letter(partition=partition, offset=len(log), **letter)
        log.append(message)
        return message

    def append_plain(self, partition: int) -> None:
        """Append a record that is no dead letter."""
        log = self.logs[partition]
        log.append(Message(DLQ_TOPIC, partition, len(log), b"k", b"v", None))

    def read(
        self, _settings: Any, topic: str, ranges: Mapping[int, tuple[int, int]], *, small: bool
    ) -> Iterator[list[Message]]:
        assert topic == DLQ_TOPIC
        assert small, "readers of letters keep memory small"
        for partition, (start, end) in ranges.items():
            for at in range(start, end, self._chunk_letters):
                chunk = self.logs[partition][at : min(at + self._chunk_letters, end)]
                self.chunks.append((partition, len(chunk)))
                yield chunk

    def reader(self, **options: Any) -> DeadLetters:
        return DeadLetters(SETTINGS, ranges=self.ranges, read=self.read, **options)

    def scan(self, wanted: Filter | None = None, share_offsets: int = SHARE_OFFSETS) -> ReplayScan:
        return ReplayScan(
            SETTINGS,
            self.reader(),
            wanted or Filter(),
            read=self.read,
            share_offsets=share_offsets,
        )


class FakeSourceTopic:
    """A source topic of four partitions with one record, as `restore_original` asks for it."""

    def __init__(self, record: Message | None, start: int = 0, end: int = 100) -> None:
        self.record, self._start, self._end = record, start, end
        self.partitions = 4

    def new_admin(self, _settings: Any) -> FakeSourceTopic:
        return self

    def new_offsets(self, _admin: Any) -> FakeSourceTopic:
        return self

    def require(self, _topic: str) -> FakeSourceTopic:
        return self

    def watermarks(self, _topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        return dict.fromkeys(partitions, (self._start, self._end))

    def read_one(self, *_coordinates: Any) -> Message | None:
        return self.record


class FakeLookup:
    """A look-up of documents that knows which events have one, and remembers what it was asked.

    Args:
        ids: of the events that have a document.
        unknown: of the events that cannot be looked up.
    """

    def __init__(self, ids: Iterable[str], unknown: Iterable[str] = ()) -> None:
        self.ids, self.unknown = set(ids), set(unknown)
        self.requests: list[list[str]] = []

    def find(self, ids: Sequence[str]) -> Found:
        self.requests.append(list(ids))
        there = {event_id: ["index"] for event_id in ids if event_id in self.ids}
        return Found(there, {event_id: "closed" for event_id in ids if event_id in self.unknown})


class FakeDelivery:
    """A delivery that settles every record as indexed at once, unless it is paused."""

    pause_reason = unhealthy = ""
    circuit_open = ""
    schema_reason = ""
    is_stuck = False

    def __init__(self, settle: Any) -> None:
        self.settle = settle
        self.closed = False
        self.accepted: list[tuple[Any, list[Any]]] = []

    def accept(self, span: Any, records: Sequence[Any]) -> None:
        self.accepted.append((span, list(records)))
        if not self.pause_reason:
            for record in records:
                self.settle(span, Outcome.INDEXED, 1, len(record.value()))

    def step(self, _wait: float = 0.0) -> None:
        pass

    flush = step

    def close(self) -> None:
        self.closed = True


def our_headers(headers: Sequence[tuple[str, Any]]) -> dict[str, str]:
    """Return our headers as texts, without their prefix."""
    return {
        name.removeprefix(PREFIX): value.decode()
        for name, value in headers
        if name.startswith(PREFIX)
    }
