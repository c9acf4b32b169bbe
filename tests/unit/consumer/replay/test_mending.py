"""A mended record is the same event with fields changed, however often it is mended."""

from __future__ import annotations

import json
from decimal import Decimal
from hashlib import sha256

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters.headers import PREFIX, build_headers
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.mending.changes import TYPES, parse_changes
from llmlog_consumer.dead_letters.record import build_record, read_record
from llmlog_consumer.dead_letters.writer import TRUNCATED_BYTES, LetterWriter, PendingLetter
from llmlog_consumer.elasticsearch.document import Documents
from llmlog_consumer.replay.mending import CannotMendError, Mending
from llmlog_consumer.replay.plan import DryRun, ReplayOutcome, ReplayPolicy
from llmlog_schemas.codec import Decoder, Encoder, schema_text
from llmlog_schemas.event import event_time_ms
from support.fakes.kafka import ConfirmingProducer, kafka_exception
from support.fakes.letters import DLQ_TOPIC, REFUSED, SETTINGS, FakeLookup, new_letter
from support.messages import Message
from support.payloads import encoded, event

NOW = 1_790_000_000.0


class OneSchema:
    """A registry whose schema 7 is the current one."""

    def schema_text(self, _schema_id):
        return schema_text()


class RefusingLarge(ConfirmingProducer):
    """A topic that refuses a letter once, for its size."""

    refused = False

    def produce(self, topic, **record):
        if not self.refused:
            self.refused = True
            raise kafka_exception(KafkaError.MSG_SIZE_TOO_LARGE)
        super().produce(topic, **record)


def mending(**options):
    decoder = Decoder(OneSchema())
    return Mending(parse_changes(**options), decoder, by="ada", clock=lambda: NOW)


def record_of(value, headers=()):
    return read_record(new_letter(value=value, source_headers=list(headers)))


def document_of(record):
    return json.loads(Decoder(OneSchema()).decode(record.value())["document"])


def test_a_mended_record_is_the_same_event_with_its_fields_changed():
    record = record_of(encoded(1))
    mended = mending(to_set=["model=gpt-5"], drop=["metadata.nested"]).mend(record)
    before, after = document_of(record), document_of(mended)
    assert after == {
        **before,
        "model": "gpt-5",
        "metadata": {"user_api_key_alias": before["metadata"]["user_api_key_alias"]},
    }
    assert list(after) == list(before)
    events = [Decoder().decode(one.value()) for one in (record, mended)]
    assert {**events[0], "model": "gpt-5", "document": b""} == {**events[1], "document": b""}
    assert (mended.source, mended.key()) == (record.source, record.key())


def test_a_value_keeps_its_framing():
    for encoder in (Encoder(7), Encoder()):
        value = encoder.encode(event(1))
        mended = mending(to_set=["model=x"]).mend(record_of(value))
        assert mended.value()[:5] == value[:5]


