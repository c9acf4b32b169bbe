"""Letters as they are read: names, filters, foreign headers, reasons without values, counts."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.errors import ConfigurationError
from llmlog_common.settings import load
from llmlog_consumer.cli.dlq import views
from llmlog_consumer.dead_letters import headers as of_letters
from llmlog_consumer.dead_letters import offset_map as names
from llmlog_consumer.dead_letters import reader
from llmlog_consumer.dead_letters.cause import PREFIX, Cause, Ending, Stage, headers_of
from llmlog_consumer.dead_letters.contents import Contents, hex_dump
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.letter import found
from llmlog_consumer.dead_letters.reader import newest_first
from llmlog_consumer.dead_letters.reasons import blame, redacted
from llmlog_consumer.dead_letters.stats import MOST_LABELS, OTHER, Stats
from llmlog_schemas.codec import Decoder
from support.messages import Message
from support.payloads import encoded

HOUR = 3_600_000
REFUSED = Cause(
    Stage.INDEX,
    Ending.PERMANENT,
    reason="[1:9] failed to parse field [model] of type [long] in document with id "
    "'AZtXgOIAPqM4wrx7hCk_'. Preview of field's value: 'my secret'",
    es_status=400,
    es_type="document_parsing_exception",
    es_caused_by='illegal_argument_exception: For input string: "my secret"',
    index="litellm-logs-2026.01.31",
    document_id="AZtXgOIAPqM4wrx7hCk_",
    model="gpt-4o",
)
POISON = Cause(Stage.DECODE, Ending.POISON, "DecodeError: the record has no value")
CONNECT = [
    ("__connect.errors.topic", b"orders"),
    ("__connect.errors.partition", b"4"),
    ("__connect.errors.offset", b"77"),
    ("__connect.errors.stage", b"VALUE_CONVERTER"),
    ("__connect.errors.exception.class.name", b"org.example.DataException"),
    ("__connect.errors.exception.message", b"bad 'value'"),
]


def letter(cause=REFUSED, *, offset=0, source=41, at=HOUR, value=b"v", partition=3, topic="t"):
    headers = headers_of(
        Message(topic_=topic, offset_=source, partition_=partition), cause, group="g"
    )
    return Message(topic_="t.dlq", partition_=1, offset_=offset, headers_=headers,
                   timestamp_=(1, at), value_=value)  # fmt: skip


def lines_of(rows, columns):
    return [line for view in views.listed(rows, columns) for line in view.rows]


# Names


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=80), st.integers(1, 5))
def test_the_newest_letter_of_each_name_speaks_in_any_order(letters, most_late):
    before, names.MOST_LATE = names.MOST_LATE, most_late
    try:
        column, expected, gone = names.PartitionOffsets(), {}, set()
        for value, (offset, second) in enumerate(letters):
            former = column.put(offset, second, value)
            if offset in expected and second < expected[offset][0]:
                assert former == value
            else:
                assert former == (expected[offset][1] if offset in expected else None)
                expected[offset] = (second, value)
            gone |= {former} - {None}
    finally:
        names.MOST_LATE = before
    assert sorted(column) == sorted(expected.values())
    assert len(column) == len(expected)
    assert {value for _, value in column} | gone == set(range(len(letters)))


# Foreign letters


def test_kafka_connects_headers_are_understood():
    read = found(Message(topic_="t.dlq", headers_=[*CONNECT, ("own", b"1")]))
    assert read.writer == "connect"
    assert read.source == ("orders", 4, 77)
    assert read.name == "orders/4/77"
    assert read.own == (("own", b"1"),)
    shown = read.as_json(recovered=False)
    assert shown["stage"] == "VALUE_CONVERTER"
    assert shown["exception"] == "org.example.DataException: bad '…'"
    assert shown["fingerprint"]


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        [("x", None)],
        [(f"{PREFIX}stage", b"\xff")],
        [(f"{PREFIX}offset", b"-1"), (f"{PREFIX}topic", b"t"), (f"{PREFIX}partition", b"0")],
        [(f"{PREFIX}offset", b"9" * 40), (f"{PREFIX}topic", b"t"), (f"{PREFIX}partition", b"0")],
        [(f"{PREFIX}offset", None), (f"{PREFIX}truncated.length", b"?")],
        [("__connect.errors.offset", b"x")],
        [(f"{PREFIX}{name}", b"9" * 40) for name in ("replay_count", "attempts", "es.status")],
        [(f"{PREFIX}es.reason", b"R'" * 200_000)],
        CONNECT,
    ],
)
def test_whatever_the_headers_are_a_letter_is_listed_counted_and_shown(headers):
    message = Message(topic_="t.dlq", headers_=headers, timestamp_=(0, -1))
    read = found(message)
    row = read.as_json(recovered=None)
    assert orjson.loads(orjson.dumps(row)) == row
    (line,), (wide,) = lines_of([row], 80), lines_of([row], None)
    assert len(line) == 4
    assert max(len(str(cell)) for cell in wide) < 2000
    counted = Stats()
    counted.add([message, message])
    result = counted.as_json()
    assert result["total"] == 1
    assert result["fingerprints"][0]["fingerprint"] == read.fingerprint == row["fingerprint"]
    shown = row | Contents(load(environ={}), show=True)._event(read)
    json.dumps(shown)
    assert views.page(shown, 80)
    assert Filter(fingerprint=read.fingerprint).takes(read)


def test_a_letter_that_says_a_reason_but_no_status_is_listed_with_it():
    row = found(
        Message(headers_=[(f"{PREFIX}es.type", b"t"), (f"{PREFIX}es.reason", b"r")])
    ).as_json(recovered=None)
    assert row["es"] == {"status": None, "type": "t", "reason": "r", "caused_by": None}
    assert "t: r" in lines_of([row], None)[0]


# Filters


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (Filter(), True),
        (Filter(since_ms=HOUR), True),
        (Filter(since_ms=HOUR + 1), False),
        (Filter(until_ms=HOUR), False),
        (Filter(until_ms=HOUR + 1), True),
        (Filter(stage="index"), True),
        (Filter(stage="decode"), False),
        (Filter(reason="FAILED TO PARSE"), True),
        (Filter(reason="for input"), True),
        (Filter(reason="document_parsing"), True),
        (Filter(reason="nothing of it"), False),
        (Filter(fingerprint=REFUSED.fingerprint), True),
        (Filter(fingerprint="000000000000"), False),
        (Filter(index="litellm-logs-2026.01.31"), True),
        (Filter(index="litellm-logs-2026.*"), True),
        (Filter(index="litellm-logs-2025.*"), False),
        (Filter(partition=3), True),
        (Filter(partition=1), False),
        (Filter(model="gpt-*"), True),
        (Filter(model="claude"), False),
        (Filter(stage="index", model="claude"), False),
    ],
)
def test_every_condition_has_to_hold(wanted, takes):
    message = letter()
    assert wanted.takes(found(message)) is takes
    counted = Stats(wanted)
    counted.add([message])
    assert counted.as_json()["total"] == takes


def test_a_terminal_has_tables_of_a_thousand_and_a_pipe_one_that_is_never_held():
    row = found(letter()).as_json(recovered=True)
    assert [len(view.rows) for view in views.listed([row] * 2500, 80)] == [1000, 1000, 500]
    assert [len(view.rows) for view in views.listed([], 80)] == [0]
    (view,) = views.listed(itertools.repeat(row), None)
    assert next(iter(view.rows))[-1] == "yes"


class Letters(reader.DeadLetters):
    """Letters of a topic that is a list, and how many of them are read again at a time."""

    def __init__(self, messages, monkeypatch):
        self._settings, self.topic, self._doublets = load(environ={}), "t.dlq", None
        self.progress, self._messages, self.again = None, messages, []
        monkeypatch.setattr(reader.topic_reader, "read", self._read)

    def messages(self, step="reading letters"):
        del step
        yield self._messages

    def _read(self, _settings, _topic, ranges, *, small):
        assert small
        some = [m for m in self._messages if m.partition() in ranges
                and ranges[m.partition()][0] <= m.offset() < ranges[m.partition()][1]]  # fmt: skip
        self.again.append(len(some))
        yield some


@given(st.lists(st.integers(-2, 9), max_size=30), st.integers(1, 7), st.integers(1, 40))
def test_all_letters_are_sorted_page_by_page(times, page, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "PAGE", page)
        some = [letter(offset=n, source=n, at=at) for n, at in enumerate(times)]
        there = Letters(some, patch)
        expected = [one.offset for one in newest_first(map(found, some))]
        assert [one.offset for one in there.newest_first(Filter())] == expected
        assert len(there.again) == -(-len(times) // page)
        limited = there.newest_first(Filter(), limit)
        assert [one.offset for one in limited] == expected[:limit]


def test_a_limit_takes_the_newest():
    some = [found(letter(offset=n, at=at)) for n, at in enumerate((5, 9, 1, 9))]
    assert [one.offset for one in newest_first(some, 2)] == [3, 1]
    assert [one.offset for one in newest_first(some)] == [3, 1, 0, 2]


# Reasons


@pytest.mark.parametrize(
    ("reason", "field", "value"),
    [
        ("[1:9] failed to parse field [model] of type [long] in document with id 'AZtX'. "
         "Preview of field's value: 'SECRET 'x''", "model", "SECRET 'x'"),
        ("[1:2] object mapping for [metadata] tried to parse field [user] as object, but found "
         "a concrete value", "user", None),
        ('For input string: "SECRET"', None, "SECRET"),
        ("failed to parse date field [SECRET] with format [epoch_millis]", None, "SECRET"),
        ("Failed to parse value [SECRET] as only [true] or [false] are allowed.", None, "SECRET"),
        ("Numeric value (SECRET99) out of range of long", None, "SECRET99"),
        ('Document contains at least one immense term in field="model" (whose UTF8 encoding is '
         "longer than the max length 32766), all of which were skipped. The prefix of the first "
         "immense term is: '[SECRET, 97]...', original message: bytes can be at most 32766",
         "model", None),
        ("mapper [model] cannot be changed from type [long] to [keyword]", "model", None),
        ("TransformError: event_id 'SECRET' is not 20 of A-Z a-z 0-9 - _", "event_id", "SECRET"),
        ("TransformError: document is no JSON object: it begins b'SECRET'", "document", "SECRET"),
        ("Unrecognized token 'SECRET': was expecting (JSON String)", None, None),
        ('failed to parse field [model] of type [long]: "SECRET …', "model", None),
        ("something [SECRET", None, None),
        ("something 'SECRET", None, None),
    ],
)  # fmt: skip
def test_field_and_value_are_named_and_values_can_be_left_out(reason, field, value):
    said = blame(reason)
    assert said.value == value
    assert "SECRET" not in redacted(reason)
    if field is not None:
        assert said.field == field
        assert field in redacted(reason)


@pytest.mark.parametrize(
    "reason",
    ["", "failed to parse", "no Avro framing: 3 bytes that begin with 00 01 67",
     "[1:234] failed to parse field [a.b] of type [long] in document with id 'AZtX_-'",
     "Limit of total fields [1000] has been exceeded",
     "mapper [a] cannot be changed from type [long] to type [text]"],
)  # fmt: skip
def test_what_quotes_no_value_stays_as_it_is(reason):
    assert redacted(reason).replace("[…]", "[1000]") == reason


@given(st.text(max_size=60))
def test_a_preview_never_gets_through(secret):
    reason = "failed to parse field [a] of type [long]. Preview of field's value: "
    assert redacted(f"{reason}'{secret}'") == redacted(f"{reason}''")


def test_json_shows_values_only_when_asked():
    read = found(letter())
    hidden = json.dumps(read.as_json(recovered=False))
    assert "my secret" not in hidden
    assert "failed to parse field [model] of type [long]" in hidden
    assert "my secret" in json.dumps(read.as_json(recovered=False, show_content=True))


# Counts


def test_letters_of_one_name_count_once_and_the_newest_speaks():
    other_cause = Cause(
        Stage.INDEX, Ending.EXHAUSTED, reason="b", es_type="x", index="i", model="m"
    )
    counted = Stats()
    counted.add([
        letter(POISON, offset=0, source=1, at=HOUR),
        letter(offset=1, source=2, at=2 * HOUR),
        letter(offset=2, source=3, at=2 * HOUR),
        letter(other_cause, offset=3, source=2, at=5 * HOUR),
        letter(POISON, offset=4, source=1, at=6 * HOUR, topic="another"),
        letter(POISON, offset=5, source=1, at=0, partition=9),
        letter(POISON, offset=6, source=1, at=HOUR),
    ])  # fmt: skip
    result = counted.as_json()
    assert result["total"] == 5
    by_cause = {row["fingerprint"]: row for row in result["fingerprints"]}
    assert {name: row["count"] for name, row in by_cause.items()} == {
        POISON.fingerprint: 3, REFUSED.fingerprint: 1, other_cause.fingerprint: 1,
    }  # fmt: skip
    assert by_cause[POISON.fingerprint] == {
        "fingerprint": POISON.fingerprint,
        "stage": "decode",
        "type": None,
        "count": 3,
        "first_seen": "1970-01-01T00:00:00+00:00",
        "last_seen": "1970-01-01T06:00:00+00:00",
        "example": "t.dlq/1/0",
        "reason": "DecodeError: the record has no value",
    }
    assert result["stages"] == [{"stage": "decode", "count": 3}, {"stage": "index", "count": 2}]
    assert {row["index"]: row["count"] for row in result["indices"]} == {
        None: 3, "litellm-logs-2026.01.31": 1, "i": 1,
    }  # fmt: skip
    assert {row["model"]: row["count"] for row in result["models"]} == {
        None: 3,
        "gpt-4o": 1,
        "m": 1,
    }
    assert [row["count"] for row in result["hours"]] == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("offset", [b"-5", b"9" * 30, b"", b"x", None])
def test_a_letter_of_a_known_kind_with_an_impossible_offset_has_a_name_of_its_own(offset):
    counted, odd = Stats(), letter(offset=9)
    odd.headers_ = [(n, offset if n == f"{PREFIX}offset" else v) for n, v in odd.headers_]
    counted.add([letter(offset=0, source=41), letter(offset=1, source=43), odd, odd])
    assert counted.as_json()["total"] == 3


@pytest.mark.parametrize("wanted", [Filter(model="claude"), Filter(since_ms=4 * HOUR)])
def test_example_reason_and_times_are_of_letters_that_were_asked_for(wanted):
    asked_for = replace(REFUSED, model="claude")
    counted = Stats(wanted)
    counted.add([
        letter(offset=0, source=1, at=HOUR),
        letter(asked_for, offset=1, source=2, at=5 * HOUR),
        letter(offset=2, source=3, at=2 * HOUR),
    ])  # fmt: skip
    (row,) = counted.as_json()["fingerprints"]
    assert row["example"] == "t.dlq/1/1"
    assert row["first_seen"] == row["last_seen"] == "1970-01-01T05:00:00+00:00"


def test_a_letter_that_is_not_asked_for_still_speaks_for_its_name():
    counted = Stats(Filter(stage="index"))
    counted.add([letter(offset=0), letter(POISON, offset=1)])
    assert counted.as_json()["total"] == 0


def test_endless_models_and_causes_take_bounded_memory(monkeypatch):
    from llmlog_consumer.dead_letters import stats

    monkeypatch.setattr(stats, "MOST_CAUSES", 5)
    monkeypatch.setattr(stats, "_MOST_KINDS", 7)
    counted = Stats()
    some = [
        letter(Cause(Stage.DECODE, Ending.POISON, f"E: {'x' * n}", model=f"m{n}"), source=n)
        for n in range(MOST_LABELS + 10)
    ]
    counted.add(some)
    result = counted.as_json()
    assert result["total"] == len(some)
    assert len(result["models"]) == MOST_LABELS + 1
    assert {"model": OTHER, "count": 10} in result["models"]
    assert result["fingerprints"][0]["fingerprint"] == OTHER
    assert len(result["fingerprints"]) == 6


# Contents


def test_a_hex_dump_is_offset_digits_and_text():
    assert hex_dump(b"\x00A garbage\xff value \x1b".hex(" ")) == [
        "00000000  00 41 20 67 61 72 62 61 67 65 ff 20 76 61 6c 75  .A garbage. valu",
        "00000010  65 20 1b                                         e .",
    ]


def test_contents_are_sizes_unless_asked_for():
    settings = load(environ={})
    value = encoded(1, document=b'{"messages":[{"content":"hi"}]}')
    hidden = Contents(settings, show=False).of(found(letter(value=value)))
    assert hidden["field"] == "model"
    assert hidden["field_value"] is None
    assert hidden["event"]["document"] == "<31 bytes>"
    shown = Contents(settings, show=True).of(found(letter(value=value)))
    assert shown["field_value"] == "my secret"
    assert shown["event"]["document"] == {"messages": [{"content": "hi"}]}
    unprintable = letter(value=encoded(1, document=b'{"response":"\\ud800"}'))
    shown = Contents(settings, show=True).of(found(unprintable))
    assert shown["event"]["document"] == '{"response":"\\ud800"}', (
        "what JSON cannot hold stays text"
    )
    garbage = Contents(settings, show=False).of(found(letter(value=b"\x00\x01garbage")))
    assert garbage["value_hex"] is None
    assert "registry" in garbage["decode_error"].lower()
    assert "event" not in garbage


def test_of_a_record_with_a_broken_tail_what_the_index_needs_is_shown():
    whole = encoded(1, document=b'{"model":"gpt"}')
    shown = Contents(load(environ={}), show=True).of(found(letter(value=whole[:-3])))
    assert shown["decode_error"]
    assert shown["event"]["document"] == {"model": "gpt"}
    assert list(shown["event"]) == ["event_id", "document"]


def test_nothing_that_a_letter_holds_reaches_the_terminal_as_an_order():
    cause = Cause(Stage.DECODE, Ending.POISON, "\x1b]0;owned\x07 \x1b[2J", model="\x1b[31m")
    lines = views.page(found(letter(cause)).as_json(recovered=False, show_content=True), 80)
    assert all(line.isprintable() for line in lines)


def test_a_name_too_long_for_a_topic_is_read():
    long = "x" * 100_000
    said = [(f"{PREFIX}{name}", value.encode()) for name, value in
            (("topic", long), ("partition", "2"), ("offset", "7"))]  # fmt: skip
    assert found(Message(headers_=said)).source == (long, 2, 7)


def test_a_number_is_a_number_in_any_digits():
    said = {"topic": "src", "partition": "1", "offset": "\uff17", "replay_count": "\uff12"}
    headers = [(f"{PREFIX}{name}", value.encode()) for name, value in said.items()]
    letter_of_another = found(Message(headers_=headers))
    assert letter_of_another.source == ("src", 1, 7)
    assert letter_of_another.replays == of_letters.history(letter_of_another.headers).replays == 2


def test_a_registry_that_refuses_us_is_what_a_letter_shows():
    class Refuses:
        def schema_text(self, _id):
            raise ConfigurationError("401 Unauthorized")

    contents = Contents(load(environ={}), show=False)
    contents._decoder = Decoder(Refuses())
    shown = contents.of(found(letter(value=b"\x00\x00\x00\x00\x07abc")))
    assert shown["decode_error"] == "401 Unauthorized"
