"""When a worker brakes, when it pauses, and that it always goes on."""

from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.worker.flow_control import (
    BRAKE_SECONDS,
    MAX_IN_FLIGHT,
    MAX_IN_FLIGHT_PARTITION,
    FlowControl,
)

MB = 1024 * 1024


def test_with_room_nothing_is_paused():
    intake = FlowControl()
    assert intake.decide({0: 0, 1: 5 * MB}, 1.0, draining=False) == set()
    assert not intake.stop_polling


def test_enough_altogether_brakes_first_and_pauses_after_a_while():
    intake, full = FlowControl(), {0: 11 * MB, 1: 8 * MB, 2: 6 * MB}
    assert intake.decide({}, 10.0, draining=False) == set()
    assert intake.decide(full, 10.5, draining=False) == set()
    assert intake.stop_polling
    assert intake.decide(full, 10.0 + BRAKE_SECONDS, draining=False) == {0, 1, 2}
    assert not intake.stop_polling
    assert intake.decide({0: 11 * MB, 1: 6 * MB, 2: 2 * MB}, 13.0, draining=False) == {0, 1, 2}
    assert intake.decide({0: 7 * MB, 1: 0, 2: 0}, 14.0, draining=False) == {0}
    assert intake.decide({0: 5 * MB, 1: 0, 2: 0}, 15.0, draining=False) == set()


def test_the_brake_is_off_as_soon_as_there_is_room():
    intake = FlowControl()
    intake.decide({0: 11 * MB, 1: 14 * MB}, 1.0, draining=False)
    assert intake.stop_polling
    intake.decide({0: 11 * MB, 1: 12 * MB}, 1.1, draining=False)
    assert not intake.stop_polling


def test_one_slow_partition_is_paused_at_once_and_slows_nobody():
    intake = FlowControl()
    assert intake.decide({0: 13 * MB, 1: 0, 2: 0}, 1.0, draining=False) == {0}
    assert not intake.stop_polling


def test_one_stuck_partition_holds_up_nobody_for_ever():
    intake = FlowControl()
    stuck = MAX_IN_FLIGHT_PARTITION + MB // 2
    intake.decide({0: stuck, 1: 6 * MB, 2: 6 * MB}, 0.0, draining=False)
    assert intake.decide({0: stuck, 1: 6 * MB, 2: 6 * MB}, 5.0, draining=False) == {0, 1, 2}
    assert intake.decide({0: stuck, 1: 0, 2: 0}, 6.0, draining=False) == {0}


def test_nor_does_one_that_is_stuck_far_above_its_bound():
    """One chunk of large records can be more than the bound over all."""
    intake, stuck = FlowControl(), 2 * MAX_IN_FLIGHT
    assert intake.decide({0: 0, 1: 0}, 0.0, draining=False) == set()
    assert intake.decide({0: stuck, 1: 0}, 5.0, draining=False) == {0, 1}
    assert intake.decide({0: stuck, 1: 0}, 5.1, draining=False) == {0}
    assert intake.decide({0: stuck, 1: 11 * MB}, 5.2, draining=False) == {0}
    assert intake.decide({0: 5 * MB, 1: 0}, 6.0, draining=False) == set()


def test_what_is_shut_takes_nothing_and_is_polled():
    intake = FlowControl()
    assert intake.decide({0: 0, 1: 0}, 1.0, draining=True) == {0, 1}
    assert not intake.stop_polling
    assert intake.decide({0: 0, 1: 0}, 2.0, draining=False) == set()


partitions = st.dictionaries(st.integers(0, 5), st.integers(0, 30 * MB), max_size=5)


@given(st.lists(st.tuples(partitions, st.floats(0, 3), st.booleans()), max_size=20))
def test_it_never_wedges_and_never_overflows(turns):
    intake, now, braked_since = FlowControl(), 100.0, None
    for in_flight, passed, draining in turns:
        now += passed
        before = intake.paused
        counted = sum(
            min(size, MAX_IN_FLIGHT_PARTITION) if partition in before else size
            for partition, size in in_flight.items()
        )
        paused = intake.decide(in_flight, now, draining=draining)
        assert paused <= set(in_flight)
        if intake.stop_polling:
            assert any(in_flight.values()), "there is something to wait for"
            braked_since = now if braked_since is None else braked_since
            assert now - braked_since < BRAKE_SECONDS
        else:
            braked_since = None
            if counted > MAX_IN_FLIGHT:
                assert paused == set(in_flight)
    assert intake.decide({0: 0, 1: 0}, now, draining=False) == set()
    assert not intake.stop_polling
