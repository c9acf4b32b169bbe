"""The circuit_open breaker: it trips on a deployment's fault, never on a bad client's."""

import random

from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.delivery.circuit_breaker import (
    MIN_RECORDS,
    PROBE_RECORDS,
    SHORTEST,
    Breaker,
    Phase,
)

READ, INDEX = Phase.READ, Phase.INDEX


def ours(_):
    return True


def kill(breaker, number, cause="f", phase=INDEX, now=0.0, first=0):
    """Let records die; return how many became letters."""
    return sum(
        not breaker.record_failure(phase, cause, key, f"record {key}", now)
        for key in range(first, first + number)
    )


def test_a_thousand_in_a_row_of_one_cause_trip_it():
    breaker = Breaker()
    assert kill(breaker, MIN_RECORDS) == MIN_RECORDS - 1
    assert breaker.open
    assert breaker.cause == "f"
    assert breaker.held == 1
    assert kill(breaker, 10, first=5000) == 0
    assert breaker.held == 11


def test_a_thousand_in_a_row_of_many_causes_trip_it_by_their_share():
    breaker = Breaker()
    for key in range(MIN_RECORDS):
        breaker.record_failure(INDEX, f"cause {key % 7}", key, None, 0.0)
    assert breaker.open


def test_fewer_than_a_thousand_never_trip_it():
    breaker = Breaker()
    assert kill(breaker, MIN_RECORDS - 1) == MIN_RECORDS - 1
    assert not breaker.open


def test_one_that_passes_breaks_the_row_but_not_the_share():
    breaker = Breaker()
    kill(breaker, 900)
    breaker.record_success(INDEX, 1)
    assert kill(breaker, 98, first=1000) == 98
    assert not breaker.open
    kill(breaker, 1, first=3000)
    assert breaker.open


@given(st.integers(), st.floats(0.0, 0.4))
def test_a_bad_client_never_trips_it(seed, share):
    breaker, pick = Breaker(), random.Random(seed)
    for key in range(6000):
        if pick.random() < share:
            assert not breaker.record_failure(INDEX, "f", key, None, 0.0)
        else:
            breaker.record_success(INDEX)
    assert not breaker.open


@given(st.integers())
def test_a_wrong_deployment_always_trips_it(seed):
    breaker, pick = Breaker(), random.Random(seed)
    for key in range(4000):
        if pick.random() < 0.6:
            breaker.record_failure(INDEX, f"f{pick.randrange(3)}", key, None, 0.0)
        else:
            breaker.record_success(INDEX)
    assert breaker.open


def test_deaths_of_both_phases_count_together():
    breaker = Breaker()
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


def test_reading_ahead_is_no_flood():
    """What was read and not yet indexed is not dead, however much of it there is."""
    breaker = Breaker()
    for _ in range(10):
        for key in range(1200):
            if key % 10 < 4:
                breaker.record_failure(READ, "a", key, None, 0.0)
            else:
                breaker.record_success(READ)
    breaker.record_success(INDEX, 7200)
    assert not breaker.open


def test_an_accepted_cause_is_let_through_and_not_counted():
    breaker = Breaker(accepted=frozenset({"f"}))
    assert kill(breaker, 5000) == 5000
    assert not breaker.open
    assert kill(breaker, MIN_RECORDS, "other", first=9000) == MIN_RECORDS - 1
    assert breaker.open
    assert kill(breaker, 1, "f", first=90_000) == 1


def tripped():
    breaker = Breaker()
    kill(breaker, MIN_RECORDS + 999)
    assert breaker.held == 1000
    return breaker


def test_a_few_are_tried_again_after_a_while():
    breaker = tripped()
    assert breaker.due(SHORTEST - 1, ours) == []
    probe = breaker.due(SHORTEST, ours)
    assert len(probe) == PROBE_RECORDS
    assert breaker.due(SHORTEST + 1000, ours) == [], "one probe at a time"


def test_it_closes_when_the_probe_goes_in_and_gives_everything_back():
    breaker = tripped()
    probe = breaker.due(SHORTEST, ours)
    for key in range(999, 999 + len(probe)):
        breaker.record_indexed(key, SHORTEST)
    assert not breaker.open
    assert len(breaker.due(SHORTEST, ours)) == 900
    assert breaker.held == 0
    assert kill(breaker, 10) == 10


def test_it_stays_open_when_the_probe_dies_again():
    breaker = tripped()
    breaker.due(SHORTEST, ours)
    assert kill(breaker, PROBE_RECORDS, first=999, now=SHORTEST) == 0
    assert breaker.open
    assert breaker.held == 1000
    assert breaker.due(SHORTEST * 2 - 1, ours) == []
    assert len(breaker.due(SHORTEST + 300, ours)) == PROBE_RECORDS


def test_nothing_is_given_back_twice_or_forgotten():
    breaker, now, given_back = tripped(), 0.0, []
    while breaker.open:
        now += 300.0
        probe = breaker.due(now, ours)
        given_back += probe
        for item in probe:
            breaker.record_indexed(int(item.split()[1]), now)
    given_back += breaker.due(now, ours)
    assert sorted(given_back) == sorted(f"record {key}" for key in range(999, 1999))


def test_what_is_no_longer_ours_holds_nobody_up():
    breaker = tripped()
    assert breaker.due(1.0, lambda _: False) == []
    assert (breaker.open, breaker.held) == (False, 0)


def test_a_probe_is_of_what_is_ours():
    breaker, gone = tripped(), {f"record {key}" for key in range(1000, 1950)}
    probe = breaker.due(SHORTEST, lambda item: item not in gone)
    assert probe == ["record 999", *(f"record {key}" for key in range(1950, 1999))]
    for key in [999, *range(1950, 1999)]:
        breaker.record_indexed(key, SHORTEST)
    assert not breaker.open


def test_nothing_that_passed_does_not_break_a_row():
    """Whoever counts what passed between deaths may have nothing to count."""
    breaker = Breaker()
    breaker.record_success(INDEX, 3000)
    for key in range(MIN_RECORDS):
        breaker.record_success(INDEX, 0)
        breaker.record_failure(INDEX, "f", key, None, 0.0)
    assert breaker.open


def test_a_probe_of_which_everything_is_gone_has_told_nothing():
    tripped = Breaker()
    for n in range(MIN_RECORDS + 200):
        tripped.record_failure(Phase.INDEX, "c", n, n, 0.0)
    probe = tripped.due(1000.0, lambda _: True)
    assert len(probe) == PROBE_RECORDS
    for n in probe:
        tripped.record_released(n, 1000.0)
    assert tripped.due(1000.0, lambda n: n not in probe), "others are tried at once"
