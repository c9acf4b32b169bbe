"""Partitions that a real broker cannot give as they were written: each stands still alone."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from llmlog_common.settings import Settings, load
from llmlog_consumer.kafka.consumer import GroupConsumer, Timing
from llmlog_consumer.kafka.errors import FencedError
from llmlog_consumer.kafka.watch.damage import DamageSearch
from llmlog_consumer.kafka.watch.partition_watch import WatchTiming
from llmlog_consumer.offset_tracker import Commit
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import free_ports
from support.pipeline import wait_until

HEADER_BYTES = 61
"""Of a batch, before its records."""
BATCH_RECORDS = 100


@dataclass
class Member:
    """A member that keeps, and commits, what it was given."""

    settings: Settings
    source: GroupConsumer = field(init=False)
    next: dict[int, int] = field(default_factory=dict)
    values: dict[int, list[bytes]] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        watch = WatchTiming(silent_seconds=1.0)
        self.source = GroupConsumer(self.settings, self, timing=Timing(damaged=1.0, watch=watch))

    def until(self, condition: Callable[[Member], object], what: str) -> None:
        wait_until(lambda: self.turn() or condition(self), 30, what)

    def turn(self) -> None:
        """Consume, look, and read again what it is time for, as the worker does."""
        for record in self.source.consume(0.1):
            partition = record.partition()
            self.next[partition] = record.offset() + 1
            self.epochs[partition] = record.leader_epoch() or 0
            self.values.setdefault(partition, []).append(record.value() or b"")
        self.source.watch(self.next, self.next)
        for partition in self.source.standstills.due():
            self.source.read_again(partition, self.next[partition])

    def commit(self) -> None:
        commits = [Commit(p, offset, self.epochs.get(p, -1)) for p, offset in self.next.items()]
        assert self.source.commit_within(commits, 10)

    def on_assigned(self, offsets: Mapping[int, int], _notes: object) -> Iterable[int]:
        self.next |= offsets
        return ()

    def on_revoked(self, partitions: Sequence[int]) -> None:
        pass

    on_lost = on_commit_failed = on_revoked


@dataclass
class Broker:
    """A broker whose files a test may write, and its topics of two partitions."""

    server: KafkaServer
    folder: Path
    topics: int = 0
    members: list[Member] = field(default_factory=list)

    def new_topic(self) -> Settings:
        """Make a topic, with settings that name it."""
        self.topics += 1
        name = f"standstill-{self.topics}"
        environment = {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": self.server.bootstrap_servers,
            "LLMLOG_TOPIC": name,
            "LLMLOG_GROUP": name,
        }
        admin = AdminClient({"bootstrap.servers": self.server.bootstrap_servers})
        admin.create_topics([NewTopic(name, 2, 1)])[name].result(30)
        return load(environ=environment)

    def write(self, settings: Settings, partition: int, first: int, codec: str = "none") -> None:
        """Write one batch, of values that are numbers from `first` on."""
        properties = {
            "bootstrap.servers": self.server.bootstrap_servers,
            "compression.type": codec,
            "linger.ms": 1000,
        }
        producer = Producer(properties)
        for number in range(first, first + BATCH_RECORDS):
            value = f"{number} " + "event " * 20
            producer.produce(settings.topic, value.encode(), partition=partition)
        assert producer.flush(30) == 0

    def log_of(self, settings: Settings, partition: int) -> Path:
        (path,) = self.folder.rglob(f"{settings.topic}-{partition}/*.log")
        return path

    def join(self, settings: Settings) -> Member:
        self.members.append(Member(settings))
        return self.members[-1]

    def leave(self) -> None:
        while self.members:
            self.members.pop().source.close(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder: Path = tmp_path_factory.mktemp("kafka")
    with KafkaServer(folder, *free_ports(1)) as running:
        yield Broker(running, folder)


@pytest.fixture
def broker(server: Broker) -> Iterator[Broker]:
    yield server
    server.leave()


def batches(data: bytes) -> list[tuple[int, int]]:
    """Return place and length of each batch of a log."""
    at, found = 0, []
    while at + 12 <= len(data) and (length := struct.unpack_from(">i", data, at + 8)[0]) > 0:
        found.append((at, 12 + length))
        at += 12 + length
    return found


def rot_records(data: bytearray, at: int, length: int) -> None:
    middle = at + HEADER_BYTES + (length - HEADER_BYTES) // 2
    data[middle : middle + 8] = bytes(byte ^ 0xFF for byte in data[middle : middle + 8])


def rot_format(data: bytearray, at: int, _length: int) -> None:
    data[at + 16] = 9


def rot_count(data: bytearray, at: int, _length: int) -> None:
    struct.pack_into(">i", data, at + 57, 10**6)


def rot_length(data: bytearray, at: int, _length: int) -> None:
    struct.pack_into(">i", data, at + 8, 10**8)


@pytest.mark.parametrize(
    ("codec", "rot", "said"),
    [
        ("none", rot_records, "CRC32C"),
        ("zstd", rot_records, "CRC32C"),
        ("lz4", rot_records, "CRC32C"),
        ("snappy", rot_count, "CRC32C"),
        ("gzip", rot_format, "MagicByte"),
        ("zstd", rot_length, "gives no record since offset 100"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_damaged_batch_stops_its_partition_alone_until_it_is_restored(
    broker: Broker, codec: str, rot: Callable[[bytearray, int, int], None], said: str
) -> None:
    settings = broker.new_topic()
    for number in range(3):
        broker.write(settings, 0, number * BATCH_RECORDS, codec)
    path = broker.log_of(settings, 0)
    good = path.read_bytes()
    data = bytearray(good)
    rot(data, *batches(good)[1])
    with path.open("r+b") as file:
        file.write(data)
    member = broker.join(settings)
    member.until(lambda m: said in m.source.unhealthy, "see the flaw")
    broker.write(settings, 1, 0)
    member.until(lambda m: len(m.values.get(1, ())) == BATCH_RECORDS, "read the other partition")
    assert len(member.values[0]) == BATCH_RECORDS
    assert "partition 0" in member.source.unhealthy
    with DamageSearch(settings, settings.topic, 0, silence_seconds=1.0) as search:
        damage = search.find(0, -1, 0, 3 * BATCH_RECORDS)
    behind = 3 if rot is rot_length else 2  # without a length, no batch behind it is found
    assert damage is not None
    assert (damage.first, damage.next) == (BATCH_RECORDS, behind * BATCH_RECORDS)
    with path.open("r+b") as file:
        file.write(good)
    member.until(lambda m: len(m.values[0]) == 3 * BATCH_RECORDS, "read it once it is restored")
    assert [int(value.split()[0]) for value in member.values[0]] == list(range(3 * BATCH_RECORDS))
    assert member.source.unhealthy == ""


def test_a_log_that_lost_its_end_and_grew_again_is_seen_by_its_leader_epoch(
    broker: Broker,
) -> None:
    """The committed offset exists, with another record: without the epoch it would be read on."""
    settings = broker.new_topic()
    for partition in (0, 1):
        broker.write(settings, partition, 0)
    member = broker.join(settings)
    member.until(lambda m: len(m.values) == 2, "read both")
    member.commit()
    broker.leave()
    # What the group has read of partition 0 is older than what the log has there now.
    broker.server.stop()
    broker.server.start()
    for partition in (0, 1):
        broker.write(settings, partition, BATCH_RECORDS)
    other = broker.join(settings)
    other.until(lambda m: len(m.values) == 2, "read on where nothing was lost")
    other.commit()
    stale = [Commit(0, 150, 0)]
    assert other.source.commit_within(stale, 10)
    broker.leave()
    broker.write(settings, 1, 2 * BATCH_RECORDS)
    third = broker.join(settings)
    third.until(lambda m: "the log was truncated" in m.source.unhealthy, "see the truncation")
    third.until(lambda m: 1 in m.values, "read the other partition")
    assert 0 not in third.values
    with DamageSearch(settings, settings.topic, 0) as search:
        damage = search.find(150, 0, 0, 2 * BATCH_RECORDS)
    assert damage is not None
    assert (damage.first, damage.next) == (150, 0), "all is read again, onto the same documents"


def test_an_offset_beyond_the_end_of_its_log_stops_its_partition_alone(broker: Broker) -> None:
    settings = broker.new_topic()
    broker.write(settings, 0, 0)
    member = broker.join(settings)
    member.until(lambda m: m.values, "read")
    member.commit()
    assert member.source.commit_within([Commit(0, 5000, -1)], 10)
    broker.leave()
    broker.write(settings, 1, 0)
    other = broker.join(settings)
    other.until(lambda m: "partition 0 stands still at offset 5000" in m.source.unhealthy, "see it")
    other.until(lambda m: 1 in m.values, "read the other partition")


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_member_whose_instance_id_is_used_by_another_ends_and_names_it(
    broker: Broker, protocol: str
) -> None:
    settings = broker.new_topic()
    properties = {"group.instance.id": "host", "group.protocol": protocol}
    settings = settings.model_copy(update={"kafka_consumer": properties})
    first = broker.join(settings)
    first.until(lambda m: m.source.joined, "join")
    second = broker.join(settings)

    def turn() -> bool:
        first.turn()
        second.turn()
        return False

    # The older one has to go with the classic protocol, the newer one with the other.
    with pytest.raises(FencedError, match=r"group\.instance\.id host-0: give each host"):
        wait_until(turn, 30, "be fenced")


def test_an_open_transaction_is_said_where_it_holds_records_back(broker: Broker) -> None:
    settings = broker.new_topic()
    broker.write(settings, 0, 0)
    properties = {"bootstrap.servers": broker.server.bootstrap_servers}
    open_one = Producer(properties | {"transactional.id": "hanging"})
    open_one.init_transactions()
    open_one.begin_transaction()
    open_one.produce(settings.topic, b"held back", partition=0)
    assert open_one.flush(30) == 0
    member = broker.join(settings)
    member.until(lambda m: "an open transaction" in m.source.unhealthy, "see it")
    open_one.commit_transaction()
    member.until(lambda m: m.source.unhealthy == "", "see its end")
    place = TopicPartition(settings.topic, 0)
    assert member.values[0][-1] == b"held back", place
