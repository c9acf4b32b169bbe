"""Error reasons: the offending field, its value, and the reason without values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters.reasons import find_offending_field, redact


@pytest.mark.parametrize(
    ("reason", "field", "value"),
    [
        (
            "[1:9] failed to parse field [model] of type [long] in document with id 'AZtX'. "
            "Preview of field's value: 'SECRET 'x''",
            "model",
            "SECRET 'x'",
        ),
        (
            "[1:2] object mapping for [metadata] tried to parse field [user] as object, but found "
            "a concrete value",
            "user",
            None,
        ),
        ('For input string: "SECRET"', None, "SECRET"),
        ("failed to parse date field [SECRET] with format [epoch_millis]", None, "SECRET"),
        ("Failed to parse value [SECRET] as only [true] or [false] are allowed.", None, "SECRET"),
        ("Numeric value (SECRET99) out of range of long", None, "SECRET99"),
        (
            'Document contains at least one immense term in field="model" (whose UTF8 encoding is '
            "longer than the max length 32766), all of which were skipped. The prefix of the first "
            "immense term is: '[SECRET, 97]...', original message: bytes can be at most 32766",
            "model",
            None,
        ),
        ("mapper [model] cannot be changed from type [long] to [keyword]", "model", None),
        ("TransformError: event_id 'SECRET' is not 20 of A-Z a-z 0-9 - _", "event_id", "SECRET"),
        ("TransformError: document is no JSON object: it begins b'SECRET'", "document", "SECRET"),
        ("Unrecognized token 'SECRET': was expecting (JSON String)", None, None),
        ('failed to parse field [model] of type [long]: "SECRET …', "model", None),
        ("something [SECRET", None, None),
        ("something 'SECRET", None, None),
    ],
)
def test_field_and_value_are_found_and_values_are_redacted(reason, field, value):
    found = find_offending_field(reason)
    assert found.value == value
    assert "SECRET" not in redact(reason)
    if field is not None:
        assert found.name == field
        assert field in redact(reason)


@pytest.mark.parametrize(
    "reason",
    [
        "",
        "failed to parse",
        "no Avro framing: 3 bytes that begin with 00 01 67",
        "[1:234] failed to parse field [a.b] of type [long] in document with id 'AZtX_-'",
        "Limit of total fields [1000] has been exceeded",
        "mapper [a] cannot be changed from type [long] to type [text]",
        "index [a] blocked by: [FORBIDDEN/5/index read-only (api)];[FORBIDDEN/8/index write];",
        "index [a] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, "
        "index has read-only-allow-delete block; need more disk space];",
    ],
)
def test_a_reason_that_quotes_no_value_stays_as_it_is(reason):
    assert redact(reason).replace("[…]", "[1000]") == reason


@given(st.text(max_size=60))
def test_a_preview_is_redacted_whatever_it_holds(secret):
    reason = "failed to parse field [a] of type [long]. Preview of field's value: "
    assert redact(f"{reason}'{secret}'") == redact(f"{reason}''")


@pytest.mark.parametrize(
    "reason",
    [
        "Unrecognized token 'SECRET' SECRET and more of it …",
        'Duplicate field "a" SECRET "b" SECRET …',
        "Duplicate field 'it's " + "SECRET " * 1000,
        "[1:9] went wrong: b'SECRET' SECRET …",
    ],
)
def test_a_quote_within_a_value_that_is_cut_does_not_end_it(reason):
    assert "SECRET" not in redact(reason)


def test_a_preview_without_quotes_is_redacted():
    reason = "failed to parse field [a] of type [long]. Preview of field's value: secret"
    assert "secret" not in redact(reason)


def test_the_most_telling_reason_comes_first():
    field = find_offending_field("failed to parse field [a]", 'mapper [b]: For input string: "v"')
    assert field == ("a", "v")
    assert find_offending_field("", "") == (None, None)
