"""Redaction rules: the first that matches counts, and no client can loosen what the proxy says."""

import fnmatch
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.errors import ConfigurationError
from llmlog_producer.events.redact import NOTE
from llmlog_producer.events.rules import MODES, NOTHING, Rules, matches
from llmlog_producer.testing import document_of
from support.payloads import payload

FIELDS = ("messages", "response", "error_str", "error_information")
TEAM = {"user_api_key_team_alias": "payments", "user_api_key_team_id": "t-1"}
KEY = {"user_api_key_alias": "ci-nightly", "user_api_key_hash": "88dc28"}


def call(tags=(), headers=None, **metadata):
    """Return a payload of this team and key, with these tags and headers."""
    metadata["requester_custom_headers"] = headers or {}
    return payload(1, request_tags=list(tags), metadata=metadata)


def decide(rules, given, **general):
    """Return the modes of an event's fields, or NOTHING."""
    modes, nothing_by = Rules(rules, general, FIELDS).decide(given)
    return NOTHING if nothing_by else modes


ALL = {mode: dict.fromkeys(FIELDS, mode) for mode in ("mask", "drop")}


@pytest.mark.parametrize(
    ("rule", "given"),
    [
        ("team:payments=drop", call(**TEAM)),
        ("team:t-1=drop", call(**TEAM)),
        ("team:pay*=drop", call(**TEAM)),
        ("key:ci-*=drop", call(**KEY)),
        ("key:88dc28=drop", call(**KEY)),
        ("tag:phi=drop", call(["night", "phi"])),
        ("tag:User-Agent: curl*=drop", call(["User-Agent: curl/7"])),
        ("tag:a=b=drop", call(["a=b"])),
        ("header:x-private=drop", call(headers={"X-Private": "1"})),
        ("header:X-Class:secret*=drop", call(headers={"x-class": "secret-2"})),
        ("header:x-class=drop", payload(1, metadata={
            "requester_metadata": {"headers": {"x-class": "any"}}})),
    ],
)  # fmt: skip
def test_a_rule_is_for_its_team_key_tag_or_header(rule, given):
    assert decide([rule], given) == ALL["drop"]
    assert decide([rule], payload(2, metadata={}, request_tags=[])) == {}


def test_the_first_rule_that_matches_counts():
    rules = ["key:ci-release=mask", "key:ci-*=keep", "team:payments=drop"]
    assert decide(rules, call(**TEAM, **KEY), messages="mask") == {}
    assert decide(rules, call(**TEAM), messages="mask") == ALL["drop"]
    assert decide(rules, call(), messages="mask") == {"messages": "mask"}


def test_a_rule_of_the_proxy_may_be_looser_than_the_general_modes():
    assert decide(["team:payments=keep"], call(**TEAM), **ALL["drop"]) == {}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["tag:open=keep"], ALL["mask"]),
        (["header:x-open=keep"], ALL["mask"]),
        (["tag:open=keep", "team:payments=drop"], ALL["drop"]),
        (["tag:open=mask", "team:payments=nothing"], NOTHING),
        (["tag:open=drop", "team:payments=mask"], ALL["drop"]),
        (["header:x-open=nothing", "team:payments=keep"], NOTHING),
        (["team:payments=keep", "tag:open=drop"], {}),
    ],
)
def test_what_a_client_sends_makes_an_event_stricter_and_never_looser(rules, expected):
    given = call(["open"], {"x-open": "1"}, **TEAM)
    assert decide(rules, given, **ALL["mask"]) == expected


def test_no_tag_or_header_loosens_any_setting():
    strictness = (*MODES, NOTHING)

    def strict(decided):
        return 3 if decided == NOTHING else strictness.index(decided.get("messages", "keep"))

    by_proxy, by_client = ("team:payments", "key:ci-*"), ("tag:open", "header:x-open")
    plain, told = call(**TEAM, **KEY), call(["open"], {"x-open": "1"}, **TEAM, **KEY)
    for selectors in itertools.product((*by_proxy, *by_client), repeat=2):
        for modes in itertools.product(strictness, repeat=2):
            rules = [f"{one}={mode}" for one, mode in zip(selectors, modes, strict=True)]
            for general in ({}, ALL["mask"]):
                assert strict(decide(rules, told, **general)) >= strict(
                    decide(rules, plain, **general)
                )


def test_nothing_keeps_identity_status_times_costs_and_counts_alone():
    given = call(["phi"], **TEAM) | {
        "end_user": "mallory",
        "error_str": "mallory",
        "odd": "mallory",
    }
    document = document_of(given, redact_rules="tag:phi=nothing")
    assert "mallory" not in json.dumps({k: v for k, v in document.items() if k != "event_id"})
    assert "payments" not in json.dumps(document)
    assert document["extra"] == {NOTE: ["everything: rule 1"]}
    for name in (
        "litellm_call_id",
        "status",
        "model",
        "response_cost",
        "total_tokens",
        "startTime",
    ):
        assert name in document
    assert document.keys().isdisjoint({"messages", "response", "metadata", "request_tags"})
    assert document["event_id"] == document_of(given)["event_id"]


@pytest.mark.parametrize("mode", ["mask", "drop"])
def test_a_mode_is_that_of_the_four_fields(mode):
    by_rule = document_of(call(**TEAM), redact_rules=f"team:payments={mode}")
    assert by_rule == document_of(call(**TEAM), redact_messages=mode, redact_response=mode)
    assert document_of(call(), redact_rules=f"team:payments={mode}") == document_of(call())


def test_rules_come_before_the_users_function():
    given = call(**TEAM)
    document = document_of(
        given, redact_rules="team:payments=nothing", redact_function="builtins.dict"
    )
    assert "messages" not in document


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("payments=drop", "has to be team:NAME=MODE"),
        ("team:payments", "has to be team:NAME=MODE"),
        ("team:=drop", "has to be team:NAME=MODE"),
        ("model:gpt=drop", "has to be team:NAME=MODE"),
        ("team:payments=hide", "one of keep, mask, drop, nothing"),
        ("header:authorization=drop", "begin with x-"),
        ("header:x-a:=drop", "begin with x-"),
    ],
)
def test_a_text_that_is_no_rule_is_a_wrong_setting(rule, said):
    with pytest.raises(ConfigurationError, match=said) as error:
        document_of(call(), redact_rules=f"team:a=keep,{rule}")
    assert "LLMLOG_REDACT_RULES: rule 2" in str(error.value)


TEXT = st.text("ab*", max_size=8)


@given(TEXT, st.text("ab", max_size=12))
def test_a_star_stands_for_any_characters(pattern, text):
    assert matches(pattern, text) == fnmatch.fnmatchcase(text, pattern)
