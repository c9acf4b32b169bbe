"""A payload whose conversion does not end costs its own content, and nothing else waits for it."""

import asyncio
import json
import sys
import threading
import time
from dataclasses import replace
from enum import Enum
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlog_common.throttled_log import GatewayLogger, ThrottledLog
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload
from llmlog_producer.events.snapshot import snapshot
from llmlog_producer.sending.conversion import MAX_STUCK, Conversion
from llmlog_schemas.codec import Decoder
from support.fakes.gateway import FAST, Clock, InlineJobs
from support.pipeline import wait_until

SHORT = replace(FAST, stuck_seconds=0.2)


def document(value):
    return json.loads(Decoder().decode(value)["document"])


class Blocked:
    """Code of others that does not return before it is let go.

    Attributes:
        go_on: lets it go.
        reached: how often it was called.
    """

    def __init__(self):
        self.go_on = threading.Event()
        self.reached = 0

    def __call__(self, *_):
        self.reached += 1
        self.go_on.wait(60)
        return "late"


def by_repr(blocked):
    return type("Slow", (), {"__repr__": blocked})()


def by_model_dump(blocked):
    return type("Slow", (), {"model_dump": blocked})()


def by_items(blocked):
    def items(self):
        blocked()
        return dict.items(self)

    return type("Slow", (dict,), {"items": items})(a=1)


def by_class(blocked):
    return type("Slow", (), {"__class__": property(blocked)})()


def by_sort_of_a_set(blocked):
    return {by_repr(blocked)}


def by_error(blocked):
    return type("Slow", (Exception,), {"__str__": blocked})("x")


def by_iteration(blocked):
    def iterate(self):
        blocked()
        return list.__iter__(self)

    return type("Slow", (list,), {"__iter__": iterate})([1])


def by_loop(blocked):
    def loop(self):
        blocked.reached += 1
        while not blocked.go_on.is_set():
            pass
        return "late"

    return type("Slow", (), {"__repr__": loop})()


@pytest.fixture
def blocked():
    one = Blocked()
    yield one
    one.go_on.set()


@pytest.fixture
def redact(monkeypatch):
    """Make a function importable, for `redact_function`."""

    def install(function):
        module = ModuleType("llmlog_test_redact")
        module.function = function
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return f"{module.__name__}.function"

    return install


@pytest.mark.parametrize(
    "make",
    [by_repr, by_model_dump, by_items, by_class, by_sort_of_a_set, by_error, by_iteration, by_loop],
)
def test_an_object_that_does_not_return_costs_its_own_content_alone(
    start, cluster, caplog, blocked, make
):
    gateway = start("spill", timing=SHORT)
    began = time.monotonic()
    gateway.offer("slow", metadata={"object": make(blocked)}, response_cost=0.25)
    assert time.monotonic() - began < 0.15, "the hook runs none of its code"
    gateway.offer("object", metadata={"object": SimpleNamespace(a=1)})
    gateway.offer("plain")
    assert gateway.publisher.flush(20) == 0
    assert sorted(cluster.call_ids()) == ["object", "plain", "slow"]
    by_id = {one["litellm_call_id"]: one for one in map(document, cluster.records)}
    assert by_id["slow"]["response_cost"] == 0.25
    assert not {"messages", "response", "metadata"} & by_id["slow"].keys()
    note = by_id["slow"]["extra"]["llmlog_redacted"]
    assert note == ["everything: its conversion has not ended"]
    assert "messages" in by_id["object"]
    assert gateway.counter("stuck") == 1
    assert "has not ended within" in caplog.text
    assert f"{__name__.rpartition('.')[2]}.py" in caplog.text or "threading.py" in caplog.text
    blocked.go_on.set()
    gateway.offer("after", metadata={"object": SimpleNamespace(a=1)})
    assert gateway.publisher.flush(20) == 0
    assert sorted(cluster.call_ids()) == ["after", "object", "plain", "slow"], "it is ignored"


def test_a_plain_payload_does_not_wait_for_an_object(start, cluster, blocked):
    gateway = start("spill", timing=replace(FAST, stuck_seconds=600.0))
    gateway.offer("slow", metadata={"object": by_repr(blocked)})
    wait_until(lambda: blocked.reached, 10)
    gateway.offer(*map(str, range(50)))
    wait_until(lambda: len(cluster.records) == 50, 10)
    blocked.go_on.set()
    assert gateway.publisher.flush(20) == 0
    assert "metadata" in document(cluster.records[-1])


def test_a_redact_function_that_does_not_return(start, cluster, blocked, redact):
    seen = []

    def function(payload):
        seen.append(payload["litellm_call_id"])
        if seen[-1] == "slow":
            blocked()
        return {**payload, "messages": "redacted"}

    gateway = start("spill", timing=SHORT, redact_function=redact(function), redact_fields="model")
    gateway.offer("a", "slow", "b")
    assert gateway.publisher.flush(20) == 0
    by_id = {one["litellm_call_id"]: one for one in map(document, cluster.records)}
    assert by_id["a"]["messages"] == by_id["b"]["messages"] == "redacted"
    assert "messages" not in by_id["slow"]
    assert by_id["slow"]["model"] == "<redacted>", "fields are hidden all the same"
    assert len(cluster.records) == 3
    blocked.go_on.set()
    wait_until(lambda: [t.name for t in threading.enumerate()].count("llmlog-convert") < 2, 10)
    assert sorted(seen) == ["a", "b", "slow"], "a thread that was left behind does no further one"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_redact_function_that_raises_what_ends_a_thread(start, cluster, redact, error):
    def function(payload):
        if payload["litellm_call_id"] == "rude":
            raise error
        return payload

    gateway = start("spill", redact_function=redact(function))
    gateway.offer("a", "rude", "b")
    assert gateway.publisher.flush(20) == 0
    by_id = {one["litellm_call_id"]: one for one in map(document, cluster.records)}
    assert sorted(by_id) == ["a", "b", "rude"]
    assert by_id["rude"]["extra"]["llmlog_redacted"] == ["everything: its conversion failed"]
    assert "messages" not in by_id["rude"]


