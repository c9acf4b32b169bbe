"""A letter as it is read from the topic, from any writer."""

from __future__ import annotations

import json

import orjson
import pytest

from llmlog_common.settings import load
from llmlog_consumer.cli.dlq import views
from llmlog_consumer.dead_letters.contents import Contents
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.headers import PREFIX
from llmlog_consumer.dead_letters.letter import clamp_second, read_letter
from llmlog_consumer.dead_letters.source_record import OriginalMissingError
from llmlog_consumer.dead_letters.stats import Stats
from support.fakes.letters import CONNECT_HEADERS, new_letter
from support.messages import Message


def list_rows(rows, columns):
    return [row for view in views.list_views(rows, columns) for row in view.rows]


def fail_to_restore(_settings, _letter):
    raise OriginalMissingError("no servers here")


def test_kafka_connects_headers_are_understood():
    letter = read_letter(Message(topic_="t.dlq", headers_=[*CONNECT_HEADERS, ("own", b"1")]))
    assert letter.writer == "connect"
    assert letter.source == ("orders", 4, 77)
    assert letter.source_coordinates == "orders/4/77"
    assert letter.source_headers == (("own", b"1"),)
    row = letter.as_json(recovered=False)
    assert row["stage"] == "VALUE_CONVERTER"
    assert row["exception"] == "org.example.DataException: bad '…'"
    assert row["fingerprint"]


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
        CONNECT_HEADERS,
    ],
)
def test_a_letter_with_any_headers_is_listed_counted_and_shown(headers):
    message = Message(topic_="t.dlq", headers_=headers, timestamp_=(0, -1))
    letter = read_letter(message)
    row = letter.as_json(recovered=None)
    assert orjson.loads(orjson.dumps(row)) == row
    (narrow,), (wide,) = list_rows([row], 80), list_rows([row], None)
    assert len(narrow) == 4
    assert max(len(str(cell)) for cell in wide) < 2000
    stats = Stats()
    stats.add([message, message])
    counts = stats.as_json()
    assert counts["total"] == 1
    assert counts["fingerprints"][0]["fingerprint"] == letter.fingerprint == row["fingerprint"]
    contents = Contents(load(environ={}), show=True, restore=fail_to_restore)
    page = row | contents.describe(letter)
    json.dumps(page)
    assert views.letter_page(page, 80)
    assert Filter(fingerprint=letter.fingerprint).matches(letter)


def test_a_letter_with_a_reason_and_no_status_is_listed_with_its_reason():
    message = Message(headers_=[(f"{PREFIX}es.type", b"t"), (f"{PREFIX}es.reason", b"r")])
    row = read_letter(message).as_json(recovered=None)
    assert row["es"] == {"status": None, "type": "t", "reason": "r", "caused_by": None}
    assert "t: r" in list_rows([row], None)[0]


def test_json_shows_values_only_when_asked():
    letter = read_letter(new_letter())
    hidden = json.dumps(letter.as_json(recovered=False))
    assert "my secret" not in hidden
    assert "failed to parse field [model] of type [long]" in hidden
    assert "my secret" in json.dumps(letter.as_json(recovered=False, show_content=True))


def test_without_content_neither_key_nor_value_is_read():
    message = new_letter(source_headers=[("own", b"1")])
    letter = read_letter(message, content=False)
    assert (letter.key, letter.value, letter.source_headers) == (None, None, ())
    assert letter.source == read_letter(message).source == ("litellm-logs", 3, 41)


@pytest.mark.parametrize(
    ("ms", "second"), [(-1, 0), (0, 0), (1999, 1), (2**32 * 1000, 2**32 - 2), (2**62, 2**32 - 2)]
)
def test_the_second_of_any_time_fits_into_32_bits(ms, second):
    assert clamp_second(ms) == second
