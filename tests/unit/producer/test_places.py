"""The gateway says of each event which period and group its document's index has."""

import time

import pytest

from llmlog_common.settings import load
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EventBuilder
from llmlog_producer.events.snapshot import snapshot
from llmlog_schemas.codec import Decoder
from support.payloads import payload

GROUPS = {"LLMLOG_INDEX_GROUPS": "t-1=pay,t-2=legal"}


def builder(**environ):
    return EventBuilder(load(environ=environ), Stats())


def captured(metadata, **more):
    copy, size = snapshot(payload(1, metadata=metadata, **more), without=frozenset())
    return CapturedPayload(copy, "c", time.time(), size)


def place_of(metadata, **environ):
    built = builder(**environ).build(captured(metadata))
    return Decoder().head(built.value)["index_place"]


@pytest.mark.parametrize(
    ("metadata", "place"),
    [
        ({"user_api_key_team_id": "t-1"}, "-pay"),
        ({"user_api_key_team_id": "t-2", "user_api_key_team_alias": "any"}, "-legal"),
        ({"user_api_key_team_id": "t-3"}, ""),
        ({"user_api_key_team_alias": "t-1"}, ""),
        ({"team_id": "t-1", "requester_metadata": {"user_api_key_team_id": "t-1"}}, ""),
        ({"user_api_key_team_id": ["t-1"]}, ""),
        ({"user_api_key_team_id": None}, ""),
        ({}, ""),
        ("t-1", ""),
        (None, ""),
    ],
)
def test_the_team_that_the_proxy_names_decides(metadata, place):
    assert place_of(metadata, **GROUPS) == place
    assert place_of(metadata) == ""


@pytest.mark.parametrize(
    ("period", "place"), [("day", "-pay"), ("week", "week-pay"), ("month", "month-pay")]
)
def test_the_period_is_said_too(period, place):
    metadata = {"user_api_key_team_id": "t-1"}
    assert place_of(metadata, **GROUPS, LLMLOG_INDEX_PERIOD=period) == place


@pytest.mark.parametrize(
    "redaction",
    [
        {"LLMLOG_REDACT_FIELDS": "metadata.user_api_key_team_id"},
        {"LLMLOG_REDACT_KEYS": "user_api_key_team_id"},
        {"LLMLOG_REDACT_FIELDS": "metadata"},
        {"LLMLOG_REDACT_RULES": "team:t-1=nothing"},
    ],
)
def test_a_team_that_is_redacted_keeps_its_group(redaction):
    assert place_of({"user_api_key_team_id": "t-1"}, **GROUPS, **redaction) == "-pay"


def test_an_event_that_is_truncated_keeps_its_place():
    metadata = {"user_api_key_team_id": "t-1"}
    small = builder(**GROUPS, LLMLOG_MAX_EVENT_BYTES="2000")
    built = small.build(captured(metadata, response="x" * 9000))
    assert len(built.value) < 2500
    assert Decoder().head(built.value)["index_place"] == "-pay"
    shrunk = small.shrink(built)
    assert shrunk is None or Decoder().head(shrunk.value)["index_place"] == "-pay"
