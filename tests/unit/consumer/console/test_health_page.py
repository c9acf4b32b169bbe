"""The page Health: what `pipeline doctor` finds, as text and as JSON."""

from __future__ import annotations

from llmlog_common.errors import ElasticsearchUnreachable
from llmlog_consumer.checks.doctor.findings import Check, examine, green
from support.fakes.console_login import (
    logged_in,
)


def test_the_findings_of_doctor_are_shown_as_text_with_what_mends_them(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers")
    assert 'hx-get="/health/findings?as=worker"' in client.get("/health?as=worker").text
    client.get("/health/findings?as=worker")
    console.jobs.close()
    text = client.get("/health/findings?as=worker").text
    assert "1 red" in text
    assert "mend it" in text
    assert "&lt;script&gt;" in text
    assert "<script>" not in text
    assert "see docs/configuration.md#kafka" in text
    console.runbook = "https://docs.example.org/"
    shown = client.get("/health/findings?as=worker").text
    assert 'href="https://docs.example.org/configuration.md#kafka"' in shown


def test_who_looks_again_sees_what_is_found_then(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers")
    found = [green("before"), green("after")]

    def examine_next(_user):
        yield from examine([Check("a", "?", (), lambda: found.pop(0))], {})

    console.examine = examine_next
    assert client.get("/health/json").json()["checks"][0]["seen"] == "before"
    assert client.get("/health/json").json()["checks"][0]["seen"] == "before"
    client.get("/health/findings?again=1")
    assert client.get("/health/json").json()["checks"][0]["seen"] == "after"


def test_a_program_gets_the_findings_as_doctor_prints_them(tmp_path) -> None:
    _, client = logged_in(tmp_path, "numbers")
    answer = client.get("/health/json?as=nobody-we-know")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["ok"] is False
    (check,) = answer.json()["checks"]
    assert (check["check"], check["asks"]) == ("topic.leaders", "operator?")


def test_checks_that_fail_as_a_whole_say_why_and_have_no_json(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers")

    def fail(_user):
        raise ElasticsearchUnreachable("Elasticsearch at nowhere: refused")

    console.examine = fail
    answer = client.get("/health/json")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json() == {"error": "Elasticsearch at nowhere: refused"}
    assert "Elasticsearch at nowhere: refused" in client.get("/health/findings").text
