"""Reading a topic without a group: what a chunk of records and errors means."""

import pytest
from confluent_kafka import KafkaError, cimpl

from llmlog_consumer import topic_reader
from llmlog_schemas.errors import KafkaError as KafkaRefusal


def test_a_refusal_that_comes_alone_is_said():
    """Such an error has a partition and no offset."""
    refused = cimpl.Message(
        topic="t", partition=0, error=KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
    )
    assert refused.offset() is None
    with pytest.raises(KafkaRefusal, match=r"t: .*authorization failed"):
        topic_reader._within([refused], {0: 5}, "t")


def test_what_lies_behind_the_end_is_left_out():
    records = [cimpl.Message(topic="t", partition=0, offset=offset) for offset in range(3, 8)]
    ends = {0: 5}
    assert topic_reader._within(records, ends, "t") == records[:2]
    assert not ends
