"""Unit tests of the model behind `pipeline size`."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.sizing import (
    FIGURES,
    MAX_CPU_SHARE,
    MAX_SHARD_BYTES,
    Line,
    Load,
    Plan,
    cost_of,
    size,
)

LOADS = st.builds(
    Load,
    calls_per_day=st.floats(1, 1e10),
    event_bytes=st.floats(300, 8e6),
    profile=st.sampled_from(sorted(FIGURES)),
    peak=st.floats(1, 20),
    index_days=st.floats(0, 1000),
    index_replicas=st.integers(0, 3),
    topic_days=st.floats(0, 100),
    topic_replicas=st.integers(1, 5),
)


def numbers(plan: Plan) -> dict[str, float]:
    return {field.name: getattr(plan, field.name) for field in fields(plan)}


def test_a_line_holds_from_the_smallest_event_that_was_measured():
    assert Line(10, 0.5, 0).at(100) == 60
    assert Line(-10, 0.5, 80).at(100) == 40
    assert Line(-10, 0.5, 80).at(20) == Line(-10, 0.5, 80).at(80) == 30


@pytest.mark.parametrize("profile", sorted(FIGURES))
def test_no_event_costs_nothing(profile):
    assert all(value > 0 for value in vars(cost_of(profile, 1)).values())


def test_a_load_by_hand():
    """Follow one load through every number, with the figures of the table."""
    load = Load(calls_per_day=864_000, event_bytes=4_000, peak=2, index_days=10, topic_days=5)
    cost, plan = cost_of("prompts", 4_000), size(load)
    assert plan.calls_per_second == 10
    assert plan.peak_calls_per_second == 20
    assert plan.peak_event_mib_per_second == pytest.approx(20 * 4_000 / 2**20)
    assert plan.worker_cores == pytest.approx(20 * cost.worker_us / 1e6)
    assert plan.index_bytes == pytest.approx(864_000 * cost.index_bytes * 10 * 2 * 1.25)
    assert plan.index_bytes_per_million == pytest.approx(1e6 * cost.index_bytes)
    assert plan.topic_bytes == pytest.approx(864_000 * cost.topic_bytes * 5 * 3)
    assert plan.kafka_in == pytest.approx(20 * cost.topic_bytes)
    assert plan.elasticsearch_in == 20 * 4_000
    assert (plan.workers, plan.partitions, plan.shards) == (1, 12, 1)


@given(LOADS)
def test_a_plan_holds_what_it_is_for(load):
    plan = size(load)
    assert all(value >= 0 for value in numbers(plan).values())
    assert plan.workers * MAX_CPU_SHARE >= plan.worker_cores * 0.999_999
    assert plan.partitions >= 2 * plan.workers
    assert plan.partitions % 12 == 0
    day = load.calls_per_day * cost_of(load.profile, load.event_bytes).index_bytes
    assert plan.shards * MAX_SHARD_BYTES >= day * 0.999_999


@given(LOADS, st.floats(1, 10))
def test_more_calls_never_need_less(load, factor):
    less = numbers(size(load))
    more = numbers(size(replace(load, calls_per_day=load.calls_per_day * factor)))
    for name, value in less.items():
        if not name.endswith(("_per_mib", "_per_million")):
            assert more[name] >= value * 0.999_999, name


@given(LOADS, st.floats(1, 10))
def test_larger_events_never_need_less(load, factor):
    less = numbers(size(load))
    more = numbers(size(replace(load, event_bytes=load.event_bytes * factor)))
    for name, value in less.items():
        if not name.endswith("_per_mib"):
            assert more[name] >= value * 0.999_999, name


def test_profiles_are_those_of_the_command():
    from llmlog_consumer.cli.sizing.commands import Profile

    assert set(FIGURES) == {one.value for one in Profile}


def test_an_unknown_profile_is_refused():
    with pytest.raises(KeyError):
        cost_of("poems", 100)
