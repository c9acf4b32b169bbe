"""What is said of an answer that is not Elasticsearch's own."""

import time

import pytest

from llmlog_consumer.elasticsearch.connection import Answer
from llmlog_consumer.elasticsearch.foreign_answers import (
    Reply,
    describe_foreign,
    describe_other_server,
    is_page,
)

NGINX = "<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>the prompt</body></html>"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (NGINX, "an HTML page titled 403 Forbidden"),
        ("<!doctype html><p>the prompt", "an HTML page"),
        ("<html><title>\n Log \n in </title>", "an HTML page titled Log in"),
        ({"message": "Forbidden"}, "Forbidden"),
        ({"Message": "User: anonymous is not authorized"}, "User: anonymous is not authorized"),
        ({"type": "about:blank", "title": "Too large", "status": 413}, "Too large"),
        ({"error": "Content-Type header [x] is not supported", "status": 406},
         "Content-Type header [x] is not supported"),
        ({"detail": "no such route"}, "no such route"),
        ({"ok": False}, "{'ok': False}"),
        ("upstream\nconnect  error", "upstream connect error"),
        ("", "an empty answer"),
        (None, "an empty answer"),
        ([1], "[1]"),
    ],
)  # fmt: skip
def test_an_answer_is_described_in_one_line(body, said):
    assert describe_foreign(body) == said


def test_a_redirect_is_named_without_what_it_carries():
    location = "https://user:password@login.example.com/start?state=secret#more"
    answer = Answer(302, NGINX, 0.0, location)
    assert answer.describe() == "302 a redirect to https://login.example.com/start"
    reply = Reply(302, NGINX, 0.0, is_elasticsearch=False, location=location)
    assert reply.doubt == "302 leads to https://login.example.com/start"


@pytest.mark.parametrize(
    "odd", [";", "?", "#", "/", "@", "12?3", "12/3", "12#3", "12;3", "p" * 400]
)
@pytest.mark.parametrize("scheme", ["https:", ""])
def test_no_part_of_a_password_in_a_redirect_is_shown(scheme, odd):
    password = f"19{odd}84"
    said = describe_foreign(NGINX, f"{scheme}//user:{password}@login.example.com/start?code=5")
    assert not {"19", "84", "pp", "user"} & {said[at : at + n] for n in (2, 4) for at in range(400)}
    assert said in {
        f"a redirect to {scheme}//login.example.com/start",
        "a redirect to an address that may hold a password",
    }


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("/login;jsessionid=5", "/login"),
        ("https://login.example.com?hint=me@example.com", "https://login.example.com"),
        ("http://[::1]:9200/a?b#c", "http://[::1]:9200/a"),
        ("https://login.example.com:8443/start?a=b", "https://login.example.com:8443/start"),
        ("user:19@login.example.com", "an address that may hold a password"),
        ("https://[", "an address that may hold a password"),
    ],
)
def test_a_redirect_names_where_it_leads(location, said):
    assert describe_foreign(NGINX, location) == f"a redirect to {said}"


@pytest.mark.parametrize(
    ("status", "body", "is_own", "doubt"),
    [
        (200, {"took": 1}, True, ""),
        (200, {"took": 1}, False, "200 that is not of Elasticsearch"),
        (200, "ok", True, "200 that is not of Elasticsearch"),
        (413, NGINX, False, ""),
        (429, "slow down", False, ""),
        (502, {"error": {"type": "x"}}, True, "502: {'type': 'x'}"),
        (401, {"error": {"type": "security"}}, True, "401: {'type': 'security'}"),
        (400, {"error": {"type": "illegal_argument_exception"}}, True, ""),
        (400, {"error": "no handler"}, True, "400: no handler"),
        (500, "oops", True, "500: oops"),
    ],
)  # fmt: skip
def test_an_answer_of_one_node_alone_is_told_from_one_about_the_request(
    status, body, is_own, doubt
):
    assert Reply(status, body, 0.0, is_elasticsearch=is_own, location="").doubt == doubt


def test_a_good_answer_without_what_was_asked_for_is_in_doubt():
    reply = Reply(200, {"took": 1}, 0.0, is_elasticsearch=True, location="", is_whole=False)
    assert reply.doubt == "200 without what was asked for"


@pytest.mark.parametrize(
    "body", ["<", "<title>" * 300_000, "<title" + "<" * 2_000_000, "a " * 10**6]
)
def test_a_page_of_any_length_is_described_at_once(body):
    started = time.process_time()
    assert len(describe_foreign(body)) <= 400
    assert time.process_time() - started < 0.1


def test_text_is_told_from_a_page():
    assert is_page("\ufeff\n <div>")
    assert not is_page('{"a": "<html>"}')
    assert not is_page({"a": 1})


def test_another_server_is_named_with_what_to_check():
    assert describe_other_server("http://es", NGINX) == (
        "http://es answers with an HTML page titled 403 Forbidden: a proxy or a login page answers "
        "in Elasticsearch's place; check LLMLOG_ELASTICSEARCH_URL"
    )
    assert describe_other_server("http://es", {"version": {}}) == (
        "http://es answers, but is no Elasticsearch: check LLMLOG_ELASTICSEARCH_URL (OpenSearch "
        "answers so, and a proxy that takes the header X-elastic-product away)"
    )
