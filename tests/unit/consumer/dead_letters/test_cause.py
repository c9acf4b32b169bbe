"""The cause of a dead letter, and the fingerprint that letters of one cause share."""

import base64
import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_consumer.dead_letters.cause import (
    Cause,
    Ending,
    Stage,
    read_es_error,
    strip_literals,
)
from llmlog_consumer.elasticsearch.document import Documents, TransformError
from llmlog_schemas.convert import to_event
from support.fakes.letters import POISON, REFUSED
from support.payloads import payload

# Fingerprints


def refused(reason, es_type="document_parsing_exception", index="litellm-logs-2026.01.31"):
    return Cause(Stage.INDEX, Ending.PERMANENT, reason=reason, es_type=es_type, index=index)


def test_a_fingerprint_is_12_hexadecimal_digits():
    assert re.fullmatch(r"[0-9a-f]{12}", REFUSED.fingerprint)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "failed to parse field [a] of type [long] in document with id 'AZtXgOIAPqM4wrx7hCk_'. "
            "Preview of field's value: 'my prompt'",
            "failed to parse field [a] of type [long] in document with id 'AZtXgOIAPqM4wrx7hCkA'. "
            "Preview of field's value: 'it's \"another\"\n'",
        ),
        ("[1:2345] failed to parse", "[1:7] failed to parse"),
        ('For input string: "abc"', 'For input string: "x y z"'),
        (
            "Limit of total fields [1000] has been exceeded",
            "Limit of total fields [1001] has been exceeded",
        ),
        ("Duplicate field 'x", "Duplicate field 'y and more"),
        ("Duplicate field 'a'", "Duplicate field '" + "b" * 10_000 + "'"),
        ("[AZtXgOIAPqM4wrx7hCk_]: went wrong", "[AZtXgOIA-qM4wrx7hC--]: went wrong"),
    ],
)
def test_one_cause_is_one_fingerprint(one, other):
    assert strip_literals(one) == strip_literals(other)
    assert refused(one).fingerprint == refused(other).fingerprint


def test_days_do_not_make_another_cause():
    assert refused("a").fingerprint == refused("a", index="litellm-logs-2026.02.01").fingerprint


@pytest.mark.parametrize(
    "other",
    [
        refused("failed to parse field [b]"),
        refused("can't parse field [a]"),
        refused("failed to parse field [a]", es_type="mapper_parsing_exception"),
        refused("failed to parse field [a]", index="others-2026.01.31"),
        Cause(
            Stage.OVERSIZE,
            Ending.PERMANENT,
            reason="failed to parse field [a]",
            es_type="document_parsing_exception",
            index="litellm-logs-2026.01.31",
        ),
    ],
)
def test_another_cause_is_another_fingerprint(other):
    assert refused("failed to parse field [a]").fingerprint != other.fingerprint


def transform_error(**fields):
    event = {**to_event(payload(1)), **fields}
    with pytest.raises(TransformError) as caught:
        Documents("a", timedelta(days=400)).make(event, event["start_time_ms"])
    return Cause(Stage.TRANSFORM, Ending.POISON, f"TransformError: {caught.value}")


@given(st.text(st.characters(exclude_categories=()) | st.sampled_from("'\"\\"), max_size=40))
def test_any_bad_event_id_is_one_cause(event_id):
    if re.fullmatch("[A-Za-z0-9_-]{20}", event_id):
        return
    assert (
        transform_error(event_id=event_id).fingerprint == transform_error(event_id="x").fingerprint
    )


@given(st.binary(min_size=1, max_size=40).filter(lambda raw: not set(raw) & set(b"\n\r{")))
def test_any_bad_document_is_one_cause(document):
    expected = transform_error(document=b"x").fingerprint
    assert transform_error(document=document).fingerprint == expected


@pytest.mark.parametrize("clock", [0, 1_000_000_000_000, 5_000_000_000_000])
def test_any_wrong_clock_is_one_cause(clock):
    def event_id(moment):
        return base64.urlsafe_b64encode(moment.to_bytes(6, "big") + b"123456789").decode()

    assert (
        transform_error(event_id=event_id(clock)).fingerprint
        == transform_error(event_id=event_id(77)).fingerprint
    )


# Messages


def test_elasticsearchs_error_becomes_arguments_of_a_cause():
    error = {"type": "t", "reason": "r", "caused_by": {"type": "c", "reason": "why"}}
    assert read_es_error(error) == {"es_type": "t", "reason": "r", "es_caused_by": "c: why"}


@pytest.mark.parametrize("error", [{}, {"caused_by": None}, {"caused_by": {}}, {"caused_by": "x"}])
def test_elasticsearchs_error_may_lack_everything(error):
    assert read_es_error(error) == {"es_type": "", "reason": "", "es_caused_by": ""}


def test_the_message_is_our_error_or_elasticsearchs():
    assert POISON.message == "DecodeError: the record has no value"
    assert REFUSED.message.startswith("document_parsing_exception: [1:9] failed to parse")
    assert Cause(Stage.OVERSIZE, Ending.PERMANENT, reason="too large").message == "too large"


def test_an_apostrophe_hides_no_cause():
    one, other = "can't merge an object mapping", "can't merge a nested mapping"
    assert refused(one).fingerprint != refused(other).fingerprint
