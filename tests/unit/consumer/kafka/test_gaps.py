"""Accepted gaps: what an operator gave up is remembered for the workers."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from llmlog_common.errors import KafkaError as KafkaRefusal
from llmlog_common.settings import load
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.gaps import MAX_GAPS_PER_PARTITION, AcceptedGaps, Gap
from support.fakes.kafka import FakeAdminClient


@pytest.fixture
def client():
    return FakeAdminClient()


@pytest.fixture
def gaps(client):
    return AcceptedGaps(
        KafkaAdmin(load(environ={"LLMLOG_GROUP": "g"}), client=client, reader=client.reader)
    )


def test_accepted_gaps_are_read_again_oldest_first(gaps):
    first, second = Gap(5, 12, 1_000), Gap(40, 60, 2_000)
    gaps.accept("t", 1, first)
    gaps.accept("t", 1, second)
    assert gaps.of_topic("t") == {1: [first, second]}
    assert gaps.of_topic("another") == {}


def test_they_are_offsets_of_a_group_that_no_worker_joins(gaps, client):
    gaps.accept("t", 1, Gap(5, 12, 1_000))
    assert list(client.offsets) == ["g.gaps"]
    (place,) = client.offsets["g.gaps"]
    assert (place.topic, place.partition, place.offset) == ("t", 1, 12)


def test_the_oldest_are_forgotten_before_the_note_is_too_long_for_the_broker(gaps):
    for number in range(MAX_GAPS_PER_PARTITION + 3):
        gaps.accept("t", 0, Gap(number, number + 1, 0))
    kept = gaps.of_topic("t")[0]
    assert [gap.first for gap in kept] == list(range(3, MAX_GAPS_PER_PARTITION + 3))


def test_a_refused_gap_names_its_group(gaps, client):
    client.refusal = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaRefusal, match="authorization failed"):
        gaps.accept("t", 0, Gap(1, 2, 3))
