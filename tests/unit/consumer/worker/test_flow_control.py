"""When a worker stops polling, when it pauses, and that it always resumes."""

from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.worker.flow_control import (
    HEAVY_SECONDS,
    MAX_IN_FLIGHT_BYTES,
    MAX_PARTITION_BYTES,
    MAX_STOP_SECONDS,
    FlowControl,
)

MB = 1024 * 1024


def test_no_partition_is_paused_while_there_is_room():
    flow = FlowControl()
    assert flow.decide({0: 0, 1: 5 * MB}, 1.0, draining=False) == set()
    assert not flow.stop_polling


def test_enough_altogether_stops_polling_first_and_pauses_after_a_while():
    flow, full = FlowControl(), {0: 11 * MB, 1: 8 * MB, 2: 6 * MB}
    assert flow.decide({}, 10.0, draining=False) == set()
    assert flow.decide(full, 10.5, draining=False) == set()
    assert flow.stop_polling
    assert flow.decide(full, 10.0 + MAX_STOP_SECONDS, draining=False) == {0, 1, 2}
    assert not flow.stop_polling
    assert flow.decide({0: 11 * MB, 1: 6 * MB, 2: 2 * MB}, 13.0, draining=False) == {0, 1, 2}
    assert flow.decide({0: 11 * MB, 1: 6 * MB, 2: 0}, 14.0, draining=False) == {0}
    assert flow.decide({0: 7 * MB, 1: 0, 2: 0}, 15.0, draining=False) == {0}
    assert flow.decide({0: 5 * MB, 1: 0, 2: 0}, 16.0, draining=False) == set()


def test_as_much_as_the_bounds_allow_is_taken_in():
    flow = FlowControl()
    full = {0: MAX_PARTITION_BYTES, 1: MAX_IN_FLIGHT_BYTES - MAX_PARTITION_BYTES}
    assert flow.decide(full, 1.0, draining=False) == set()
    assert not flow.stop_polling


def test_polling_resumes_as_soon_as_there_is_room():
    flow = FlowControl()
    flow.decide({0: 11 * MB, 1: 14 * MB}, 1.0, draining=False)
    assert flow.stop_polling
    flow.decide({0: 11 * MB, 1: 12 * MB}, 1.1, draining=False)
    assert not flow.stop_polling


def test_one_slow_partition_is_paused_at_once_and_the_others_are_not():
    flow = FlowControl()
    assert flow.decide({0: 13 * MB, 1: 0, 2: 0}, 1.0, draining=False) == {0}
    assert not flow.stop_polling


def test_one_stuck_partition_does_not_keep_the_others_paused():
    flow = FlowControl()
    stuck = MAX_PARTITION_BYTES + MB // 2
    flow.decide({0: stuck, 1: 6 * MB, 2: 6 * MB}, 0.0, draining=False)
    assert flow.decide({0: stuck, 1: 6 * MB, 2: 6 * MB}, 5.0, draining=False) == {0, 1, 2}
    assert flow.decide({0: stuck, 1: 0, 2: 0}, 6.0, draining=False) == {0}


def test_one_partition_stuck_far_above_its_bound_does_not_keep_the_others_paused():
    """One chunk of large records can be more than the bound over all."""
    flow, stuck = FlowControl(), 2 * MAX_IN_FLIGHT_BYTES
    assert flow.decide({0: 0, 1: 0}, 0.0, draining=False) == set()
    assert flow.decide({0: stuck, 1: 0}, 5.0, draining=False) == {0, 1}
    assert flow.decide({0: stuck, 1: 0}, 5.1, draining=False) == {0}
    assert flow.decide({0: stuck, 1: 11 * MB}, 5.2, draining=False) == {0}
    assert flow.decide({0: 5 * MB, 1: 0}, 6.0, draining=False) == set()


def test_a_draining_worker_pauses_every_partition_and_goes_on_polling():
    flow = FlowControl()
    assert flow.decide({0: 0, 1: 0}, 1.0, draining=True) == {0, 1}
    assert not flow.stop_polling
    assert flow.decide({0: 0, 1: 0}, 2.0, draining=False) == set()


partitions = st.dictionaries(st.integers(0, 5), st.integers(0, 30 * MB), max_size=5)


@given(st.lists(st.tuples(partitions, st.floats(0, 3), st.booleans()), max_size=20))
def test_it_never_wedges_and_never_overflows(turns):
    flow, now, stopped_since = FlowControl(), 100.0, None
    for in_flight, passed, draining in turns:
        now += passed
        before = flow.paused
        counted = sum(
            min(size, MAX_PARTITION_BYTES) if partition in before else size
            for partition, size in in_flight.items()
        )
        paused = flow.decide(in_flight, now, draining=draining)
        assert paused <= set(in_flight)
        if flow.stop_polling:
            assert any(in_flight.values()), "there is something to wait for"
            stopped_since = now if stopped_since is None else stopped_since
            assert now - stopped_since < MAX_STOP_SECONDS
        else:
            stopped_since = None
            if counted > MAX_IN_FLIGHT_BYTES:
                assert paused == set(in_flight)
    assert flow.decide({0: 0, 1: 0}, now, draining=False) == set()
    assert not flow.stop_polling


def test_after_heavy_headers_partitions_are_paused_without_braking_first():
    flow, full = FlowControl(), {0: 2 * MAX_IN_FLIGHT_BYTES}
    flow.forbid_braking(100.0)
    assert flow.decide(full, 100.0 + HEAVY_SECONDS - 1, draining=False) == {0}
    assert not flow.stop_polling


def test_braking_is_allowed_again_some_time_after_heavy_headers():
    flow, full = FlowControl(), {0: 2 * MAX_IN_FLIGHT_BYTES}
    flow.forbid_braking(100.0)
    assert flow.decide({0: 0}, 100.0 + HEAVY_SECONDS, draining=False) == set()
    assert flow.decide(full, 100.0 + HEAVY_SECONDS, draining=False) == set()
    assert flow.stop_polling


def test_letters_on_their_way_count_over_all_partitions():
    flow = FlowControl()
    flow.decide({0: 10}, 0.0, draining=False, letter_bytes=MAX_IN_FLIGHT_BYTES - 10)
    assert not flow.stop_polling
    flow.decide({0: 10}, 0.0, draining=False, letter_bytes=MAX_IN_FLIGHT_BYTES - 9)
    assert flow.stop_polling
