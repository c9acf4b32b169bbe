"""Texts for search: the newest first, every provider's form, tools, and bounds."""

import json

import pytest

from llmlog_schemas.limits import MAX_SEARCH_TEXT_CHARACTERS, MAX_TOOL_TEXT_CHARACTERS
from llmlog_schemas.search_text import search_texts


def turn(role, content):
    return {"role": role, "content": content}


def asked(messages, **options):
    return search_texts(messages, None, **options).get("messages_text")


def answered(response):
    return search_texts(None, response).get("response_text")


def test_the_newest_turn_of_the_user_comes_first_and_the_system_last():
    chat = [turn("system", "brief"), turn("user", "one"), turn("assistant", "two"),
            turn("user", "three"), turn("assistant", "four"), turn("tool", "five")]  # fmt: skip
    assert asked(chat) == "three\nfive\nfour\ntwo\none\nbrief"


def test_a_turn_of_nothing_but_tool_results_is_no_question():
    result = [{"type": "tool_result", "content": [{"type": "text", "text": "12 degrees"}]}]
    chat = [turn("user", "how warm?"), turn("user", result)]
    assert asked(chat) == "how warm?\n12 degrees"


def test_of_a_long_chat_the_oldest_is_cut():
    chat = [turn("user", f"turn {n} {'word ' * 2000}") for n in range(10)]
    found = asked([turn("system", "brief"), *chat])
    assert found.startswith("turn 9 ")
    assert "turn 8 " in found
    assert "turn 0 " not in found
    assert len(found) <= MAX_SEARCH_TEXT_CHARACTERS + 1


def test_texts_without_roles_keep_their_order():
    assert asked(["first", "second"]) == "first\nsecond"
    assert asked({"query": "q", "documents": ["a", "b"]}) == "q\na\nb"


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([turn("user", [{"type": "thinking", "thinking": "deep", "signature": "x"}])], "deep"),
        ([turn("user", [{"type": "input_text", "text": "hi"}])], "hi"),
        ([{"role": "user", "parts": [{"text": "gemini"}]}], "gemini"),
        ([turn("user", "<redacted>")], None),
        ("default-message-value", None),
        ([turn("user", '{"anything": "a user writes"}')], '{"anything": "a user writes"}'),
    ],
)
def test_what_was_asked_is_found(messages, found):
    assert asked(messages) == found


@pytest.mark.parametrize(
    ("response", "found"),
    [
        ({"results": [{"response": {"output": [{"content": [
            {"type": "audio", "transcript": "spoken"}]}]}}]}, "spoken"),
        ({"response": json.dumps({"choices": [{"message": {"content": "passed on"}}]})},
         "passed on"),
        ({"response": '{"echo": "of no known form"}'}, '{"echo": "of no known form"}'),
        ({"response": '{"cut": "off'}, '{"cut": "off'),
        ({"response": 'data: {"text": "streamed"}'}, 'data: {"text": "streamed"}'),
        ({"content": "data:image/png;base64,AAAA"}, None),
        ({"candidates": [{"content": {"parts": [{"text": "gemini"}]}}]}, "gemini"),
        ({"choices": [{"text": "completed"}]}, "completed"),
        ({"output": [{"type": "function_call", "name": "f", "arguments": '{"a": 1}'}]},
         'f {"a": 1}'),
    ],
)  # fmt: skip
def test_what_was_answered_is_found(response, found):
    assert answered(response) == found


@pytest.mark.parametrize("call", [
    {"type": "function", "function": {"name": "weather", "arguments": '{"city":"Wien"}'}},
    {"type": "tool_use", "name": "weather", "input": {"city": "Wien"}},
    {"functionCall": {"name": "weather", "args": {"city": "Wien"}}},
    {"type": "mcp_call", "name": "weather", "arguments": '{"city":"Wien"}'},
])  # fmt: skip
def test_a_call_is_found_by_its_tool_and_by_its_arguments(call):
    wanted = 'weather {"city":"Wien"}'
    assert search_texts(None, {"content": [call]})["tool_text"] == wanted
    assert search_texts([turn("assistant", [call])], None)["tool_text"] == wanted


def test_calls_of_the_answer_come_first_and_are_bounded():
    call = {"name": "f", "arguments": "x" * 5000}
    texts = search_texts([turn("assistant", [call] * 5)], {"content": [{**call, "name": "newest"}]})
    assert texts["tool_text"].startswith("newest ")
    assert len(texts["tool_text"]) == MAX_TOOL_TEXT_CHARACTERS


def test_an_mcp_call_is_found():
    mcp = {"name": "ask", "arguments": {"question": "why"}, "result": "because",
           "mcp_server_name": "wiki"}  # fmt: skip
    texts = search_texts("default-message-value", None, mcp)
    assert texts["tool_text"] == 'ask {"question":"why"}'
    assert texts["messages_text"].startswith('ask {"question":"why"}')


def test_the_body_of_a_pass_through_is_read_as_its_provider_would():
    body = {"system": "brief", "messages": [turn("user", "old"), turn("user", "new")]}
    sent = [turn("user", json.dumps(body))]
    assert asked(sent, has_body=True) == "new\nold\nbrief"
    assert asked([turn("user", '{"a": "b"}')], has_body=True) == '{"a": "b"}'
    assert asked([turn("user", "no JSON")], has_body=True) == "no JSON"
