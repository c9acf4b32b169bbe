"""What is done about an event that Kafka has refused."""

import pytest
from confluent_kafka import KafkaError

from llmlog_producer.sending.refusals import Remedy, remedy_for

TOO_LARGE = [KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE]


@pytest.mark.parametrize("code", [KafkaError.INVALID_RECORD, KafkaError.INVALID_TIMESTAMP])
@pytest.mark.parametrize("alone", [True, False])
def test_an_invalid_record_is_given_up(code, alone):
    assert remedy_for(code, alone=alone) is Remedy.GIVE_UP


@pytest.mark.parametrize("code", TOO_LARGE)
def test_an_event_that_is_too_large_alone_is_truncated(code):
    assert remedy_for(code, alone=True) is Remedy.SHRINK


@pytest.mark.parametrize("code", TOO_LARGE)
def test_an_event_of_a_batch_that_is_too_large_is_sent_alone(code):
    assert remedy_for(code, alone=False) is Remedy.SEND_ALONE


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.UNKNOWN,
    ],
)
def test_every_other_refusal_is_about_the_cluster_and_waited_out(code):
    assert remedy_for(code, alone=True) is Remedy.WAIT
