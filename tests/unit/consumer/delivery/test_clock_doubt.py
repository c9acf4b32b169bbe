"""The suspicion that this host's clock is wrong: what speaks for it, and what does not."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.delivery.circuit_breaker import PROBE_RECORDS, CircuitBreaker, Phase
from llmlog_consumer.delivery.clock_doubt import ClockDoubt
from llmlog_consumer.delivery.failure_rate import MIN_RECORDS
from llmlog_consumer.delivery.rejects import Rejects
from llmlog_consumer.offset_tracker import Span
from support.fakes.delivery import FakeClock, FakeLetters, FakeRecord

NOW = 1_800_000_000
DAY = 86_400
DOUBT = ClockDoubt("host-7", timedelta(days=400), lambda: NOW)
EXPIRED = Cause(Stage.EXPIRED, Ending.PERMANENT, "ExpiredError: too old")


def written(days_ago, offset=0):
    return FakeRecord(offset, written_ms=int((NOW - days_ago * DAY) * 1000))


@pytest.mark.parametrize(
    ("stage", "days_ago", "said"),
    [
        (
            Stage.TRANSFORM,
            -2,
            "check the clock of host-7: Kafka has the record t/0/0 from 2.0 days",
        ),
        (Stage.EXPIRED, 401, "by it, Kafka has had the record t/0/0 for 401.0 days"),
        (Stage.TRANSFORM, -0.5, ""),
        (Stage.TRANSFORM, 401, ""),
        (Stage.EXPIRED, 399, ""),
        (Stage.EXPIRED, 0, ""),
        (Stage.DECODE, -2, ""),
        (Stage.INDEX, 401, ""),
    ],
)
def test_a_clock_is_suspicious_where_kafka_and_the_event_agree_against_it(stage, days_ago, said):
    text = DOUBT.describe(stage, written(days_ago))
    assert said in text
    assert bool(said) is bool(text)


@pytest.mark.parametrize(
    ("stage", "written_ms", "is_said"),
    [
        (Stage.TRANSFORM, NOW * 1000 + DAY * 1000, False),
        (Stage.TRANSFORM, NOW * 1000 + DAY * 1000 + 1, True),
        (Stage.EXPIRED, (NOW - 400 * DAY) * 1000, False),
        (Stage.EXPIRED, (NOW - 400 * DAY) * 1000 - 1, True),
        (Stage.EXPIRED, 0, False),
        (Stage.EXPIRED, 1, True),
    ],
)
def test_a_clock_is_suspicious_from_a_day_and_from_the_greatest_age_on(stage, written_ms, is_said):
    assert bool(DOUBT.describe(stage, FakeRecord(0, written_ms=written_ms))) is is_said


def test_a_record_without_a_timestamp_says_nothing():
    assert DOUBT.describe(Stage.EXPIRED, FakeRecord(0)) == ""


def test_an_open_circuit_names_the_clock_as_long_as_it_is_open():
    clock, breaker = FakeClock(), CircuitBreaker()
    rejects = Rejects(FakeLetters(), lambda *_: None, breaker, clock, DOUBT)
    span = Span(0, 1, 0, 9_999, 0, 10_000, 0.0)
    with capture_logs() as lines:
        for offset in range(MIN_RECORDS + PROBE_RECORDS):
            rejects.reject(Phase.READ, span, written(401, offset), 7, EXPIRED)
    assert "check the clock of host-7" in rejects.circuit_open
    assert f"--accept {EXPIRED.fingerprint}" in rejects.circuit_open
    (opened,) = [line for line in lines if line["event"].startswith("circuit breaker")]
    assert "host-7" in opened["why"]
    clock.now += 1000.0
    for span_, record in rejects.due():
        rejects.record_indexed(span_, record)
    assert rejects.circuit == ""
    for offset in range(20_000, 20_000 + MIN_RECORDS):
        rejects.reject(Phase.READ, span, written(0, offset), 7, EXPIRED)
    assert "fix it, or" in rejects.circuit_open
