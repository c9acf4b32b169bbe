"""What is said of an answer that is not Elasticsearch's own."""

import time

import pytest

from llmlog_consumer.elasticsearch.connection import Answer
from llmlog_consumer.elasticsearch.foreign_answers import describe_foreign, is_page

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
