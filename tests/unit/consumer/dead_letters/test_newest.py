"""What is remembered of letters, to find the newest of each name."""

from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters.newest import MAX_INT64, LetterLog, NewestMap

NAMES = st.integers(0, 30) | st.integers(MAX_INT64 - 9, MAX_INT64)
LETTERS = st.lists(st.tuples(NAMES, st.integers(0, 5)), max_size=80)


def newest_of(letters):
    """Return second and number of each name's newest letter."""
    newest = {}
    for value, (name, second) in enumerate(letters):
        if second >= newest.get(name, (0, 0))[0]:
            newest[name] = (second, value)
    return newest


@given(LETTERS, st.integers(1, 5))
def test_the_newest_letter_of_each_name_stays_in_any_order_of_puts(letters, buckets):
    newest = NewestMap(buckets)
    for value, (name, second) in enumerate(letters):
        newest.put(name, second, value)
    expected = newest_of(letters)
    assert {name: newest.get(name) for name in expected} == expected
    assert newest.get(31) is None


@given(LETTERS, st.integers(1, 5))
def test_a_log_yields_the_newest_letter_of_each_name(letters, buckets):
    log = LetterLog(buckets)
    for value, (name, second) in enumerate(letters):
        log.put(name, second, value)
    assert sorted(log) == sorted(newest_of(letters).values())


def test_of_two_letters_in_one_second_the_later_put_stays():
    newest = NewestMap()
    for value, name in enumerate((5, 5, 3, 3)):
        newest.put(name, 10, value)
    assert (newest.get(5), newest.get(3)) == ((10, 1), (10, 3))
