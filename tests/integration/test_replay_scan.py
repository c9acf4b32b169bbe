"""The letters of a replay on a real broker: the first pass goes a share ahead of the second."""

from __future__ import annotations

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from llmlog_common.settings import Settings, load
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.headers import build_headers
from llmlog_consumer.dead_letters.reader import DeadLetters
from llmlog_consumer.replay.scan import ReplayScan, split_shares
from support.messages import Message
from support.pipeline import Pipeline

RECORDS, AGAIN = 2000, range(0, 2000, 3)
SHARE_OFFSETS = 50
REFUSED = Cause(Stage.INDEX, Ending.PERMANENT, reason="r", es_type="t", es_status=400)


def write(pipeline: Pipeline, partitions: int, offsets: range, value: bytes) -> None:
    """Append a letter of each offset, where its source partition has them."""
    producer = Producer(
        {
            "bootstrap.servers": pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"],
            "transactional.id": pipeline.topic,
        }
    )
    producer.init_transactions(30)
    producer.begin_transaction()  # its marker is an offset without a letter
    for offset in offsets:
        source = Message(pipeline.topic, offset % partitions, offset)
        headers = build_headers(source, REFUSED, group=pipeline.group)
        producer.produce(
            f"{pipeline.topic}.dlq", value, b"%d" % offset, offset % partitions, headers=headers
        )
    producer.commit_transaction(30)


def remove_head(settings: Settings, topic: str, partition: int, before: int) -> None:
    """Have the broker remove the head of a partition, as retention does."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    for future in admin.delete_records([TopicPartition(topic, partition, before)]).values():
        future.result(30)


def test_every_share_is_read_and_of_each_record_the_newest_letter(pipeline: Pipeline) -> None:
    settings = load(environ=pipeline.environment)
    partitions = len(DeadLetters(settings).ranges)
    write(pipeline, partitions, range(RECORDS), b"old")
    write(pipeline, partitions, AGAIN, b"new")
    dead_letters = DeadLetters(settings)
    assert len(split_shares(dead_letters.ranges, SHARE_OFFSETS)) == partitions > 1
    write(pipeline, partitions, range(5), b"too late")
    letters = ReplayScan(settings, dead_letters, Filter(), share_offsets=SHARE_OFFSETS)
    assert not letters.topic_warning
    found = [(record.source, record.value()) for record in letters]
    assert len(found) == RECORDS
    assert dict(found) == {
        (pipeline.topic, n % partitions, n): b"new" if n in AGAIN else b"old"
        for n in range(RECORDS)
    }


def test_letters_that_retention_removes_meanwhile_are_left_out(pipeline: Pipeline) -> None:
    settings = load(environ=pipeline.environment)
    dead_letters = DeadLetters(settings)
    partitions = len(dead_letters.ranges)
    write(pipeline, partitions, range(RECORDS), b"one")
    dead_letters = DeadLetters(settings)
    letters = iter(ReplayScan(settings, dead_letters, Filter(), share_offsets=SHARE_OFFSETS))
    found = [next(letters)]
    last = max(dead_letters.ranges)
    assert found[0].source[1] != last
    before = dead_letters.ranges[last][1] - 100
    remove_head(settings, dead_letters.topic, last, before)
    found += letters
    number = {p: sum(record.source[1] == p for record in found) for p in dead_letters.ranges}
    assert len({record.source for record in found}) == len(found)
    assert number[last] == 99, "the marker of the transaction is the last offset"
    assert all(number[p] == RECORDS // partitions for p in number if p != last)


def test_letters_that_retention_removes_between_two_passes_are_not_listed(
    pipeline: Pipeline,
) -> None:
    settings = load(environ=pipeline.environment)
    partitions = len(DeadLetters(settings).ranges)
    write(pipeline, partitions, range(RECORDS), b"one")
    dead_letters = DeadLetters(settings)
    assert not dead_letters.topic_warning, "the first pass over everything"
    first, end = dead_letters.ranges[0]
    remove_head(settings, dead_letters.topic, 0, first + 100)
    assert len(list(dead_letters.read_newest(Filter()))) == RECORDS - 100
    pages = dead_letters.read_newest_first(Filter())
    remove_head(settings, dead_letters.topic, 0, end - 1)
    remove_head(settings, dead_letters.topic, 1, dead_letters.ranges[1][1])
    assert {letter.source[1] for letter in pages} == set(range(2, partitions))
