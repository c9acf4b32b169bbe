"""Failed pass-through requests: which calls of the hook are events, and what these hold."""

import datetime as dt
from types import SimpleNamespace

import pytest

from llmlog_producer.events.completion import PASS_THROUGH
from llmlog_producer.pass_through import PassThroughFailures

BEGAN = dt.datetime.fromtimestamp(1_796_040_000.5)  # noqa: DTZ006 - LiteLLM's has no zone
KEY = SimpleNamespace(
    api_key="hash", key_alias="batch-job", team_id="t1", team_alias="search", user_id="u1",
    request_route="/openai/v1/chat/completions",
)  # fmt: skip


class Logging:
    """The request's logging object, as far as it is used."""

    def __init__(self, **details):
        self.model_call_details = details


class HTTPError(Exception):
    """An error of a provider, as LiteLLM reports it."""

    def __init__(self, status_code, detail):
        super().__init__(f"{status_code}: {detail}")
        self.status_code = status_code
        self.detail = detail


def request(logging=None, **fields):
    """Return what the hook is given for a pass-through request that was refused."""
    return {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "x"}],
        "call_type": PASS_THROUGH,
        "litellm_call_id": "call-1",
        "start_time": BEGAN,
        "custom_llm_provider": "openai",
        "litellm_params": {"litellm_logging_obj": logging or Logging(), "metadata": {}},
        "passthrough_logging_payload": {"url": "http://provider/v1/chat/completions"},
        "response_body": {"error": {"message": "slow down"}},
        **fields,
    }


def failures(payload=None):
    """Return a maker of payloads; LiteLLM's function gives this payload."""

    def build(**_):
        if payload is None:
            raise KeyError("another version")
        return payload

    return PassThroughFailures(build)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HTTPError(429, "slow down"), "429"),
        (HTTPError(401, "who are you"), "401"),
        (HTTPError(502, "<html>"), "502"),
        (ConnectionError("refused"), ""),
        (TimeoutError(), ""),
    ],
)
def test_a_refused_request_is_one_payload_with_its_cause(error, code):
    made = failures().payload_of(request(), error, KEY, "Traceback …")
    assert made["status"] == "failure"
    assert made["call_type"] == PASS_THROUGH
    assert made["model"] == "gpt-4o-mini"
    assert made["custom_llm_provider"] == "openai"
    assert made["api_base"] == "http://provider/v1/chat/completions"
    assert made["startTime"] == BEGAN.timestamp() <= made["endTime"]
    assert made["response"] == {"error": {"message": "slow down"}}
    assert made["error_information"]["error_code"] == code
    assert made["error_information"]["error_class"] == type(error).__name__
    assert made["error_information"]["traceback"] == "Traceback …"
    assert made["metadata"]["user_api_key_team_alias"] == "search"
    assert made["metadata"]["user_api_key_hash"] == "hash"


def test_what_litellm_makes_is_kept_and_completed():
    own = {"id": "1", "startTime": 12.5, "model": "", "error_information": {"error_code": "",
           "normalized_error": "n"}, "metadata": {"user_api_key_alias": "a"}}  # fmt: skip
    made = failures(own).payload_of(request(), HTTPError(429, "slow down"), KEY)
    assert made["id"] == "1"
    assert made["startTime"] == 12.5
    assert made["metadata"] == {"user_api_key_alias": "a"}
    assert made["error_information"]["normalized_error"] == "n"
    assert made["error_information"]["error_code"] == "429"
    assert made["model"] == "gpt-4o-mini"


@pytest.mark.parametrize(
    "given",
    [
        request(call_type="acompletion"),
        request(call_type=None),
        request(standard_logging_object={"id": "1"}),
        {**request(), "start_time": None},
        # The proxy's authentication has refused these: a client can write any JSON into its body.
        {"model": "m", "call_type": PASS_THROUGH, "metadata": {}},
        {"call_type": PASS_THROUGH, "litellm_call_id": "spoofed", "start_time": "2026-11-30"},
        {"call_type": PASS_THROUGH, "litellm_params": {"litellm_logging_obj": {"a": 1}}},
        {},
    ],
)
def test_other_failures_and_refused_keys_make_no_payload(given):
    assert failures().payload_of(given, HTTPError(401, "no"), KEY) is None


def test_two_requests_under_one_call_id_are_two_payloads():
    maker = failures()
    assert maker.payload_of(request(), HTTPError(429, "a"), KEY)
    assert maker.payload_of(request(), HTTPError(429, "b"), KEY)


def test_a_request_that_is_told_twice_is_one_payload():
    maker, logging = failures(), Logging()
    assert maker.payload_of(request(logging), HTTPError(429, "a"), KEY)
    assert maker.payload_of(request(logging), ConnectionError("b"), KEY) is None


def test_a_stream_that_breaks_off_is_one_event_whichever_hook_is_first():
    def kwargs(logging):
        return {"call_type": PASS_THROUGH, "litellm_params": {"litellm_logging_obj": logging}}

    maker, first, second = failures(), Logging(), Logging()
    assert not maker.is_second(kwargs(first))
    assert not maker.is_second(kwargs(first)), "both log hooks of one call have one event id"
    assert maker.payload_of(request(first), ConnectionError("cut"), KEY) is None
    assert maker.payload_of(request(second), ConnectionError("cut"), KEY)
    assert maker.is_second(kwargs(second))


def test_log_hooks_of_other_calls_are_left_alone():
    maker, logging = failures(), Logging()
    assert maker.payload_of(request(logging), ConnectionError("cut"), KEY)
    params = {"litellm_logging_obj": logging}
    assert not maker.is_second({"call_type": "acompletion", "litellm_params": params})
    assert not maker.is_second({"call_type": PASS_THROUGH})
    assert not maker.is_second({"call_type": PASS_THROUGH, "litellm_params": None})


def test_a_request_that_fails_before_it_is_sent_is_a_payload_too():
    """A proxy's own limit or guardrail: no logging object comes with it, and no URL."""
    given = {"call_type": PASS_THROUGH, "start_time": BEGAN, "messages": [{"role": "user"}]}
    made = failures().payload_of(given, HTTPError(429, "the key's own limit"), KEY)
    assert made["model"] == "unknown"
    assert made["error_str"] == "the key's own limit"
    assert made["messages"] == [{"role": "user"}]
    assert made["metadata"]["user_api_key_alias"] == "batch-job"