def test_a_record_without_the_field_goes_as_it_is():
    record = record_of(encoded(1))
    mend = mending(drop=["none"], coerce=["metadata.none=long"])
    assert mend.mend(record) is record
    assert [(count.letters, count.absent) for count in mend.counts] == [(0, 1), (0, 1)]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"garbage", "no event that can be read"),
        (None, "no event that can be read"),
        (encoded(1) + b"x", "no event that can be read"),
        (encoded(1, document=b"{"), "no JSON object"),
        (encoded(1, document=b"[1]"), "no JSON object"),
        (encoded(1, document=b'{"a":NaN}'), "no JSON object"),
        (encoded(1, document=b"\xff"), "no JSON object"),
        (encoded(1, document=b'{"a":' + b"[" * 100_000), "no JSON object"),
        (encoded(1, document=b'{"a":1e999,"model":"x"}'), "^'a' has a number that cannot be kept$"),
        (encoded(1, document=b'{"a":%s,"model":"x"}' % (b"9" * 5000)), "'a' .* cannot be kept"),
        (encoded(1, document=b'{"a":[{"b":-1e999}],"model":"x"}'), "'a.b' .* cannot be kept"),
        (encoded(1, document=b'{"a":0.12345678901234567890123,"model":"x"}'), "'a' .* be kept"),
        (encoded(1, document=b'{"a":123456789012345678901.25,"model":"x"}'), "'a' .* be kept"),
        (encoded(1, document=b'{"a":1e-999,"model":"x"}'), "'a' .* cannot be kept"),
        (encoded(1, document=b'{"a":1e-%s,"model":"x"}' % (b"9" * 30)), "'a' .* cannot be kept"),
        (encoded(1, document=b'{"b":1,"b":2,"model":"x"}'),
         "^cannot be mended: the key 'b' stands twice$"),
        (encoded(1, document=b'{"a":[{"b":1,"\\u0062":1}],"model":"x"}'), "key 'b' stands twice"),
        (encoded(1, document=b'{"model":"x","model":"x"}'), "the key 'model' stands twice"),
        (encoded(1, document=b'{"model":{}}'), r"^model has an object that cannot be of type long"),
    ],
)  # fmt: skip
def test_what_cannot_be_mended_is_left_alone_and_says_why(value, why):
    mend = mending(coerce=["model=long"] if b"{}" in (value or b"") else (), to_set=["model=1"])
    with pytest.raises(CannotMendError, match=why):
        mend.mend(record_of(value))
    assert list(mend.problems.values()) == [1]


@pytest.mark.parametrize("number", [b"1e999", b"9" * 5000, b"0.12345678901234567890123"])
def test_a_number_that_cannot_be_kept_can_be_dropped(number):
    value = encoded(1, document=b'{"a":%s,"model":"x"}' % number)
    mend = mending(drop=["a"])
    assert document_of(mend.mend(record_of(value))) == {"model": "x"}
    assert mend.counts[0].before == "…", "no other number is shown for it"


@pytest.mark.parametrize(
    "number",
    ["0", "-0.0", "1.10", "0.1", "0.30000000000000004", "1e-7", "1E400", "5e-324", "1e22",
     "9" * 3999, "-123456789012345678901234567890", "9007199254740993", "0.000000123", "1e5"],
)  # fmt: skip
def test_a_number_that_no_change_touches_keeps_its_value_or_the_letter_is_left_alone(number):
    record = record_of(encoded(1, document=b'{"a":%s,"b":1}' % number.encode()))
    try:
        value = Decoder().decode(mending(drop=["b"]).mend(record).value())["document"]
    except CannotMendError:
        assert number == "1E400"
        return
    (kept,) = json.loads(value, parse_int=Decimal, parse_float=Decimal).values()
    assert kept == Decimal(number)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_no_decimal_is_changed_in_silence(number):
    record = record_of(encoded(1, document=b'{"a":%s,"b":1}' % f"{number:e}".encode()))
    try:
        value = Decoder().decode(mending(drop=["b"]).mend(record).value())["document"]
    except CannotMendError:
        return
    (kept,) = json.loads(value, parse_int=Decimal, parse_float=Decimal).values()
    assert kept == number


def test_halves_of_characters_are_kept():
    value = encoded(1, document=b'{"a":"\\ud800","b":1}')
    assert document_of(mending(drop=["b"]).mend(record_of(value))) == {"a": "\ud800"}


@pytest.mark.parametrize(
    ("change", "typed"),
    [
        ("model=5", ""),
        ("total_tokens=7", 7),
        ('total_tokens="7"', -1),
        ("total_tokens=99999999999999999999", -1),
        ("total_tokens=true", -1),
        ('model="\\ud800"', "?"),
    ],
)
def test_the_fields_beside_the_document_follow_it(change, typed):
    mended = mending(to_set=[change]).mend(record_of(encoded(1)))
    assert Decoder().decode(mended.value())[change.partition("=")[0]] == typed


