"""A replay's letters on a real broker: many shares, each read while the next is looked through."""

from __future__ import annotations

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from llmlog_common.settings import Settings, load
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage, headers_of
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.reader import DeadLetters
from llmlog_consumer.replay import scan as sweep
from llmlog_consumer.replay.scan import ReplayScan
from support.messages import Message
from support.pipeline import Pipeline

NAMES, AGAIN = 2000, range(0, 2000, 3)
REFUSED = Cause(Stage.INDEX, Ending.PERMANENT, reason="r", es_type="t", es_status=400)


def write(pipeline: Pipeline, partitions: int, offsets: range, value: bytes) -> None:
    """Append a letter of each offset, where its source partition has them."""
    producer = Producer(
        {"bootstrap.servers": pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"],
         "transactional.id": pipeline.topic}
    )  # fmt: skip
    producer.init_transactions(30)
    producer.begin_transaction()  # its marker is an offset without a letter
    for offset in offsets:
        source = Message(pipeline.topic, offset % partitions, offset)
        headers = headers_of(source, REFUSED, group="g")
        producer.produce(
            f"{pipeline.topic}.dlq", value, b"%d" % offset, offset % partitions, headers=headers
        )
    producer.commit_transaction(30)


def take(settings: Settings, topic: str, partition: int, before: int) -> None:
    """Have the broker forget the head of a partition, as retention does."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    for future in admin.delete_records([TopicPartition(topic, partition, before)]).values():
        future.result(30)


def test_every_share_is_read_and_of_each_name_the_newest(pipeline: Pipeline, monkeypatch) -> None:
    monkeypatch.setattr(sweep, "SHARE", 50)
    settings = load(environ=pipeline.environment)
    partitions = len(DeadLetters(settings).ranges)
    write(pipeline, partitions, range(NAMES), b"old")
    write(pipeline, partitions, AGAIN, b"new")
    there = DeadLetters(settings)
    assert len(sweep._shares(there.ranges)) == partitions > 1
    write(pipeline, partitions, range(5), b"too late")
    letters = ReplayScan(settings, there.topic, there.ranges, Filter())
    assert not letters.suspicion
    met = [(record.source, record.value()) for record in letters]
    assert len(met) == NAMES
    assert dict(met) == {
        (pipeline.topic, n % partitions, n): b"new" if n in AGAIN else b"old" for n in range(NAMES)
    }


def test_what_retention_takes_meanwhile_is_left_out(pipeline: Pipeline, monkeypatch) -> None:
    monkeypatch.setattr(sweep, "SHARE", 50)
    settings = load(environ=pipeline.environment)
    there = DeadLetters(settings)
    partitions = len(there.ranges)
    write(pipeline, partitions, range(NAMES), b"one")
    there = DeadLetters(settings)
    letters = iter(ReplayScan(settings, there.topic, there.ranges, Filter()))
    met = [next(letters)]
    last = max(there.ranges)
    assert met[0].source[1] != last
    before = there.ranges[last][1] - 100
    take(settings, there.topic, last, before)
    met += letters
    number = {p: sum(record.source[1] == p for record in met) for p in there.ranges}
    assert len({record.source for record in met}) == len(met)
    assert number[last] == 99, "the marker of the transaction is the last offset"
    assert all(number[p] == NAMES // partitions for p in number if p != last)


def test_what_retention_takes_between_two_readings_is_not_listed(pipeline: Pipeline) -> None:
    settings = load(environ=pipeline.environment)
    partitions = len(DeadLetters(settings).ranges)
    write(pipeline, partitions, range(NAMES), b"one")
    there = DeadLetters(settings)
    assert not there.suspicion, "everything is read to say so"
    first, end = there.ranges[0]
    take(settings, there.topic, 0, first + 100)
    assert len(list(there.newest(Filter()))) == NAMES - 100
    pages = there.newest_first(Filter())
    take(settings, there.topic, 0, end - 1)
    take(settings, there.topic, 1, there.ranges[1][1])
    assert {letter.source[1] for letter in pages} == set(range(2, partitions))
