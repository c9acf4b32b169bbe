"""Notes beside committed offsets: what is in them, and within which bound."""

import json

from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.kafka.committed import parse_note
from llmlog_consumer.worker.notes import MAX_NOTE_BYTES, StatusNotes, encode
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
