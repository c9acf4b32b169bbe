"""Where a group begins, and what it is told that it passes over; answers for one partition."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from llmlog_common.errors import KafkaError as KafkaRefusal
from llmlog_common.errors import KafkaUnreachable
from llmlog_common.settings import load
from llmlog_consumer.kafka import admin as kafka_admin
from llmlog_consumer.kafka.admin import KafkaAdmin


class Group(KafkaAdmin):
    """A group on a topic of two partitions, and what the broker says to a commit."""

    def __init__(self, committed=(), code=None):
        super().__init__(load(environ={"LLMLOG_GROUP": "g"}))
        self.places, self.code, self.began = dict(committed), code, None

    def committed(self, _topic, _partitions):
        return self.places

    def watermarks(self, _topic, _partitions):
        return {0: (500, 900), 1: (0, 50)}

    def _commit(self, group, places):
        assert group == "g"
        if self.code is not None:
            raise KafkaException(KafkaError(self.code))
        self.began = {place.partition: place.offset for place in places}


@pytest.mark.parametrize(
    ("latest", "began", "said"),
    [
        (True, {0: 900, 1: 50}, "begins at the end of the topic: 450 records before it are not"),
        (False, {0: 500, 1: 0}, "begins at the start of the log: the 500 offsets before it are"),
    ],
)
def test_a_group_that_kafka_has_forgotten_is_told_what_it_passes_over(latest, began, said):
    group = Group()
    assert group.begin("t", range(2), latest=latest).startswith(said)
    assert group.began == began


def test_a_group_that_has_begun_stays_where_it_is():
    group = Group({0: 700})
    assert group.begin("t", range(2), latest=True) == ""
    assert group.began is None
    assert Group(code=KafkaError.UNKNOWN_MEMBER_ID).begin("t", range(2), latest=True) == ""


def test_a_coordinator_that_is_away_is_waited_for_and_a_refusal_names_the_group():
    with pytest.raises(KafkaUnreachable):
        Group(code=KafkaError.NOT_COORDINATOR).begin("t", range(2), latest=False)
    with pytest.raises(KafkaRefusal, match=r"group g: .*authorization failed"):
        Group(code=KafkaError.GROUP_AUTHORIZATION_FAILED).begin("t", range(2), latest=False)


def test_a_partition_whose_offset_is_refused_is_not_taken_for_one_without(monkeypatch):
    class Reader:
        def __init__(self, _settings):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def committed(self, asked, _timeout):
            refused = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
            return [asked[1], SimpleNamespace(partition=0, offset=-1001, error=refused)]

    monkeypatch.setattr(kafka_admin, "_Reader", Reader)
    admin = KafkaAdmin(load(environ={}))
    with pytest.raises(KafkaRefusal, match="authorization failed"):
        admin.committed("t", range(2))
