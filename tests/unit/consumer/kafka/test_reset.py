"""Where `pipeline offsets reset` moves a group, and what it records of that."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.errors import ConfigurationError, KafkaUnreachable, PipelineError
from llmlog_common.settings import load
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.gaps import AcceptedGaps, Gap
from llmlog_consumer.kafka.places import Log, Place
from llmlog_consumer.kafka.reset import Move, apply_moves, gaps_after, plan_moves, require_stopped
from support.fakes.kafka import FakeAdminClient

NOW_MS = 1_769_860_000_000


def move(committed, target, log=None):
    return Move(Place("t", 0, committed, log or Log(10, 90, 90)), log or Log(10, 90, 90), target)


@pytest.mark.parametrize(
    ("moved", "read_again", "gap"),
    [
        (move(50, 20), 30, None),
        (move(50, 80), 0, (50, 80)),
        (move(50, 50), 0, None),
        (move(None, 10), 0, None),
        (move(None, 40), 0, (10, 40)),  # what a group that has not begun never reads
        (move(4, 30), 0, (4, 30)),  # what retention has deleted before is part of it
        (move(500, 10), 80, None),  # a log that ends before the group's offset
    ],
)
def test_a_move_says_what_is_read_again_and_what_is_never_read(moved, read_again, gap):
    assert (moved.read_again, moved.gap) == (read_again, gap)
    assert moved.skipped == (gap[1] - gap[0] if gap else 0)


def test_a_target_outside_of_the_log_is_taken_to_what_can_be_read():
    places = {0: Place("t", 0, 50, Log(10, 70, 90)), 1: Place("t", 1, 50, Log(10, 70, 90))}
    moves = plan_moves(places, lambda partition, _log: (5, 500)[partition])
    assert [m.target for m in moves] == [10, 70], "what a transaction holds back is not skipped"


def test_a_partition_without_a_leader_is_not_moved_and_no_other_either():
    places = {0: Place("t", 0, 50, Log(10, 70, 90)), 1: Place("t", 1, 50, None)}
    with pytest.raises(ConfigurationError, match="t/1 has no leader that answers"):
        plan_moves(places, lambda _partition, log: log.start)


@pytest.mark.parametrize(
    ("gaps", "moved", "after"),
    [
        ([], move(50, 80), [Gap(50, 80, NOW_MS)]),
        ([Gap(20, 30, 1)], move(50, 80), [Gap(20, 30, 1), Gap(50, 80, NOW_MS)]),
        ([Gap(20, 30, 1)], move(50, 30), [Gap(20, 30, 1)]),
        ([Gap(20, 30, 1)], move(50, 25), [Gap(20, 25, 1)]),
        ([Gap(20, 30, 1)], move(50, 20), []),
        ([Gap(2, 10, 1)], move(50, 10), [Gap(2, 10, 1)]),  # deleted: it cannot be read again
        ([Gap(2, 20, 1)], move(50, 10), [Gap(2, 10, 1)]),
        ([Gap(5000, 0, 1)], move(50, 10), [Gap(5000, 0, 1)]),  # of a log that was there before
    ],
)
def test_what_is_read_again_is_no_gap_any_more_and_what_is_skipped_is_one(gaps, moved, after):
    assert gaps_after(gaps, moved, NOW_MS) == after


@given(
    start=st.integers(0, 20),
    committed=st.integers(0, 60),
    targets=st.lists(st.integers(0, 60), min_size=1, max_size=6),
)
def test_after_any_moves_an_offset_is_read_or_in_a_gap(start, committed, targets):
    """Of what the group has passed and the log has; and no gap names what is still to be read."""
    log, gaps, read = Log(start, 60, 60), [], set(range(committed))
    for target in targets:
        place = Place("t", 0, committed, log)
        (moved,) = plan_moves({0: place}, lambda _partition, _log, target=target: target)
        gaps = gaps_after(gaps, moved, NOW_MS)
        read -= set(range(moved.target, 61))
        committed = moved.target
    given_up = {offset for gap in gaps for offset in range(gap.first, gap.next)}
    assert set(range(start, committed)) <= read | given_up
    assert not {offset for offset in given_up if offset >= committed}


# On the cluster


@pytest.fixture
def client():
    return FakeAdminClient()


@pytest.fixture
def admin(client):
    return KafkaAdmin(
        load(environ={"LLMLOG_GROUP": "g", "LLMLOG_TOPIC": "t"}),
        client=client,
        reader=client.reader,
    )


def test_a_move_is_committed_with_the_note_beside_it_and_its_gap_recorded(admin, client):
    client.offsets["g"] = [
        TopicPartition("t", 0, 50, metadata='{"circuit":"2f6c1b9d04aa"}', leader_epoch=7),
        TopicPartition("t", 1, 50),
    ]
    log = Log(10, 90, 90)
    still = Move(Place("t", 1, 50, log), log, 50)
    apply_moves(admin, [still], NOW_MS)
    assert "g.gaps" not in client.offsets
    apply_moves(admin, [move(50, 80), still], NOW_MS)
    (place,) = client.offsets["g"]
    assert (place.partition, place.offset, place.metadata) == (0, 80, '{"circuit":"2f6c1b9d04aa"}')
    assert place.leader_epoch is None, "that of an offset within the log is not known"
    assert AcceptedGaps(admin).of_topic("t") == {0: [Gap(50, 80, NOW_MS)]}


@pytest.mark.parametrize(
    ("code", "error", "kept"),
    [
        (KafkaError.UNKNOWN_MEMBER_ID, ConfigurationError, []),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, PipelineError, []),
        # The request may have been carried out, and its answer lost.
        (KafkaError._TRANSPORT, KafkaUnreachable, [Gap(50, 80, NOW_MS)]),
        (KafkaError._TIMED_OUT, KafkaUnreachable, [Gap(50, 80, NOW_MS)]),
    ],
)
def test_gaps_are_taken_back_where_the_group_is_not_moved(admin, client, code, error, kept):
    AcceptedGaps(admin).accept("t", 0, Gap(2, 5, 1))
    commit = client.alter_consumer_group_offsets

    def refuse(requests, request_timeout):
        if requests[0].group_id == "g":
            raise KafkaException(KafkaError(code))
        return commit(requests, request_timeout)

    client.alter_consumer_group_offsets = refuse
    with pytest.raises(error):
        apply_moves(admin, [move(50, 80)], NOW_MS)
    assert AcceptedGaps(admin).of_topic("t") == {0: [Gap(2, 5, 1), *kept]}


def test_what_is_read_again_is_a_gap_until_the_group_has_moved(admin, client):
    AcceptedGaps(admin).accept("t", 0, Gap(20, 30, 1))
    commit = client.alter_consumer_group_offsets
    seen = []

    def look(requests, request_timeout):
        if requests[0].group_id == "g":
            seen.append(AcceptedGaps(admin).of_topic("t"))
        return commit(requests, request_timeout)

    client.alter_consumer_group_offsets = look
    apply_moves(admin, [move(50, 10)], NOW_MS)
    assert seen == [{0: [Gap(20, 30, 1)]}]
    assert AcceptedGaps(admin).of_topic("t") in ({}, {0: []})


def test_a_group_with_members_is_refused_with_their_hosts(admin, client):
    require_stopped(admin)
    client.members = [
        SimpleNamespace(
            member_id=f"m{n}", group_instance_id=None, host=f"/10.0.0.{n}",
            assignment=SimpleNamespace(topic_partitions=[]),
        )
        for n in (2, 1)
    ]  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"g has 2 members, on 10\.0\.0\.1, 10\.0\.0\.2"):
        require_stopped(admin)


@pytest.mark.parametrize("note", ['{"gaps":5}', '{"gaps":[[1],["a",2,3],7]}', "[]", "x"])
def test_gaps_that_another_tool_wrote_are_none(admin, client, note):
    client.offsets["g.gaps"] = [TopicPartition("t", 0, 7, metadata=note)]
    assert AcceptedGaps(admin).of_topic("t") == {0: []}
