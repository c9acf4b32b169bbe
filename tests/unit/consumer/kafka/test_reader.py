"""Reading a topic without a group: what a chunk of records and errors means."""

import pytest
from confluent_kafka import KafkaError, cimpl

from llmlog_common.errors import KafkaError as KafkaRefusal
from llmlog_consumer.kafka import reader as topic_reader


def test_a_refusal_that_comes_alone_is_said():
    """Such an error has a partition and no offset."""
    refused = cimpl.Message(
        topic="t", partition=0, error=KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
    )
    assert refused.offset() is None
    with pytest.raises(KafkaRefusal, match=r"t: .*authorization failed"):
        topic_reader._within([refused], {0: 5}, {0: 2}, "t")


def test_what_lies_behind_the_end_is_left_out():
    records, ends = of(0, range(3, 8)), {0: 5}
    assert topic_reader._within(records, ends, {0: 2}, "t") == records[:2]
    assert not ends


def of(partition, offsets):
    return [cimpl.Message(topic="t", partition=partition, offset=offset) for offset in offsets]


def end_at(offset):
    error = KafkaError(KafkaError._PARTITION_EOF)
    return cimpl.Message(topic="t", partition=0, offset=offset, error=error)


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
    ends, newest = dict.fromkeys((0, 1), 100), dict.fromkeys((0, 1), -1)
    *before, last = chunks
    for chunk in before:
        assert topic_reader._within(chunk, ends, newest, "t") == chunk
    with pytest.raises(KafkaRefusal, match=r"t/0 was cut off or made anew while it was read"):
        topic_reader._within(last, ends, newest, "t")


def test_gaps_and_other_partitions_are_no_step_back():
    ends, newest = {0: 100, 1: 100}, {0: 9, 1: -1}
    for chunk in (of(0, [40, 41, 45]), [*of(1, [0, 7]), *of(0, [46])], of(1, [8, 99])):
        assert topic_reader._within(chunk, ends, newest, "t") == chunk
    assert topic_reader._within([end_at(47)], ends, newest, "t") == []
    assert not ends
