"""What a letter holds, as `pipeline dlq show` prints it."""

from __future__ import annotations

import itertools
from dataclasses import replace

from llmlog_common.errors import ConfigurationError
from llmlog_common.settings import load
from llmlog_consumer.cli.dlq import views
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.dead_letters.contents import Contents, format_hex_dump
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.source_record import OriginalMissingError
from llmlog_schemas.codec import Decoder
from support.fakes.letters import SETTINGS, new_letter
from support.payloads import encoded


def test_a_hex_dump_is_offset_digits_and_text():
    assert format_hex_dump(b"\x00A garbage\xff value \x1b".hex(" ")) == [
        "00000000  00 41 20 67 61 72 62 61 67 65 ff 20 76 61 6c 75  .A garbage. valu",
        "00000010  65 20 1b                                         e .",
    ]


def test_contents_are_shown_as_sizes_unless_asked_for():
    settings = load(environ={})
    value = encoded(1, document=b'{"messages":[{"content":"hi"}]}')
    hidden = Contents(settings, show=False).describe(read_letter(new_letter(value=value)))
    assert hidden["field"] == "model"
    assert hidden["field_value"] is None
    assert hidden["event"]["document"] == "<31 bytes>"
    shown = Contents(settings, show=True).describe(read_letter(new_letter(value=value)))
    assert shown["field_value"] == "my secret"
    assert shown["event"]["document"] == {"messages": [{"content": "hi"}]}
    unprintable = new_letter(value=encoded(1, document=b'{"response":"\\ud800"}'))
    shown = Contents(settings, show=True).describe(read_letter(unprintable))
    assert shown["event"]["document"] == '{"response":"\\ud800"}', (
        "what JSON cannot hold stays text"
    )
    garbage = Contents(settings, show=False).describe(
        read_letter(new_letter(value=b"\x00\x01garbage"))
    )
    assert garbage["value_hex"] is None
    assert "registry" in garbage["decode_error"].lower()
    assert "event" not in garbage


def test_a_record_with_a_broken_tail_shows_what_the_index_needs():
    whole = encoded(1, document=b'{"model":"gpt"}')
    shown = Contents(load(environ={}), show=True).describe(
        read_letter(new_letter(value=whole[:-3]))
    )
    assert shown["decode_error"]
    assert shown["event"]["document"] == {"model": "gpt"}
    assert list(shown["event"]) == ["event_id", "document", "index_place"]


def test_a_letter_cannot_send_control_characters_to_the_terminal():
    cause = Cause(Stage.DECODE, Ending.POISON, "\x1b]0;owned\x07 \x1b[2J", model="\x1b[31m")
    lines = views.letter_page(
        read_letter(new_letter(cause)).as_json(recovered=False, show_content=True), 80
    )
    assert all(line.isprintable() for line in lines)


def test_a_registry_that_refuses_is_shown_as_the_decoders_error():
    class RefusingRegistry:
        def schema_text(self, _id):
            raise ConfigurationError("401 Unauthorized")

    contents = Contents(SETTINGS, show=False, decoder=Decoder(RefusingRegistry()))
    row = contents.describe(read_letter(new_letter(value=b"\x00\x00\x00\x00\x07abc")))
    assert row["decode_error"] == "401 Unauthorized"


def truncated_letter():
    letter = read_letter(new_letter(value=encoded(1)[:9]))
    more = {"truncated.length": "5000", "truncated.sha256": "aa"}
    return replace(letter, headers={**letter.headers, **more})


def test_a_truncated_letter_shows_its_original():
    def restore(_settings, letter):
        return replace(letter, value=encoded(1))

    row = Contents(SETTINGS, show=False, restore=restore).describe(truncated_letter())
    assert row["truncated"] == {
        "bytes": 9,
        "original_bytes": 5000,
        "sha256": "aa",
        "original": "read from the source topic",
    }
    assert "event" in row


def test_a_truncated_letter_says_why_its_original_is_missing():
    def restore(_settings, _letter):
        raise OriginalMissingError("t/0/1 is not retained")

    row = Contents(SETTINGS, show=False, restore=restore).describe(truncated_letter())
    assert row["truncated"]["original"] == "missing: t/0/1 is not retained"
    assert row["value_bytes"] == 9


# Tables


def test_a_terminal_has_tables_of_a_thousand_and_a_pipe_one_that_is_never_held():
    row = read_letter(new_letter()).as_json(recovered=True)
    assert [len(view.rows) for view in views.list_views([row] * 2500, 80)] == [1000, 1000, 500]
    assert [len(view.rows) for view in views.list_views([], 80)] == [0]
    (view,) = views.list_views(itertools.repeat(row), None)
    assert next(iter(view.rows))[-1] == "yes"
