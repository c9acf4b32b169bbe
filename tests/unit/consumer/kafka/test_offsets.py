"""Offsets of the group: where a new group starts, and answers for one partition."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, TopicPartition

from llmlog_common.errors import KafkaError as KafkaRefusal
from llmlog_common.errors import KafkaUnreachable
from llmlog_common.settings import load
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.committed import CommittedOffset, parse_note
from llmlog_consumer.kafka.offsets import KafkaOffsets
from llmlog_consumer.kafka.places import Log, Place
from support.fakes.kafka import FakeAdminClient, FakeConsumer

MARKS = {0: (500, 900), 1: (0, 50)}


class Group:
    """The group `g` on a topic of two partitions."""

    def __init__(self, committed=None, code=None, marks=None):
        self.client = FakeAdminClient({"t": 2})
        self.client.refusal = None if code is None else KafkaError(code)
        self.client.marks = {p: (start, end, end) for p, (start, end) in (marks or MARKS).items()}
        self.consumer = FakeConsumer(committed, marks or MARKS)
        admin = KafkaAdmin(
            load(environ={"LLMLOG_GROUP": "g"}),
            client=self.client,
            patience_seconds=0.3,
            reader=self.client.reader,
        )
        self.offsets = KafkaOffsets(admin, consumer=self.consumer)

    @property
    def started(self):
        return {place.partition: place.offset for place in self.client.offsets.get("g", ())}


@pytest.mark.parametrize(
    ("latest", "started", "unread"),
    [
        (True, {0: 900, 1: 50}, "it starts at the end of the topic: 450 records before it are not"),
        (False, {0: 500, 1: 0}, "it starts at the beginning of the log: the 500 offsets before it"),
    ],
)
def test_a_group_that_kafka_has_forgotten_is_told_what_it_does_not_read(latest, started, unread):
    group = Group()
    assert group.offsets.commit_start("t", range(2), latest=latest).startswith(unread)
    assert group.started == started


def test_a_new_group_on_a_whole_log_reads_everything_and_says_nothing():
    group = Group(marks={0: (0, 9), 1: (0, 0)})
    assert group.offsets.commit_start("t", range(2), latest=False) == ""
    assert group.started == {0: 0, 1: 0}


def test_a_group_that_has_started_keeps_its_offsets():
    group = Group({0: 700})
    assert group.offsets.commit_start("t", range(2), latest=True) == ""
    assert group.started == {}
    with_members = Group(code=KafkaError.UNKNOWN_MEMBER_ID)
    assert with_members.offsets.commit_start("t", range(2), latest=True) == ""


def test_a_new_group_begins_where_there_are_leaders_and_reads_the_rest_from_its_start():
    group = Group()
    assert group.offsets.commit_start("t", range(2), latest=False, leaderless={1})
    assert group.started == {0: 500}
    group = Group()
    group.client.marks[1] = KafkaError(KafkaError._TIMED_OUT)
    with pytest.raises(KafkaUnreachable, match="t: partition 1 has no leader that answers"):
        group.offsets.commit_start("t", range(2), latest=True)
    assert group.started == {}


def test_a_new_group_at_the_end_begins_before_an_open_transaction():
    group = Group()
    group.client.marks[0] = (500, 700, 900)
    group.offsets.commit_start("t", range(2), latest=True)
    assert group.started == {0: 700, 1: 50}


def test_the_places_of_the_group_say_what_an_open_transaction_and_an_absent_leader_leave():
    group = Group()
    group.client.topics, group.client.leaderless = {"t": 3}, {2}
    group.client.marks[0] = (500, 700, 900)
    group.client.offsets["g"] = [TopicPartition("t", 0, 700), TopicPartition("other", 1, 9)]
    places = group.offsets.places("t")
    assert places == {
        0: Place("t", 0, 700, Log(500, 700, 900)),
        1: Place("t", 1, None, Log(0, 50, 50)),
        2: Place("t", 2, None, None),
    }
    assert (places[0].lag, places[0].held_back, places[2].lag) == (200, 200, 0)
    assert group.offsets.places("t", [1]) == {1: places[1]}
    group.client.marks[1] = KafkaError(KafkaError._TIMED_OUT)
    assert group.offsets.places("t", [1]) == {1: Place("t", 1, None, None)}


def test_a_refusal_of_one_partitions_bounds_is_no_absent_leader():
    group = Group()
    group.client.topics = {"t": 2}
    group.client.marks[1] = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaRefusal, match="authorization failed"):
        group.offsets.places("t")


def test_an_absent_coordinator_is_unreachable_and_a_refusal_names_the_group():
    with pytest.raises(KafkaUnreachable):
        Group(code=KafkaError.NOT_COORDINATOR).offsets.commit_start("t", range(2), latest=False)
    group = Group(code=KafkaError.GROUP_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaRefusal, match=r"group g: .*authorization failed"):
        group.offsets.commit_start("t", range(2), latest=False)


def test_a_partition_whose_offset_is_refused_does_not_count_as_one_without_offset():
    group = Group({0: KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), 1: 5})
    with pytest.raises(KafkaRefusal, match="authorization failed"):
        group.offsets.committed("t", range(2))
    assert group.consumer.closed


def test_partitions_without_a_committed_offset_are_left_out():
    assert Group({1: 5}).offsets.committed("t", range(2)) == {1: 5}


def test_the_consumer_that_asks_never_joins_as_the_static_member():
    group = Group()
    admin = KafkaAdmin(
        load(environ={"LLMLOG_KAFKA_GROUP_INSTANCE_ID": "static"}), client=group.client
    )
    KafkaOffsets(admin, consumer=group.consumer).watermarks("t", [0])
    assert "group.instance.id" not in group.consumer.config


def test_notes_of_workers_are_read_beside_the_offsets_of_this_topic_alone():
    group = Group()
    group.client.offsets["g"] = [
        TopicPartition("t", 0, 7, metadata='{"worker":"host/0"}'),
        TopicPartition("t", 1, 8, metadata="from another tool"),
        TopicPartition("other", 2, 9),
    ]
    assert group.offsets.committed_with_notes("t") == {
        0: CommittedOffset(7, {"worker": "host/0"}),
        1: CommittedOffset(8, {}),
    }


@pytest.mark.parametrize("metadata", [None, "", "{", "[1]", "3", '"text"'])
def test_metadata_that_is_no_note_is_an_empty_one(metadata):
    assert parse_note(metadata) == {}


@pytest.mark.parametrize(
    ("metadata", "note"),
    [
        ('{"circuit": 7, "held": [], "at": "now", "rate": true, "unhealthy": {}}', {}),
        ('{"circuit": "abc", "held": {"i": 3}}', {"circuit": "abc", "held": {"i": 3}}),
        ('{"of_another_program": [1]}', {"of_another_program": [1]}),
    ],
)  # fmt: skip
def test_a_key_of_a_note_whose_value_has_another_type_is_left_out(metadata, note):
    assert parse_note(metadata) == note


def test_ranges_begin_at_a_moment_and_partitions_without_newer_records_are_empty():
    group = Group()
    group.consumer.offsets_for_times = lambda _places, _timeout: [
        TopicPartition("t", 0, 800), TopicPartition("t", 1, -1),
    ]  # fmt: skip
    assert group.offsets.narrow("t", MARKS, 1_767_225_600_000) == {0: (800, 900), 1: (50, 50)}


def test_a_partition_whose_offset_at_a_moment_is_refused_is_not_one_without_newer_records():
    group = Group()
    refused = SimpleNamespace(
        partition=1, offset=-1, error=KafkaError(KafkaError.LEADER_NOT_AVAILABLE)
    )
    group.consumer.offsets_for_times = lambda _places, _timeout: [refused]
    with pytest.raises(KafkaUnreachable):
        group.offsets.offsets_at("t", [1], 1_767_225_600_000)


def test_a_question_is_asked_again_while_a_coordinator_or_a_leader_moves():
    group = Group({0: 700, 1: 5})
    group.client.offsets["g"] = [TopicPartition("t", 0, 7)]
    group.client.moves = [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE]
    assert group.offsets.committed_with_notes("t") == {0: CommittedOffset(7)}
    group.consumer.errors = [KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)]
    assert group.offsets.watermarks("t", [0]) == {0: (500, 900)}
    group.consumer.errors = [KafkaError(KafkaError.NOT_COORDINATOR)]
    assert group.offsets.committed("t", range(2)) == {0: 700, 1: 5}


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
    ],
)
def test_a_leader_that_has_just_changed_is_asked_again_and_refuses_nothing(code):
    group = Group()
    group.consumer.errors = [KafkaError(code)]
    assert group.offsets.watermarks("t", [0]) == {0: (500, 900)}
    group.client.marks = {0: KafkaError(code), 1: (1, 5, 5)}
    assert group.offsets.bounds("t", [0, 1]) == {0: None, 1: Log(1, 5, 5)}


def test_a_coordinator_that_never_comes_is_no_answer():
    group = Group()
    group.client.moves = [KafkaError.NOT_COORDINATOR] * 100
    with pytest.raises(KafkaUnreachable, match="Not coordinator"):
        group.offsets.committed_with_notes("t")
    assert len(group.client.moves) > 90, "it waits between two questions"
