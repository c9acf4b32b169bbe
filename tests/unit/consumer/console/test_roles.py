"""What is refused without its role, and what is written down before it happens."""

from __future__ import annotations

from llmlog_consumer.console.app import PAGES
from support.fakes.console import (
    EVENT_ID,
    SECRET_TEXTS,
)
from support.fakes.console_login import (
    FROM_HERE,
    address_of,
    csrf_of,
    logged_in,
)


def test_without_the_right_to_contents_no_page_shows_any(tmp_path) -> None:
    _, client = logged_in(tmp_path, "numbers,replay", allow_replay=True)
    hidden = (*SECRET_TEXTS, "ada@example.org", "the-reason", "the-value")
    shown = 0
    for page in PAGES:
        if page.method == "GET":
            for headers in ({}, {"hx-request": "true"}):
                text = client.get(address_of(page), headers=headers).text
                shown += "gpt-4o" in text
                assert not [word for word in hidden if word in text], page.path
    assert shown > 3
    for name in ("text", "user", "end_user"):
        assert client.get(f"/calls/rows?{name}=x").status_code == 403
    assert client.get("/usage/cost?by=user").status_code == 403
    assert client.get("/usage/cost?user=ada").status_code == 403
    assert client.get("/usage/cost/csv?by=user").status_code == 403
    for path in ("/calls/rows", "/usage/cost", "/usage/cost/csv"):
        assert client.get(f"{path}?key=ada%40*").status_code == 403, "an address may not be guessed"


def test_contents_are_shown_as_text_and_it_is_written_down_before(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,contents")
    text = client.get(f"/calls/{EVENT_ID}/contents").text
    assert "the-prompt &lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script" not in text
    assert "<img" not in text
    assert "{{7*7}}" in text
    client.get(f"/calls/{EVENT_ID}/raw")
    client.get("/letters/one/t.dlq/0/1/contents")
    client.get("/calls/rows?text=wetter")
    assert console.audit.written == [
        ("ada", "contents", EVENT_ID),
        ("ada", "contents", EVENT_ID),
        ("ada", "contents", "t.dlq/0/1"),
        ("ada", "search", '{"text": "wetter"}'),
    ]


def test_what_cannot_be_written_down_is_refused(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,contents,replay", allow_replay=True)
    console.audit.is_down = True
    for path in (
        f"/calls/{EVENT_ID}/contents",
        f"/calls/{EVENT_ID}/raw",
        "/letters/one/t.dlq/0/1/contents",
        "/calls/rows?text=x",
    ):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "the audit topic cannot be written" in answer.text
        assert not [word for word in (*SECRET_TEXTS, "the-value") if word in answer.text]
    headers = FROM_HERE | {"x-csrf-token": csrf_of(client)}
    answer = client.post("/letters/replay?fingerprint=cd6f6273e49e", headers=headers)
    assert answer.status_code == 503
    assert console.searcher.bodies == []
    assert console.desk.replayed == []


def test_a_console_that_only_reads_replays_nothing(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,replay")
    headers = FROM_HERE | {"x-csrf-token": csrf_of(client)}
    answer = client.post("/letters/replay?fingerprint=cd6f6273e49e", headers=headers)
    assert answer.status_code == 403
    assert "--allow-replay" in answer.text
    assert client.post("/letters/dry-run?fingerprint=cd6f6273e49e", headers=headers).is_success
    assert (console.desk.replayed, console.audit.written) == ([], [])


def test_a_replay_is_written_down_with_its_person_and_cause(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,replay", allow_replay=True)
    headers = FROM_HERE | {"x-csrf-token": csrf_of(client)}
    client.post("/letters/replay?fingerprint=cd6f6273e49e", headers=headers)
    console.jobs.close()
    ((who, action, what),) = console.audit.written
    assert (who, action) == ("ada", "replay")
    assert "fingerprint=cd6f6273e49e" in what
    assert [wanted.fingerprint for wanted in console.desk.replayed] == ["cd6f6273e49e"]
