"""Alive and ready: what each state of the workers says, with the reason."""

from __future__ import annotations

import pytest

from llmlog_consumer.service.health import MAX_TURN_SECONDS, STILL_SECONDS, find_dead, find_unready
from llmlog_consumer.service.state import State
from llmlog_consumer.service.watches import Lag

WELL = {"partitions": (0, 1), "idle_seconds": 0.0, "fault": ""}
OLD = STILL_SECONDS + 10


def unready(reports, lag=None, faults=()):
    return list(find_unready(State(reports=reports, faults=faults, turned_at=1.0), lag or Lag()))


def test_a_worker_that_has_partitions_and_no_fault_is_ready():
    assert unready({0: WELL}) == []


def test_a_worker_that_never_settled_is_ready_where_nothing_waits():
    assert unready({0: WELL | {"idle_seconds": OLD}}, Lag({0: 0, 1: 0}, {0: 0.0, 1: 0.0})) == []


def test_a_worker_without_partitions_is_ready_once_it_has_joined():
    """There are more workers than partitions; others have those with records."""
    idle = WELL | {"partitions": (), "idle_seconds": OLD}
    assert unready({0: idle}, Lag({0: 9}, {0: OLD})) == []
    (reason,) = unready({0: idle | {"partitions": None}})
    assert "worker 0 has not joined the group" in reason


@pytest.mark.parametrize(
    ("idle", "age", "is_ready"),
    [(OLD, OLD, False), (OLD, 1.0, True), (1.0, OLD, True), (OLD, None, True)],
)
def test_a_worker_that_settles_nothing_of_old_records_is_not_ready(idle, age, is_ready):
    reasons = unready({0: WELL | {"idle_seconds": idle}}, Lag({1: 7}, {1: age}))
    assert (reasons == []) is is_ready
    if reasons:
        assert "7 records wait" in reasons[0]
        assert f"for {OLD:.0f} s" in reasons[0]


def test_each_fault_is_a_reason_of_its_own():
    reports = {0: WELL, 1: WELL | {"fault": "Kafka does not answer"}, 2: WELL | {"fault": "x"}}
    assert unready(reports, faults=("worker 3 died",)) == [
        "worker 3 died",
        "worker 1: Kafka does not answer",
        "worker 2: x",
    ]


def test_before_the_first_turn_nothing_is_ready_and_nothing_dead():
    assert list(find_unready(State(), Lag())) == ["the workers start"]
    assert list(find_dead(State(), 1e9)) == []


def test_a_supervisor_whose_loop_stands_is_dead():
    state = State(turned_at=100.0)
    assert list(find_dead(state, 100.0 + MAX_TURN_SECONDS - 1)) == []
    (reason,) = find_dead(state, 100.0 + MAX_TURN_SECONDS)
    assert "restart this process" in reason
