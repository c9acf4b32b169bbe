"""The hot path: what it costs a record, and which records make no operation."""

import re
import sys
from datetime import timedelta

from llmlog_consumer.dead_letters.cause import Ending, Stage
from llmlog_consumer.delivery.transform import Transform
from llmlog_consumer.elasticsearch.batch import BatchBuilder
from llmlog_consumer.elasticsearch.document import Documents
from llmlog_consumer.offset_tracker import Span
from llmlog_schemas.codec import Decoder, Encoder, SchemaPendingError
from llmlog_schemas.convert import to_event
from support.fakes.delivery import FakeClock, FakeRecord
from support.payloads import HOUR, encoded, payload

MAX_CALLS = 8
"""Calls of functions written in Python that a record may cost on the good path."""


def transform_of(builder=None, decoder=None):
    return Transform(
        decoder or Decoder(),
        Documents("logs", timedelta(days=400)),
        builder if builder is not None else BatchBuilder(),
        FakeClock(5.0),
    )


def span_of(number):
    return Span(0, 1, 0, number - 1, 0, number, 0.0)


class ClientRecord:
    """A record whose methods are no Python functions, as those of the Kafka client."""

    def __init__(self, value):
        self.value = iter([value]).__next__  # may be called once


def test_a_good_record_costs_no_more_than_eight_python_calls():
    transform, calls = transform_of(), 0
    noon = HOUR // 86_400 * 86_400 - 43_200  # at midnight an event's minutes may be of two days
    events = (to_event(payload(seed, startTime=noon + seed / 10)) for seed in range(300))
    values = [Encoder().encode(event) for event in events]
    transform.transform(span_of(100), [ClientRecord(value) for value in values[:100]])

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event == "call"

    records = [ClientRecord(value) for value in values[100:]]
    sys.setprofile(count)
    try:
        result = transform.transform(span_of(200), records)
    finally:
        sys.setprofile(None)
    assert (result.rejected, result.waiting) == ([], [])
    # Besides: the run itself, and one look at each new four minutes of the events' time.
    assert 200 * (MAX_CALLS - 3) < calls <= 200 * MAX_CALLS + 20


def test_every_record_is_batched_or_rejected():
    builder = BatchBuilder()
    old = Encoder().encode(to_event(payload(3, startTime=1_600_000_000.0)))
    broken = encoded(4, document=b'{"a": 1}\n{"b"')
    values = [encoded(1), b"garbage", None, broken, old, encoded(2)]
    records = [FakeRecord(offset, value) for offset, value in enumerate(values)]
    result = transform_of(builder).transform(span_of(6), records)
    assert [(record.offset(), cause.stage) for record, _, cause in result.rejected] == [
        (1, Stage.DECODE),
        (2, Stage.DECODE),
        (3, Stage.TRANSFORM),
        (4, Stage.EXPIRED),
    ]
    expired = result.rejected[3][2]
    assert expired.disposition == Ending.PERMANENT
    assert re.fullmatch(
        r"ExpiredError: the event is \d+ d \d\d h \d\d min old, more than "
        r"LLMLOG_MAX_EVENT_AGE allows \(400 days\)",
        expired.message,
    )
    assert expired.model == "gpt-0"
    assert [op.record.offset() for op in builder.take().operations] == [0, 5]
    assert [size for _, size, _ in result.rejected] == [7, 0, len(broken), len(old)]


def test_full_batches_are_returned_in_order():
    builder = BatchBuilder(max_operations=2)
    records = [FakeRecord(offset, encoded(offset)) for offset in range(5)]
    result = transform_of(builder).transform(span_of(5), records)
    offsets = [[op.record.offset() for op in batch.operations] for batch in result.full]
    assert offsets == [[0, 1], [2, 3]]
    assert len(builder) == 1


def test_the_age_of_a_batch_counts_from_the_clock_that_was_passed():
    builder = BatchBuilder(max_age_seconds=2.0)
    transform_of(builder).transform(span_of(1), [FakeRecord(0, encoded(1))])
    assert not builder.due(6.9)
    assert builder.due(7.0)


def test_a_record_whose_schema_is_not_known_yet_waits_and_the_others_go_on():
    class Pending:
        def schema_text(self, schema_id):
            raise SchemaPendingError(schema_id)

    builder, framed = BatchBuilder(), Encoder(7)
    values = [
        encoded(1),
        framed.encode(to_event(payload(2))),
        b"\x00\x00\x00\x00\x07junk",
        encoded(3),
        framed.encode(to_event(payload(4))) + b"with fields of a later version",
        framed.encode({**to_event(payload(4)), "event_id": "x"}),
    ]
    records = [FakeRecord(offset, value) for offset, value in enumerate(values)]
    result = transform_of(builder, Decoder(Pending())).transform(span_of(6), records)
    assert [(record.offset(), schema_id) for record, schema_id in result.waiting] == [
        (1, 7),
        (4, 7),
    ]
    assert [(record.offset(), cause.stage) for record, _, cause in result.rejected] == [
        (2, Stage.DECODE),
        (5, Stage.DECODE),
    ]
    text = "DecodeError: no event follows the framing, which names the schema 7"
    assert {cause.message for _, _, cause in result.rejected} == {text}
    assert [op.record.offset() for op in builder.take().operations] == [0, 3]
