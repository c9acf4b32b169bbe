"""A partition that takes no events keeps only its own: all others go on."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from support.fakes.gateway import FAST, FakeCluster, Steps

TIMING = replace(FAST, overdue_seconds=0.8, topic_retry_seconds=2.0, move_seconds=30.0)
JOURNALS = [True, False]


@pytest.fixture(params=JOURNALS, ids=["journal", "no journal"])
def steps(request, cluster, tmp_path):
    """A sender to a topic of three, which is found."""
    cluster.partition_count = 3
    one = Steps(cluster, tmp_path if request.param else None, timing=TIMING)
    one.step()
    return one


def send_bursts(steps: Steps, names: list[str], seconds: float = 0.3) -> None:
    """Offer each name in a burst of its own."""
    for name in names:
        steps.offer(name)
        steps.pass_time(seconds)


def make_silent(cluster: FakeCluster, *partitions: int) -> None:
    """Give one of three brokers up."""
    cluster.silent_partitions = set(partitions)


def test_a_partition_that_does_not_answer_stops_no_other(steps, cluster):
    make_silent(cluster, 1)
    names = [f"c{number}" for number in range(60)]
    send_bursts(steps, names)
    missing = set(names) - set(cluster.call_ids())
    assert len(missing) <= 3, "what it was given before it was known to be silent"
    assert steps.stats.pending == len(missing)
    assert set(cluster.partitions) == {0, 2}
    assert steps.sender.waits
    assert not steps.sender.is_unreachable
    make_silent(cluster)
    steps.pass_time(1.0)
    assert sorted(cluster.call_ids()) == sorted(names)
    send_bursts(steps, [f"d{number}" for number in range(6)])
    assert set(cluster.partitions[-6:]) == {0, 1, 2}, "it is used again"


def test_a_partition_without_a_leader_gets_nothing(cluster, tmp_path):
    cluster.partition_count, cluster.leaderless = 3, {1}
    make_silent(cluster, 1)
    steps = Steps(cluster, tmp_path, timing=TIMING)
    steps.step()
    send_bursts(steps, [f"c{number}" for number in range(30)])
    assert steps.stats.pending == 0
    cluster.leaderless = set()
    make_silent(cluster)
    steps.pass_time(2.0)
    send_bursts(steps, [f"d{number}" for number in range(6)])
    assert 1 in cluster.partitions, "it is seen to have one again within seconds"


def test_a_partition_that_refuses_stops_no_other(steps, cluster):
    cluster.refusing_partitions = {1: KafkaError.UNKNOWN}
    names = [f"c{number}" for number in range(60)]
    send_bursts(steps, names)
    steps.pass_time(0.1)
    assert len(set(names) - set(cluster.call_ids())) <= 1
    cluster.refusing_partitions = {}
    steps.pass_time(3.0)
    assert sorted(cluster.call_ids()) == sorted(names)


def test_where_all_are_silent_nothing_is_sent_to_any(steps, cluster):
    make_silent(cluster, 0, 1, 2)
    send_bursts(steps, [f"c{number}" for number in range(30)])
    assert cluster.produced < 12
    assert steps.sender.is_unreachable
    make_silent(cluster)
    steps.pass_time(30.0, 60)
    assert steps.stats.pending == 0
    assert len(set(cluster.call_ids())) == 30


def test_the_choice_of_a_users_partitioner_is_given_up_while_it_does_not_answer(cluster, tmp_path):
    cluster.partition_count, cluster.is_by_key = 3, True
    steps = Steps(cluster, tmp_path, timing=TIMING)
    steps.step()
    send_bursts(steps, ["a"])
    assert cluster.partitions == [-1], "it decides"
    make_silent(cluster, -1)
    send_bursts(steps, [f"c{number}" for number in range(20)])
    assert steps.stats.pending <= 3
    make_silent(cluster)
    steps.pass_time(1.0)
    send_bursts(steps, ["b"])
    assert cluster.partitions[-1] == -1, "it decides again"


def test_after_half_a_minute_its_events_go_to_others_too(steps, cluster):
    make_silent(cluster, 1)
    names = [f"c{number}" for number in range(30)]
    send_bursts(steps, names)
    assert steps.stats.pending > 0
    steps.pass_time(40.0, 100)
    assert steps.stats.pending == 0
    assert sorted(cluster.call_ids()) == sorted(names)
    assert steps.stats.snapshot()["producer_rebuilt"] == 0, "there was no fatal error"


def test_a_process_that_ends_does_not_wait_half_a_minute_for_it(steps, cluster):
    make_silent(cluster, 1)
    names = [f"c{number}" for number in range(30)]
    send_bursts(steps, names)
    assert steps.stats.pending > 0
    steps.handover.request()
    steps.pass_time(2.0, 20)
    assert steps.stats.pending == 0
    assert sorted(cluster.call_ids()) == sorted(names)


def test_the_log_names_the_partition_and_says_when_it_is_over(steps, cluster, caplog):
    caplog.set_level(logging.WARNING)
    make_silent(cluster, 1)
    send_bursts(steps, [f"c{number}" for number in range(12)])
    assert "partitions 1 take no events" in caplog.text
    assert "the other 2" in caplog.text
    make_silent(cluster)
    steps.pass_time(3.0)
    assert "partitions 1 take events again" in caplog.text


PARTITIONS = st.sets(st.integers(0, 3))
FAULTS = st.one_of(
    st.tuples(st.just("silent"), PARTITIONS),
    st.tuples(st.just("leaderless"), PARTITIONS),
    st.tuples(st.just("refusing"), PARTITIONS),
    st.tuples(st.just("topic"), st.integers(0, 4)),
    st.tuples(st.just("time"), st.sampled_from([0.05, 0.5, 1.0, 40.0])),
    st.tuples(st.just("fatal"), st.booleans()),
)


@given(st.lists(FAULTS, max_size=15), st.booleans())
def test_after_any_faults_of_partitions_all_events_are_sent(tmp_path_factory, faults, journal):
    cluster = FakeCluster()
    cluster.partition_count = 4
    folder = tmp_path_factory.mktemp("spool") if journal else None
    steps = Steps(cluster, folder, timing=TIMING)
    names = []
    for number, (what, given_value) in enumerate(faults):
        if what == "silent":
            cluster.silent_partitions = given_value
        elif what == "leaderless":
            cluster.leaderless = given_value
        elif what == "refusing":
            cluster.refusing_partitions = dict.fromkeys(given_value, KafkaError.UNKNOWN)
        elif what == "topic":
            cluster.partition_count = given_value
        elif what == "fatal":
            cluster.fatal = KafkaError(KafkaError._FATAL, fatal=True) if given_value else None
        else:
            steps.pass_time(given_value, 8)
        names.append(f"c{number}")
        steps.offer(names[-1])
        steps.step()
    cluster.silent_partitions, cluster.refusing_partitions = set(), {}
    cluster.leaderless, cluster.fatal = set(), None
    steps.pass_time(90.0, 90)
    assert steps.stats.pending == 0
    assert set(cluster.call_ids()) == set(names)
    assert steps.stats.snapshot()["failed"] == 0
    if steps.journal is not None:
        assert steps.journal.waiting == 0
        steps.journal.release()
