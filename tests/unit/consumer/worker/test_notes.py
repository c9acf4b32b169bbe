"""Notes beside committed offsets: what is in them, and within which bound."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.kafka.committed import parse_note
from llmlog_consumer.worker.notes import (
    MAX_NOTE_BYTES,
    MAX_UNHEALTHY_CHARACTERS,
    StatusNotes,
    encode,
)
from support.fakes.delivery import FakeClock

REASONS = st.text(max_size=2000)
MEMORIES = st.fixed_dictionaries(
    {},
    optional={
        "circuit": st.text("0123456789abcdef", min_size=12, max_size=12),
        "held": st.dictionaries(st.text(max_size=255), st.integers(0, 300), max_size=16),
    },
)


def write(notes, clock, settled=0, **memory):
    return json.loads(notes.write(clock.now, settled, {0: 3}, "", {0: memory})[0])


def test_a_rate_stands_until_the_next_is_due():
    clock = FakeClock(0.0)
    notes = StatusNotes("host/0", 3.0, clock)
    assert write(notes, clock)["rate"] == 0.0
    clock.now = 1.0
    assert write(notes, clock, 30)["rate"] == 0.0
    clock.now = 3.0
    assert write(notes, clock, 60)["rate"] == 20.0


def test_a_note_is_due_in_its_time_and_at_once_where_health_changes():
    clock = FakeClock(0.0)
    notes = StatusNotes("host/0", 3.0, clock)
    assert notes.is_due(0.0)
    write(notes, clock)
    assert not notes.is_due(2.9)
    assert notes.is_due(3.0)
    assert notes.is_due(1.0, "no leader")
    notes.write(1.0, 0, {0: 3}, "no leader", {})
    assert not notes.is_due(1.5, "no leader for 2 s"), "the same, in other words"
    assert notes.is_due(1.5)


def test_the_first_rate_is_of_the_time_since_the_worker_began_and_later_ones_of_the_interval():
    clock = FakeClock(10.0)
    notes = StatusNotes("host/0", 3.0, clock)
    clock.now = 11.0
    assert write(notes, clock, 20)["rate"] == 20.0
    clock.now = 14.0
    assert write(notes, clock, 70)["rate"] == 16.7, "one digit"


def test_a_rate_is_a_number_at_once():
    clock = FakeClock(10.0)
    notes = StatusNotes("host/0", 3.0, clock)
    assert write(notes, clock, 0)["rate"] == 0.0
    notes = StatusNotes("host/0", 3.0, clock)
    clock.now = 10.5
    assert write(notes, clock, 1)["rate"] == 2.0


def test_a_note_says_who_wrote_it_when_and_what_is_wrong():
    notes = StatusNotes("host/0", 3.0, FakeClock(0.0))
    before_ms = int(time.time() * 1000)
    reason = "x" * 2 * MAX_UNHEALTHY_CHARACTERS
    note = json.loads(notes.write(0.0, 0, {0: 3}, reason, {})[0])
    assert before_ms <= note.pop("at") <= time.time() * 1000
    unhealthy = reason[:MAX_UNHEALTHY_CHARACTERS]
    assert note == {"worker": "host/0", "rate": 0.0, "unhealthy": unhealthy, "in_flight": 3}
    healthy = json.loads(notes.write(0.0, 0, {0: 3}, "", {})[0])
    assert "unhealthy" not in healthy


def test_a_new_worker_is_healthy_as_far_as_is_known():
    notes = StatusNotes("host/0", 3.0, FakeClock(0.0))
    notes.write(0.0, 0, {0: 3}, "", {})
    assert not notes.is_due(0.0)


@pytest.mark.parametrize(
    ("long", "kept"),
    [
        ((), {"at", "worker", "unhealthy", "circuit", "held"}),
        (("unhealthy",), {"at", "worker", "circuit", "held"}),
        (("held",), {"at", "worker", "circuit"}),
        (("unhealthy", "held"), {"at", "worker", "circuit"}),
        (("worker",), {"at", "circuit"}),
        (("circuit",), set()),
    ],
)
def test_what_does_not_fit_is_left_out_the_reason_first_and_the_circuit_last(long, kept):
    values = {
        name: "x" * MAX_NOTE_BYTES if name in long else "y"
        for name in ("at", "worker", "unhealthy", "circuit", "held")
    }
    state = {name: values[name] for name in ("worker", "at", "unhealthy")}
    memory = {name: values[name] for name in ("circuit", "held")}
    assert set(json.loads(encode(state, memory) or "{}")) == kept


def test_a_note_of_exactly_the_bound_is_whole():
    room = MAX_NOTE_BYTES - len('{"circuit":"","at":1}')
    whole = encode({"at": 1}, {"circuit": "x" * room})
    assert len(whole) == MAX_NOTE_BYTES
    assert len(encode({"at": 1}, {"circuit": "x" * (room + 1)})) < MAX_NOTE_BYTES


def test_a_note_has_the_memory_of_its_partition_alone():
    clock = FakeClock(0.0)
    notes = StatusNotes("host/0", 3.0, clock)
    first, second = notes.write(0.0, 0, {0: 3, 1: 4}, "", {1: {"circuit": "abc"}}).values()
    assert "circuit" not in json.loads(first)
    assert json.loads(second)["circuit"] == "abc"


def test_a_note_without_state_and_memory_is_empty():
    assert encode({}, {}) == ""


@given(REASONS, MEMORIES)
def test_a_note_is_never_longer_than_the_broker_takes_and_keeps_the_circuit(reason, memory):
    text = encode({"at": 1, "worker": "host/0", "unhealthy": reason}, memory)
    assert len(text.encode()) <= MAX_NOTE_BYTES
    note = parse_note(text)
    assert note.get("circuit") == memory.get("circuit")
    assert note["worker"] == "host/0"
    if len(json.dumps([reason, memory], ensure_ascii=True)) < 1000:
        assert note["unhealthy"] == reason
        assert note.get("held") == memory.get("held")
