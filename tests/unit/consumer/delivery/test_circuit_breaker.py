"""The circuit breaker: it opens by a deployment's fault, never by a bad client's."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.delivery.circuit_breaker import (
    MIN_PROBE_SECONDS,
    PROBE_IDLE_SECONDS,
    PROBE_RECORDS,
    CircuitBreaker,
    Phase,
)
from llmlog_consumer.delivery.failure_rate import MIN_RECORDS

READ, INDEX = Phase.READ, Phase.INDEX


def is_ours(_):
    return True


def fail(breaker, number, cause="f", phase=INDEX, now=0.0, first=0):
    """Let records fail; return how many become letters."""
    return sum(
        not breaker.record_failure(phase, cause, key, f"record {key}", now)
        for key in range(first, first + number)
    )


def test_a_thousand_failures_in_a_row_with_one_cause_open_the_circuit():
    breaker = CircuitBreaker()
    assert fail(breaker, MIN_RECORDS) == MIN_RECORDS - 1
    assert breaker.open
    assert breaker.cause == "f"
    assert breaker.held == 1
    assert fail(breaker, 10, first=5000) == 0
    assert breaker.held == 11


def test_a_thousand_failures_with_many_causes_open_the_circuit_by_their_share():
    breaker = CircuitBreaker()
    for key in range(MIN_RECORDS):
        breaker.record_failure(INDEX, f"cause {key % 7}", key, None, 0.0)
    assert breaker.open


@pytest.mark.parametrize(("causes", "is_open"), [("f", True), ("fg", False)])
def test_a_row_of_failures_opens_the_circuit_by_one_cause_alone(causes, is_open):
    """After many successes the share is small."""
    breaker = CircuitBreaker()
    breaker.record_success(INDEX, 2900)
    for key in range(MIN_RECORDS):
        breaker.record_failure(INDEX, causes[key % len(causes)], key, None, 0.0)
    assert breaker.share < 0.3
    assert breaker.open is is_open


def test_half_of_the_records_may_fail_and_no_more():
    breaker = CircuitBreaker()
    breaker.record_success(INDEX, MIN_RECORDS // 2)
    assert fail(breaker, MIN_RECORDS // 2) == MIN_RECORDS // 2
    assert breaker.share == 0.5
    assert not breaker.open
    fail(breaker, 1, first=9000)
    assert breaker.open


def test_fewer_than_a_thousand_failures_never_open_the_circuit():
    breaker = CircuitBreaker()
    assert fail(breaker, MIN_RECORDS - 1) == MIN_RECORDS - 1
    assert not breaker.open


def test_a_success_ends_the_row_of_failures_but_not_their_share():
    breaker = CircuitBreaker()
    fail(breaker, 900)
    breaker.record_success(INDEX, 1)
    assert fail(breaker, 98, first=1000) == 98
    assert not breaker.open
    fail(breaker, 1, first=3000)
    assert breaker.open


@given(st.integers(), st.floats(0.0, 0.4))
def test_a_bad_client_never_opens_the_circuit(seed, share):
    breaker, pick = CircuitBreaker(), random.Random(seed)
    for key in range(6000):
        if pick.random() < share:
            assert not breaker.record_failure(INDEX, "f", key, None, 0.0)
        else:
            breaker.record_success(INDEX)
    assert not breaker.open


@given(st.integers())
def test_a_wrong_deployment_always_opens_the_circuit(seed):
    breaker, pick = CircuitBreaker(), random.Random(seed)
    for key in range(4000):
        if pick.random() < 0.6:
            breaker.record_failure(INDEX, f"f{pick.randrange(3)}", key, None, 0.0)
        else:
            breaker.record_success(INDEX)
    assert breaker.open


def test_failures_of_both_phases_count_together():
    breaker = CircuitBreaker()
    for key in range(4000):
        if key % 5 < 2:
            breaker.record_failure(READ, "a", key, None, 0.0)
            continue
        breaker.record_success(READ)
        if key % 5 == 2:
            breaker.record_failure(INDEX, "b", key, None, 0.0)
        else:
            breaker.record_success(INDEX)
    assert breaker.open


def test_records_read_ahead_do_not_open_the_circuit():
    """Records that were read and not yet indexed are no failures, however many there are."""
    breaker = CircuitBreaker()
    for _ in range(10):
        for key in range(1200):
            if key % 10 < 4:
                breaker.record_failure(READ, "a", key, None, 0.0)
            else:
                breaker.record_success(READ)
    breaker.record_success(INDEX, 7200)
    assert not breaker.open


def test_an_accepted_cause_becomes_letters_and_is_not_counted():
    breaker = CircuitBreaker(accepted=frozenset({"f"}))
    assert fail(breaker, 5000) == 5000
    assert not breaker.open
    assert fail(breaker, MIN_RECORDS, "other", first=9000) == MIN_RECORDS - 1
    assert breaker.open
    assert fail(breaker, 1, "f", first=90_000) == 1


def opened(*accepted):
    breaker = CircuitBreaker(accepted=frozenset(accepted))
    fail(breaker, MIN_RECORDS + 999)
    assert breaker.held == 1000
    return breaker


def test_a_few_records_are_tried_again_after_a_while():
    breaker = opened()
    assert breaker.due(MIN_PROBE_SECONDS - 1, is_ours) == []
    probe = breaker.due(MIN_PROBE_SECONDS, is_ours)
    assert len(probe) == PROBE_RECORDS
    assert breaker.due(MIN_PROBE_SECONDS + 1000, is_ours) == [], "one probe at a time"


def test_the_circuit_closes_when_the_probe_succeeds_and_gives_every_record_back():
    breaker = opened()
    probe = breaker.due(MIN_PROBE_SECONDS, is_ours)
    for key in range(999, 999 + len(probe)):
        breaker.record_indexed(key, MIN_PROBE_SECONDS)
    assert (breaker.open, breaker.cause) == (False, "")
    assert len(breaker.due(MIN_PROBE_SECONDS, is_ours)) == 900
    assert breaker.held == 0
    assert fail(breaker, 10) == 10


def test_the_circuit_stays_open_when_the_probe_fails_again():
    breaker = opened()
    breaker.due(MIN_PROBE_SECONDS, is_ours)
    assert fail(breaker, PROBE_RECORDS, first=999, now=MIN_PROBE_SECONDS) == 0
    assert breaker.open
    assert breaker.held == 1000
    assert breaker.due(MIN_PROBE_SECONDS * 2 - 1, is_ours) == []
    assert len(breaker.due(MIN_PROBE_SECONDS + 300, is_ours)) == PROBE_RECORDS


def test_the_first_probe_that_fails_is_followed_by_another_within_a_minute():
    for _ in range(20):  # the wait is random
        breaker = opened()
        breaker.due(MIN_PROBE_SECONDS, is_ours)
        fail(breaker, PROBE_RECORDS, first=999, now=100.0)
        assert len(breaker.due(160.0, is_ours)) == PROBE_RECORDS


def test_probes_that_fail_again_and_again_wait_longer_and_five_minutes_at_most():
    breaker, now, longer = opened(), 100.0, 0
    probe = breaker.due(now, is_ours)
    for _ in range(20):
        for item in probe:
            fail(breaker, 1, first=int(item.split()[1]), now=now)
        now += 60.0
        probe = breaker.due(now, is_ours)
        if not probe:
            longer += 1
            now += 240.0
            probe = breaker.due(now, is_ours)
        assert len(probe) == PROBE_RECORDS
    assert longer


def test_a_probe_that_ends_by_an_accepted_cause_closes_the_circuit():
    breaker = opened("accepted")
    breaker.due(MIN_PROBE_SECONDS, is_ours)
    assert fail(breaker, PROBE_RECORDS, "accepted", first=999) == PROBE_RECORDS
    assert not breaker.open


def test_an_accepted_cause_may_be_the_last_of_a_probe_that_fails():
    breaker, now = opened("accepted"), MIN_PROBE_SECONDS
    breaker.due(now, is_ours)
    fail(breaker, PROBE_RECORDS - 1, first=999, now=now)
    fail(breaker, 1, "accepted", first=998 + PROBE_RECORDS, now=now)
    assert breaker.open
    assert breaker.due(now + MIN_PROBE_SECONDS - 1, is_ours) == []
    assert len(breaker.due(now + 60.0, is_ours)) == PROBE_RECORDS


def test_no_record_is_given_back_twice_or_forgotten():
    breaker, now, given_back = opened(), 0.0, []
    while breaker.open:
        now += 300.0
        probe = breaker.due(now, is_ours)
        given_back += probe
        for item in probe:
            breaker.record_indexed(int(item.split()[1]), now)
    given_back += breaker.due(now, is_ours)
    assert sorted(given_back) == sorted(f"record {key}" for key in range(999, 1999))


def test_a_circuit_whose_held_records_are_all_released_takes_in_new_ones_as_its_probe():
    breaker = opened()
    assert breaker.wanted == 0
    assert breaker.due(1.0, lambda _: False) == []
    assert (breaker.cause, breaker.held, breaker.wanted) == ("f", 0, PROBE_RECORDS)


def restored(accepted=()):
    breaker = CircuitBreaker(frozenset(accepted))
    breaker.restore("f")
    return breaker


def test_a_restored_circuit_takes_in_one_probe_and_makes_no_letter_of_it():
    breaker = restored()
    assert (breaker.open, breaker.cause, breaker.wanted) == (True, "f", PROBE_RECORDS)
    breaker.take_in(range(60), 0.0)
    assert (breaker.wanted, breaker.probing) == (PROBE_RECORDS - 60, 60)
    breaker.take_in(range(60, 1000), 0.0)
    assert (breaker.wanted, breaker.probing) == (0, PROBE_RECORDS)
    assert fail(breaker, PROBE_RECORDS) == 0
    assert (breaker.open, breaker.held, breaker.wanted) == (True, PROBE_RECORDS, 0)
    assert breaker.due(MIN_PROBE_SECONDS - 1.0, is_ours) == []
    assert len(breaker.due(60.0, is_ours)) == PROBE_RECORDS, "tried again, and no others"


def test_a_good_probe_closes_a_restored_circuit():
    breaker = restored()
    breaker.take_in(range(PROBE_RECORDS), 0.0)
    fail(breaker, 49)
    for key in range(49, PROBE_RECORDS):
        assert breaker.open
        breaker.record_indexed(key, 0.0)
    assert not breaker.open
    assert len(breaker.due(0.0, is_ours)) == 49, "these go their way now"


def test_a_restored_circuit_does_not_decide_by_the_first_of_its_records():
    breaker = restored()
    breaker.take_in(range(30), 0.0)
    for key in range(30):
        breaker.record_indexed(key, 0.0)
    assert (breaker.open, breaker.wanted) == (True, PROBE_RECORDS - 30)
    assert breaker.due(PROBE_IDLE_SECONDS - 1.0, is_ours) == []
    assert breaker.open


@pytest.mark.parametrize(("good", "is_open"), [(3, False), (2, True)])
def test_a_probe_that_finds_no_more_records_is_judged_by_what_it_has(good, is_open):
    breaker = restored()
    breaker.take_in(range(5), 0.0)
    for key in range(good):
        breaker.record_indexed(key, 0.0)
    fail(breaker, 5 - good, first=good)
    breaker.due(PROBE_IDLE_SECONDS, is_ours)
    assert breaker.open is is_open
    assert breaker.wanted == 0


def test_a_restored_circuit_waits_for_a_first_record_without_an_end():
    breaker = restored()
    assert breaker.due(1e9, is_ours) == []
    assert (breaker.open, breaker.wanted) == (True, PROBE_RECORDS)


def test_a_record_that_tells_nothing_is_replaced_in_the_probe():
    breaker = restored()
    breaker.take_in(range(PROBE_RECORDS), 0.0)
    breaker.record_released(7, 0.0)
    assert (breaker.wanted, breaker.probing) == (1, PROBE_RECORDS - 1)
    breaker.take_in([1000], 0.0)
    for key in [*range(7), *range(8, PROBE_RECORDS), 1000]:
        breaker.record_indexed(key, 0.0)
    assert not breaker.open


def test_a_cause_that_is_accepted_is_not_restored_and_an_open_circuit_keeps_its_own():
    assert not restored(accepted=["f"]).open
    breaker = opened()
    assert not breaker.restore("g")
    assert (breaker.cause, breaker.wanted) == ("f", 0)


def test_a_circuit_is_forgotten_with_its_records():
    breaker = opened()
    breaker.forget()
    assert (breaker.open, breaker.held, breaker.due(1e9, is_ours)) == (False, 0, [])
    assert restored().wanted == PROBE_RECORDS
    assert fail(breaker, 1, first=9_000) == 0, "its share stays: one failure opens it again"


@given(st.lists(st.sampled_from(["take in", "index", "fail", "release", "wait"]), max_size=300))
def test_a_restored_circuit_never_takes_in_more_than_a_probe(steps):
    breaker, now, taken, keys, released = restored(), 0.0, [], iter(range(10_000)), 0
    for step in steps:
        under_way = [key for key in taken if key is not None]
        if step == "take in":
            new = [next(keys) for _ in range(min(13, breaker.wanted))]
            breaker.take_in(new, now)
            taken += new
        elif step == "wait":
            now += PROBE_IDLE_SECONDS
            breaker.due(now, is_ours)
        elif under_way:
            key = under_way[0]
            taken[taken.index(key)] = None
            if step == "index":
                breaker.record_indexed(key, now)
            elif step == "fail":
                letters = fail(breaker, 1, first=key, now=now)
                assert not (breaker.open and letters)
            else:
                released += 1
                breaker.record_released(key, now)
        assert len(taken) - released + breaker.wanted <= PROBE_RECORDS
        if not breaker.open:
            break


def test_a_failure_out_of_the_row_counts_for_the_share_alone():
    breaker = CircuitBreaker()
    breaker.record_success(INDEX, 2900)
    for key in range(MIN_RECORDS):
        breaker.record_failure(INDEX, "f", key, None, 0.0, in_row=False)
    assert not breaker.open
    assert breaker.share > 0.2
    for key in range(3000):
        breaker.record_failure(INDEX, "f", key, None, 0.0, in_row=False)
    assert breaker.open


def test_a_failure_out_of_the_row_does_not_end_it():
    breaker = CircuitBreaker()
    breaker.record_success(INDEX, 2900)
    fail(breaker, MIN_RECORDS - 1)
    breaker.record_failure(INDEX, "g", "another", None, 0.0, in_row=False)
    assert not breaker.open
    fail(breaker, 1, first=5000)
    assert breaker.open


def test_a_probe_has_only_records_that_are_ours():
    breaker, gone = opened(), {f"record {key}" for key in range(1000, 1950)}
    probe = breaker.due(MIN_PROBE_SECONDS, lambda item: item not in gone)
    assert probe == ["record 999", *(f"record {key}" for key in range(1950, 1999))]
    for key in [999, *range(1950, 1999)]:
        breaker.record_indexed(key, MIN_PROBE_SECONDS)
    assert not breaker.open


def test_a_count_of_zero_successes_does_not_end_the_row():
    """Successes are counted between failures, and there may be none."""
    breaker = CircuitBreaker()
    breaker.record_success(INDEX, 3000)
    for key in range(MIN_RECORDS):
        breaker.record_success(INDEX, 0)
        breaker.record_failure(INDEX, "f", key, None, 0.0)
    assert breaker.open


def test_after_a_probe_of_released_records_others_are_tried_at_once():
    opened = CircuitBreaker()
    for n in range(MIN_RECORDS + 200):
        opened.record_failure(Phase.INDEX, "c", n, n, 0.0)
    probe = opened.due(1000.0, lambda _: True)
    assert len(probe) == PROBE_RECORDS
    for n in probe:
        opened.record_released(n, 1000.0)
    assert opened.due(1000.0, lambda n: n not in probe), "others are tried at once"


def test_the_records_of_a_probe_are_counted_until_they_have_an_outcome():
    breaker = opened()
    assert breaker.probing == 0
    breaker.due(MIN_PROBE_SECONDS, is_ours)
    assert breaker.probing == PROBE_RECORDS
    breaker.record_indexed(999, MIN_PROBE_SECONDS)
    breaker.record_released(1000, MIN_PROBE_SECONDS)
    assert breaker.probing == PROBE_RECORDS - 2


def test_a_probe_that_is_half_good_leaves_the_circuit_open():
    breaker = opened()
    breaker.due(MIN_PROBE_SECONDS, is_ours)
    half = PROBE_RECORDS // 2
    for key in range(999, 999 + half):
        breaker.record_indexed(key, MIN_PROBE_SECONDS)
    fail(breaker, half, first=999 + half, now=MIN_PROBE_SECONDS)
    assert breaker.open


def test_released_records_say_nothing_about_a_probe():
    breaker, now = opened(), MIN_PROBE_SECONDS
    breaker.due(now, is_ours)
    outcomes = {"indexed": 30, "failed": 30, "released": 40}
    keys = iter(range(999, 999 + PROBE_RECORDS))
    for outcome, number in outcomes.items():
        for key in (next(keys) for _ in range(number)):
            if outcome == "indexed":
                breaker.record_indexed(key, now)
            elif outcome == "failed":
                fail(breaker, 1, first=key, now=now)
            else:
                breaker.record_released(key, now)
    assert breaker.open, "half of those with an outcome is not enough"
    assert breaker.due(now + MIN_PROBE_SECONDS - 1, is_ours) == []
    assert len(breaker.due(now + 60.0, is_ours)) == PROBE_RECORDS


def test_a_closed_circuit_counts_from_zero():
    breaker = opened()
    for key in range(999, 999 + len(breaker.due(MIN_PROBE_SECONDS, is_ours))):
        breaker.record_indexed(key, MIN_PROBE_SECONDS)
    assert breaker.share == 0.0
    assert fail(breaker, MIN_RECORDS - 1) == MIN_RECORDS - 1


def test_the_cause_is_the_one_that_most_held_records_have_now():
    """What opened it may be mended, and something else be wrong since."""
    breaker = CircuitBreaker()
    fail(breaker, MIN_RECORDS + 9, "wrong mapping")
    assert (breaker.held, breaker.cause) == (10, "wrong mapping")
    tried = breaker.due(MIN_PROBE_SECONDS, is_ours)
    assert len(tried) == 10
    assert breaker.cause == "wrong mapping"
    first = MIN_RECORDS - 1
    fail(breaker, 10, "index deleted", now=MIN_PROBE_SECONDS, first=first)
    assert breaker.cause == "index deleted"
    fail(breaker, 9, "another", first=9000)
    assert breaker.cause == "index deleted"
    assert breaker.due(10_000, lambda item: int(item.split()[1]) >= 9000)
    fail(breaker, 1, "another", first=9000)
    assert breaker.cause == "another", "released records count no more"