def test_a_mended_record_that_fails_again_says_so_in_its_letter_and_so_does_the_next():
    record = record_of(encoded(1), [("own", b"1")])
    for number in (1, 2):
        mended = mending(to_set=[f"model={number}"]).mend(record)
        headers = build_headers(mended, REFUSED, group="g")
        message = Message(topic_=DLQ_TOPIC, headers_=headers, value_=mended.value())
        letter = read_letter(message)
        assert [entry["to"] for entry in letter.as_json(recovered=None, show_content=True)[
            "mended"
        ]] == [str(n) for n in range(1, number + 1)]  # fmt: skip
        assert (letter.replays, letter.event_id) == (number, event(1)["event_id"])
        record = build_record(letter)
        assert read_record(message).history == record.history


def test_a_letter_without_room_for_a_mended_record_begins_with_what_it_was():
    """The source topic has that one's original byte for byte, and not that of the mended one."""
    record = record_of(encoded(1))
    mended = mending(to_set=["model=x"]).mend(record)
    client, told = RefusingLarge(), []
    letters = LetterWriter(SETTINGS, 4, client=client)
    letters.write(PendingLetter(mended, REFUSED, lambda: told.append(1)))
    letters.poll()
    letters.poll()
    (written,) = client.records
    headers = dict(written["headers"])
    assert told == [1]
    assert headers[f"{PREFIX}truncated.sha256"].decode() == sha256(record.value()).hexdigest()
    assert written["value"] == record.value()[:TRUNCATED_BYTES]
    assert f"{PREFIX}mended" not in headers


def test_a_dry_run_says_what_would_change_without_values_unless_they_are_asked_for():
    letters = [
        read_letter(new_letter(source=("litellm-logs", 3, number), value=value))
        for number, value in enumerate([encoded(1), encoded(2), b"garbage", encoded(3)])
    ]
    policy = ReplayPolicy(SETTINGS, mending=mending(coerce=["model=object"], drop=["none"]))
    plan = DryRun(policy, FakeLookup({event(3)["event_id"]}), None)
    (row,) = plan.report(letters)
    counts = (row["replay"], row[ReplayOutcome.CANNOT_MEND], row["already_indexed"])
    assert counts == (2, 1, 1)
    said = plan.report_changes(show_content=True)
    drop, coerce = said["changes"]
    assert (drop["letters"], drop["absent"]) == (0, 2)
    assert coerce == {
        "change": "coerce", "field": "model", "letters": 2, "absent": 0,
        "example": event(1)["event_id"], "before": '"gpt-1"', "after": '{"value": "gpt-1"}',
    }  # fmt: skip
    assert said["problems"] == [{"why": "the record holds no event that can be read", "letters": 1}]
    assert "gpt-1" not in json.dumps(plan.report_changes())


FIELDS = st.sampled_from(
    ["model", "metadata", "metadata.user_api_key_alias", "messages.content", "response", "x.y",
     "request_tags", "response_cost", "total_tokens", "litellm_call_id"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("drop"), FIELDS),
        st.builds(lambda f, t: ("coerce", f"{f}={t}"), FIELDS, st.sampled_from(list(TYPES))),
        st.builds(lambda f, v: ("to_set", f"{f}={json.dumps(v)}"), FIELDS, VALUES),
    ),
    min_size=1,
    max_size=4,
)


@given(st.integers(0, 9), CHANGES, CHANGES)
def test_mended_in_any_way_and_mended_again_it_is_one_document(seed, first, second):
    """The same index and id: Elasticsearch has one document, and a second replay is a duplicate."""
    documents = Documents("litellm-logs", SETTINGS.max_event_age)
    record = record_of(encoded(seed))
    was = Decoder().decode(record.value())
    now_ms = event_time_ms(was["event_id"])
    for changes in (first, first, second):
        options = {}
        for kind, text in changes:
            options.setdefault(kind, []).append(text)
        try:
            record = mending(**options).mend(record)
        except CannotMendError:
            continue
        now = Decoder().decode(record.value())
        assert now["start_time_ms"] == was["start_time_ms"]
        assert documents.make(now, now_ms)[:2] == documents.make(was, now_ms)[:2]
        times = ("@timestamp", "startTime", "endTime")
        before, after = json.loads(was["document"]), document_of(record)
        assert [after.get(name) for name in times] == [before.get(name) for name in times]
