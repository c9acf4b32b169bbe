"""Runs: what records weigh, and that no light record shares a run with a heavy one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from llmlog_consumer.worker.runs import (
    LIGHT_BYTES,
    OVERHEAD_BYTES,
    split_by_partition,
    split_by_weight,
    weigh_beside,
)
from support.fakes.delivery import FakeRecord


def shape(records):
    return [[r.offset() for r in run.records] for run in split_by_weight(records)]


def test_records_are_split_by_partition_in_their_order():
    records = [FakeRecord(1), FakeRecord(7, partition=3), FakeRecord(2)]
    split = split_by_partition(records)
    assert {p: [r.offset() for r in of] for p, of in split.items()} == {0: [1, 2], 3: [7]}


def test_records_with_keys_alone_are_one_run():
    records = [FakeRecord(n, b"value", key=b"k" * 20) for n in range(1000)]
    (run,) = split_by_weight(records)
    assert run.records == records
    assert (run.value_bytes, run.beside_bytes) == (5000, OVERHEAD_BYTES + 20)
    assert not run.is_heavy_beside


def test_records_without_key_value_and_headers_weigh_what_python_needs_for_them():
    (run,) = split_by_weight([FakeRecord(1, None), FakeRecord(2, b"")])
    assert (run.value_bytes, run.beside_bytes) == (0, OVERHEAD_BYTES)


def test_a_mean_is_rounded_up():
    (run,) = split_by_weight([FakeRecord(1, key=b"k"), FakeRecord(2)])
    assert run.beside_bytes == OVERHEAD_BYTES + 1


def test_a_record_with_heavy_headers_is_in_a_run_of_its_own():
    heavy = FakeRecord(2, headers=[("trace", b"x" * 1_000_000), ("none", None)])
    records = [FakeRecord(1), heavy, FakeRecord(3, headers=[("h", b"light")]), FakeRecord(4)]
    first, second, third = split_by_weight(records)
    assert [len(run.records) for run in (first, second, third)] == [1, 1, 2]
    assert second.beside_bytes == OVERHEAD_BYTES + 1_000_009
    assert [run.is_heavy_beside for run in (first, second, third)] == [False, True, False]


def test_a_record_with_a_heavy_key_is_in_a_run_of_its_own():
    assert shape([FakeRecord(1), FakeRecord(2, key=b"k" * (LIGHT_BYTES + 1))]) == [[1], [2]]
    assert shape([FakeRecord(1), FakeRecord(2, key=b"k" * LIGHT_BYTES)]) == [[1, 2]]


def test_records_that_are_all_heavy_alike_are_one_run():
    assert shape([FakeRecord(n, headers=[("h", b"x" * 3000)]) for n in range(9)]) == [
        list(range(9))
    ]


SIZES = st.one_of(st.none(), st.integers(0, 100), st.integers(900, 5_000))


@settings(max_examples=200)
@given(st.lists(st.tuples(SIZES, SIZES, SIZES), min_size=1, max_size=30))
def test_no_record_weighs_much_more_than_is_counted_for_it(sizes):
    records = [
        FakeRecord(
            offset,
            None if value is None else b"v" * value,
            key=None if key is None else b"k" * key,
            headers=None if header is None else [("h", b"x" * header)],
        )
        for offset, (value, key, header) in enumerate(sizes)
    ]
    runs = list(split_by_weight(records))
    assert [record for run in runs for record in run.records] == records
    for run in runs:
        assert run.value_bytes == sum(map(len, run.records))
        counted = len(run.records) * (run.beside_bytes - OVERHEAD_BYTES)
        actual = sum(map(weigh_beside, run.records))
        assert actual <= counted < actual + len(run.records)
        for record in run.records:
            assert weigh_beside(record) <= max(LIGHT_BYTES, 2 * (run.beside_bytes - OVERHEAD_BYTES))
