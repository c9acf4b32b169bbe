"""The map from source offsets to their newest letter."""

from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters.offset_map import OffsetMap, PartitionOffsets


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=80), st.integers(1, 5))
def test_the_newest_letter_of_each_offset_stays_in_any_order_of_puts(letters, max_unsorted):
    offsets, newest, replaced = PartitionOffsets(max_unsorted), {}, set()
    for value, (offset, second) in enumerate(letters):
        former = offsets.put(offset, second, value)
        if offset in newest and second < newest[offset][0]:
            assert former == value
        else:
            assert former == (newest[offset][1] if offset in newest else None)
            newest[offset] = (second, value)
        replaced |= {former} - {None}
    assert sorted(offsets) == sorted(newest.values())
    assert {offset: offsets.get(offset) for offset in newest} == newest
    assert offsets.get(31) is None
    assert len(offsets) == len(newest)
    assert {value for _, value in offsets} | replaced == set(range(len(letters)))


def test_of_two_letters_in_one_second_the_later_put_stays():
    offsets = PartitionOffsets()
    assert offsets.put(5, 10, 1) is None
    assert offsets.put(5, 10, 2) == 1
    assert offsets.put(3, 10, 3) is None
    assert offsets.put(3, 10, 4) == 3
    assert (offsets.get(5), offsets.get(3)) == ((10, 2), (10, 4))


def test_partitions_and_topics_are_kept_apart():
    newest = OffsetMap()
    for value, key in enumerate([("a", 0), ("a", 1), ("b", 0), ("a", 0)]):
        newest.partition(key).put(7, value, value)
    assert len(newest) == 3
    assert sorted(newest) == [(1, 1), (2, 2), (3, 3)]
