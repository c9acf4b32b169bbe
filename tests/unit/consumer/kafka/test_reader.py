"""Reading a topic without a group: what a chunk of records and errors means."""

import pytest
from confluent_kafka import KafkaError, cimpl

from llmlog_common.errors import KafkaError as KafkaRefusal
from llmlog_common.settings import load
from llmlog_consumer.kafka.reader import PartitionConsumer, RangeProgress
from support.fakes.kafka import FakeConsumer


def of(partition, offsets):
    return [cimpl.Message(topic="t", partition=partition, offset=offset) for offset in offsets]


def end_at(offset):
    error = KafkaError(KafkaError._PARTITION_EOF)
    return cimpl.Message(topic="t", partition=0, offset=offset, error=error)


def test_a_refusal_that_comes_alone_is_raised():
    """Such an error has a partition and no offset."""
    refused = cimpl.Message(
        topic="t", partition=0, error=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    )
    assert refused.offset() is None
    with pytest.raises(KafkaRefusal, match=r"t: .*authorization failed"):
        RangeProgress("t", {0: (3, 5)}).take([refused])


def test_a_refusal_of_the_group_that_a_reader_does_not_have_is_no_refusal():
    """The client looks for a coordinator in any case, and says the answer with a partition of 0."""
    progress = RangeProgress("t", {0: (5, 9)})
    refusal = cimpl.Message(
        topic="t", partition=0, error=KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
    )
    record = cimpl.Message(topic="t", partition=0, offset=5, value=b"")
    assert progress.take([refusal, record]) == [record]
    assert progress.ends == {0: 9}


def test_records_behind_the_end_are_left_out():
    records, progress = of(0, range(3, 8)), RangeProgress("t", {0: (3, 5)})
    assert progress.take(records) == records[:2]
    assert not progress.ends


def test_the_record_at_the_end_is_left_out_though_none_lies_right_before_it():
    records, progress = of(0, [3, 5]), RangeProgress("t", {0: (3, 5)})
    assert progress.take(records) == records[:1]
    assert not progress.ends


@pytest.mark.parametrize(
    "chunks",
    [
        [of(0, range(5)), of(0, range(3))],
        [of(0, range(50)), of(1, range(50)), of(0, range(3))],
        [of(0, [*range(50), *range(40)])],
        [of(0, range(3)), of(0, [*range(3, 50), *range(40)])],
        [of(0, range(5)), [*of(0, range(3)), *of(1, [100])]],
        [of(0, range(5)), [end_at(0)]],
    ],
)
def test_a_topic_that_begins_again_while_it_is_read_is_not_read_twice(chunks):
    progress = RangeProgress("t", {0: (0, 100), 1: (0, 100)})
    *before, last = chunks
    for chunk in before:
        assert progress.take(chunk) == chunk
    with pytest.raises(KafkaRefusal, match=r"t/0 was truncated or recreated while it was read"):
        progress.take(last)


def test_gaps_and_other_partitions_are_no_step_back():
    progress = RangeProgress("t", {0: (10, 100), 1: (0, 100)})
    for chunk in (of(0, [40, 41, 45]), [*of(1, [0, 7]), *of(0, [46])], of(1, [8, 99])):
        assert progress.take(chunk) == chunk
    assert progress.take([end_at(47)]) == []
    assert not progress.ends


def test_a_reader_joins_no_group_and_begins_where_it_is_told():
    client = FakeConsumer()
    settings = load(
        environ={"LLMLOG_GROUP": "g", "LLMLOG_KAFKA_CONSUMER_GROUP_INSTANCE_ID": "static"}
    )
    with PartitionConsumer(settings, "t", {0: 7, 3: 9}, client=client):
        assert client.assigned == {0: 7, 3: 9}
    assert client.closed
    assert client.config["group.id"] != "g"
    assert "group.instance.id" not in client.config
    assert client.config["enable.auto.commit"] is False
