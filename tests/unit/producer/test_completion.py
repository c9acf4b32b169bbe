"""What LiteLLM left out of a payload: whence a call came, its user, its model, a cost once."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_producer.events.completion import BatchCosts, complete
from llmlog_producer.testing import document_of


def call(**fields):
    """Return a payload with LiteLLM's keys that matter here."""
    return {"litellm_call_id": "1", "call_type": "completion", "status": "success", "model": "m",
            "startTime": 1_796_000_000.5, "end_user": None, "model_parameters": {}, "metadata": {},
            **fields}  # fmt: skip


def pass_through(body=None, url="http://host/tool/run", **fields):
    """Return the payload of a pass-through request whose model LiteLLM does not know."""
    content = body if isinstance(body, str) else json.dumps(body)
    return call(call_type="pass_through_endpoint", model="unknown", api_base=url,
                messages=[{"role": "user", "content": content}], **fields)  # fmt: skip


def test_a_health_check_is_marked_and_nothing_else_is():
    check = call(metadata={"user_api_key_alias": "litellm-internal-health-check"})
    assert document_of(check)["call_origin"] == "health_check"
    for other in (call(), call(metadata={"user_api_key_alias": "mine"}), call(metadata=None)):
        assert "call_origin" not in document_of(other)


@pytest.mark.parametrize(
    ("parameters", "end_user"),
    [
        ({"user": "alice"}, "alice"),
        ({"user": 17}, "17"),
        ({"user": {"id": "eve", "plan": "gold"}}, "eve"),
        ({"user": ""}, None),
        ({"user": None}, None),
        ({"user": ["a"]}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_sdks_user_is_the_end_user(parameters, end_user):
    document = document_of(call(model_parameters=parameters))
    assert document.get("end_user") == end_user


def test_the_end_user_that_litellm_knows_stays():
    given = call(end_user="eve", model_parameters={"user": "alice"})
    assert document_of(given)["end_user"] == "eve"


def test_an_end_user_that_litellm_excludes_is_not_brought_back():
    given = call(model_parameters={"user": "alice"})
    del given["end_user"]
    assert "end_user" not in document_of(given)


@pytest.mark.parametrize(
    ("user", "end_user"),
    [
        ({"id": "eve", "plan": "gold"}, "eve"),
        ({"user_id": 17}, "17"),
        ({"name": "Eve", "email": "eve@example.org"}, "eve@example.org"),
        ({"plan": "gold"}, '{"plan":"gold"}'),
        ({"id": {"a": 1}, "id2": 2}, '{"id":{"a":1},"id2":2}'),
    ],
)
def test_a_user_object_is_searched_by_its_id_and_kept(user, end_user):
    document = document_of(call(end_user=user))
    assert document["end_user"] == end_user
    assert document["end_user_object"] == user
    assert "extra" not in document


@pytest.mark.parametrize(
    "settings",
    [
        {"redact_fields": "model_parameters.user"},
        {"redact_fields": "end_user"},
        {"redact_keys": "user"},
        {"redact_fields": "model_parameters"},
    ],
)
@pytest.mark.parametrize("user", ["alice", {"id": "alice", "plan": "gold"}])
def test_what_is_hidden_at_its_source_is_hidden_in_the_field(settings, user):
    document = document_of(call(model_parameters={"user": user}), **settings)
    if settings.get("redact_fields") == "end_user":
        document.pop("model_parameters")
    assert "alice" not in json.dumps(document)


def test_paths_into_a_users_object_hide_what_they_hid():
    user = {"id": "eve", "email": "eve@example.org"}
    document = document_of(call(end_user=user), redact_fields="end_user.email")
    assert document["end_user_object"] == {"id": "eve", "email": "<redacted>"}
    hidden = document_of(call(end_user=user), redact_fields="end_user")
    assert hidden["end_user"] == "<redacted>"
    assert "example.org" not in json.dumps(hidden)


@pytest.mark.parametrize(
    ("body", "url", "model"),
    [
        ({"model": "my-model"}, "http://h/tool", "my-model"),
        ({"modelId": "my-model"}, "http://h/tool", "my-model"),
        ({"input": {"model": "my-model"}}, "http://h/tool", "my-model"),
        ({}, "http://h/v1beta/models/gemini-2.5-flash:generateContent?key=k", "gemini-2.5-flash"),
        ({}, "http://h/openai/deployments/gpt-4o/chat/completions?api-version=1", "gpt-4o"),
        ({}, "http://h/model/anthropic.claude%3A0/invoke", "anthropic.claude:0"),
        (None, "http://h/tool?model=m-1&a=b", "m-1"),
        ("no JSON", "http://h/tool", "unknown"),
        ({"model": "unknown"}, "http://h/models", "unknown"),
        ([1], "http://h/tool", "unknown"),
        ({"model": {"a": 1}}, "http://[h/tool?model=m", "unknown"),
    ],
)
def test_a_pass_through_has_the_model_that_its_request_names(body, url, model):
    assert document_of(pass_through(body, url))["model"] == model


def test_a_model_that_litellm_knows_stays():
    known = {**pass_through({"model": "b"}), "model": "a"}
    assert document_of(known)["model"] == "a"
    other = call(model="unknown", messages=[{"role": "user", "content": '{"model": "b"}'}])
    assert document_of(other)["model"] == "unknown"


def test_a_secret_in_the_place_of_a_model_is_hidden():
    secret = "sk-" + "a1B2" * 8
    escaped = "%73k-" + "a1B2" * 8
    for one in (pass_through({"model": secret}), pass_through({}, f"http://h/models/{escaped}")):
        assert secret not in json.dumps(document_of(one))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON, JSON, JSON, JSON)
def test_no_payload_is_lost_over_its_completion(user, parameters, messages, url):
    given = call(call_type="pass_through_endpoint", model="unknown", end_user=user, api_base=url,
                 model_parameters=parameters, messages=messages)  # fmt: skip
    complete(given)
    assert document_of(given)["status"] == "success"


def retrieval(call_id, batch="batch_1", cost=0.5, **fields):
    """Return the payload of a batch that is looked at."""
    return call(
        **{"litellm_call_id": call_id, "call_type": "aretrieve_batch", "id": batch,
           "custom_llm_provider": "openai", "response_cost": cost, "total_tokens": 3,
           "prompt_tokens": 2, "completion_tokens": 1, "cost_breakdown": {"total_cost": cost},
           **fields},
    )  # fmt: skip


def test_the_cost_of_a_batch_counts_once_however_often_it_is_retrieved():
    costs = BatchCosts()
    documents = [document_of(costs.count_once(retrieval(f"call-{n}"))) for n in range(3)]
    assert len({document["event_id"] for document in documents}) == 3
    assert [document["response_cost"] for document in documents] == [0.5, 0.0, 0.0]
    assert [document["total_tokens"] for document in documents] == [3, 0, 0]
    assert "cost_breakdown" not in documents[1]
    assert documents[1]["extra"]["batch_cost"]["response_cost"] == 0.5


def test_a_retrieval_that_is_told_twice_and_other_batches_keep_their_cost():
    costs = BatchCosts()
    for one in (
        retrieval("1"),
        retrieval("1"),
        retrieval("2", "batch_2"),
        retrieval("3", custom_llm_provider="azure"),
        retrieval("4", call_type="acompletion"),
        retrieval("5", "batch_3", cost=0.0),
    ):
        assert costs.count_once(one) is one
    assert costs.count_once(retrieval("6", "batch_3")) == retrieval("6", "batch_3")


def test_the_batches_that_are_remembered_have_a_bound():
    costs = BatchCosts(most=2)
    for number in range(3):
        costs.count_once(retrieval(f"a{number}", f"batch_{number}"))
    assert costs.count_once(retrieval("b1", "batch_1"))["response_cost"] == 0
    assert costs.count_once(retrieval("b0", "batch_0"))["response_cost"] == 0.5


@pytest.mark.parametrize("kind", [["aretrieve_batch"], {}, {1}, None, 5, b"aretrieve_batch"])
def test_a_call_type_that_is_no_text_changes_nothing(kind):
    given = {"call_type": kind, "response_cost": 1.0}
    assert BatchCosts().count_once(given) is given
