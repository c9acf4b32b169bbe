"""Held records: their order, and that what is held is what is counted."""

from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.delivery.pauses.held_records import OVERHEAD_BYTES, HeldRecords, weigh
from llmlog_consumer.offset_tracker import Span
from support.fakes.delivery import FakeRecord

RECORDS = st.builds(
    FakeRecord,
    st.integers(0, 99),
    st.none() | st.binary(max_size=30),
    st.integers(0, 3),
    key=st.none() | st.binary(max_size=30),
    headers=st.none() | st.lists(st.tuples(st.text("ab"), st.none() | st.binary(max_size=9))),
)


def span(partition=0):
    return Span(partition, 1, 0, 9, 0, 10, 0.0)


def test_a_record_weighs_value_key_headers_and_itself():
    record = FakeRecord(0, b"12345", key=b"123", headers=[("ab", b"1"), ("c", None)])
    assert weigh(record) == OVERHEAD_BYTES + 5 + 3 + 3 + 1
    assert weigh(FakeRecord(0, None)) == OVERHEAD_BYTES


def test_a_probe_is_taken_from_the_oldest_and_put_back_in_its_order():
    held = HeldRecords()
    records = [FakeRecord(offset) for offset in range(5)]
    for record in records:
        held.add(span(), record)
    probe = held.take(2)
    assert [record.offset() for _, record in probe] == [0, 1]
    assert len(held) == 3
    held.put_back(probe)
    assert [record.offset() for _, record in held.take()] == [0, 1, 2, 3, 4]
    assert (len(held), held.bytes, held.partitions) == (0, 0, {})


@given(st.lists(st.one_of(RECORDS, st.sampled_from(["take", "back", "release", "drop"]))))
def test_what_is_held_is_what_is_counted(steps):
    held, spans, kept, taken = HeldRecords(), {p: span(p) for p in range(4)}, [], []
    for step in steps:
        if step == "take":
            taken, expected, kept = held.take(2), kept[:2], kept[2:]
            assert taken == expected
        elif step == "back":
            held.put_back(taken)
            kept, taken = [*taken, *kept], []
        elif step == "release":
            spans[1].released, spans[1] = True, span(1)
        elif step == "drop":
            dropped = held.drop_released()
            assert dropped == [item for item in kept if item[0].released]
            kept = [item for item in kept if not item[0].released]
        else:
            held.add(spans[step.partition()], step)
            kept.append((spans[step.partition()], step))
        assert len(held) == len(kept)
        assert held.bytes == sum(weigh(record) for _, record in kept)
        assert sum(held.partitions.values()) == len(kept)
        assert 0 not in held.partitions.values()


def test_what_a_rebalance_took_away_is_dropped_and_counts_no_more():
    held, gone, ours = HeldRecords(), span(1), span(2)
    first, second, third = (FakeRecord(offset, b"12345") for offset in range(3))
    held.add(gone, first)
    held.add(ours, second)
    held.add(gone, third)
    gone.released = True
    assert held.drop_released() == [(gone, first), (gone, third)]
    assert (held.bytes, held.partitions) == (weigh(second), {2: 1})
    assert held.take() == [(ours, second)]