def test_no_more_code_of_others_runs_once_some_threads_are_stuck(
    start, cluster, blocked, redact, caplog
):
    def function(payload):
        blocked()
        return payload

    gateway = start("spill", timing=SHORT, redact_function=redact(function))
    gateway.offer(*map(str, range(MAX_STUCK)))
    assert gateway.publisher.flush(30) == 0
    before = blocked.reached
    gateway.offer("more")
    assert gateway.publisher.flush(10) == 0
    assert (blocked.reached, gateway.counter("stuck")) == (before, MAX_STUCK + 1)
    assert "NO CONTENT IS CONVERTED" in caplog.text
    blocked.go_on.set()

    def is_back():
        gateway.offer("again")
        assert gateway.publisher.flush(10) == 0
        return "messages" in document(cluster.records[-1])

    wait_until(is_back, 10)
    ids = cluster.call_ids()
    assert [ids.count(str(number)) for number in range(MAX_STUCK)] == [1] * MAX_STUCK


@pytest.mark.parametrize("journal", ["spill", "off"])
def test_an_end_does_not_wait_for_it_beyond_its_bound(start, cluster, blocked, journal):
    gateway = start(journal, timing=replace(FAST, stuck_seconds=600.0))
    gateway.offer("slow", metadata={"object": by_repr(blocked)})
    wait_until(lambda: blocked.reached, 10)
    began = time.monotonic()
    assert gateway.publisher.flush(0.2) == 1
    assert gateway.publisher.journal_first(10.0)
    assert gateway.publisher.flush(10) == 0, "it is given up sooner where the process may end"
    assert gateway.publisher.close(5) == 0
    assert time.monotonic() - began < 9
    assert cluster.call_ids() == ["slow"]


class Builder:
    """Makes an event of a payload: its call's id. Some take long, as the clock of a test says."""

    def __init__(self, clock):
        self.clock, self.conversion, self.results = clock, None, []
        self.pauses = 0

    def give_way(self):
        self.pauses += 1

    def build(self, payload):
        for _ in range(payload.payload["looks"]):
            self.clock.now += payload.payload["seconds"]
            self.results += self.conversion.take(urgent=False)
        return ("whole", payload.call_id)

    def build_without_content(self, payload, why):
        assert why
        return ("bare", payload.call_id)


def rig():
    clock = Clock()
    builder, stats = Builder(clock), Stats()
    builder.conversion = conversion = Conversion(
        builder, stats, ThrottledLog(GatewayLogger(), clock),
        wake=lambda: None, give_way=builder.give_way,
        timing=replace(FAST, stuck_seconds=5.0), new_thread=lambda _: InlineJobs(), clock=clock,
    )  # fmt: skip
    return builder, conversion, stats


def slow(name, looks, seconds):
    return CapturedPayload({"looks": looks, "seconds": seconds}, str(name), 1.0, 10)


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([0.0, 0.3, 0.9, 3600.0]))))
@settings(max_examples=200)
def test_each_payload_becomes_one_event_however_long_it_takes(given_):
    builder, conversion, stats = rig()
    for number, (looks, seconds) in enumerate(given_):
        conversion.submit(slow(number, looks, seconds))
        builder.results += conversion.take(urgent=False)
    assert not conversion.is_busy
    assert sorted(int(one.call_id) for one, _ in builder.results) == list(range(len(given_)))
    assert all(one.call_id == event[1] for one, event in builder.results)
    bare = [int(one.call_id) for one, event in builder.results if event[0] == "bare"]
    # The first look begins the count, and a longer time between two counts as a second.
    stuck = [
        number
        for number, (looks, seconds) in enumerate(given_)
        if (looks - 1) * min(seconds, 1.0) > 5.0
    ]
    assert bare == stuck
    assert stats.snapshot()["stuck"] == len(stuck)
    assert builder.pauses == len(given_) - len(stuck), "other threads run between two conversions"


def test_a_process_that_stood_still_gives_nothing_up():
    builder, conversion, _ = rig()
    conversion.submit(slow("a", 4, 86_400.0))
    ((_, event),) = [*builder.results, *conversion.take(urgent=False)]
    assert event == ("whole", "a")


class Colour(Enum):
    RED = "red"

    @property
    def value(self):
        raise AssertionError("the hook runs it")


def test_a_hook_runs_no_code_of_an_object():
    class Watched:
        def __getattribute__(self, name):
            raise AssertionError(name)

    copy, _ = snapshot({"a": Watched(), "b": Colour.RED}, without=frozenset())
    assert copy["b"] == "red"
