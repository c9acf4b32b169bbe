"""The window of bulks in flight."""

from llmlog_consumer.delivery.concurrency import ConcurrencyLimit


def test_it_opens_by_one_for_each_round_of_answers():
    window = ConcurrencyLimit(most=10, size=4.0)
    for _ in range(4):
        window.succeeded()
    assert 4.8 < window.size <= 5.0
    for _ in range(6):
        window.succeeded()
    assert window.limit in {5, 6}


def test_it_never_opens_beyond_the_most():
    window = ConcurrencyLimit(most=4)
    for _ in range(1000):
        window.succeeded()
    assert window.limit == 4


def test_a_push_back_halves_it():
    window = ConcurrencyLimit(most=8, size=8.0)
    window.pushed_back()
    assert window.limit == 4


def test_one_bulk_is_always_let_through():
    window = ConcurrencyLimit(most=8, size=8.0)
    for _ in range(100):
        window.pushed_back()
    assert window.limit == 1
    assert ConcurrencyLimit(most=4, size=0.5).limit == 1


def test_it_recovers_after_push_backs():
    window = ConcurrencyLimit(most=4, size=1.0)
    answers = 0
    while window.limit < 4:
        window.succeeded()
        answers += 1
        assert answers < 20
