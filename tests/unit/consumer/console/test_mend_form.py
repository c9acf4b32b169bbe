"""Letters are mended in the console as on the command line, and it is written down."""

from __future__ import annotations

import pytest

from support.fakes.console import (
    EVENT_ID,
)
from support.fakes.console_login import (
    FROM_HERE,
    csrf_of,
    logged_in,
)

ROWS = (
    "change=coerce&field=model&value=long&change=set&field=a.b&value=%3Cb%3E"
    "&change=set&field=&value="
)
MENDED = [("ada", "coerce model=long"), ("ada", 'set a.b="<b>"')]


def post(client, path, body):
    headers = FROM_HERE | {
        "x-csrf-token": csrf_of(client),
        "content-type": "application/x-www-form-urlencoded",
    }
    return client.post(f"{path}?fingerprint=cd6f6273e49e", content=body, headers=headers)


def test_a_letter_is_mended_and_it_is_written_down_with_its_changes(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,replay", allow_replay=True)
    answer = post(client, "/letters/replay", f"event_id={EVENT_ID}&scope=one&{ROWS}")
    assert answer.is_success
    console.jobs.close()
    assert console.audit.written[0][:2] == ("ada", "mend")
    assert console.audit.details == [{"changes": [words for _, words in MENDED]}]
    assert console.desk.mended == MENDED
    assert [wanted.event_id for wanted in console.desk.replayed] == [EVENT_ID]


def test_a_dry_run_carries_its_changes_to_the_replay_as_text(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,replay,contents", allow_replay=True)
    post(client, "/letters/dry-run", f"event_id={EVENT_ID}&scope=cause&{ROWS}")
    console.jobs.close()
    (job,) = console.jobs.list()
    text = client.get(f"/letters/jobs/{job.number}").text
    assert "Mend and replay" in text
    assert 'name="value" value="&lt;b&gt;"' in text
    assert "the-value" in text
    assert "event_id" not in text, "all letters of the cause were chosen"
    assert [action for _, action, _ in console.audit.written] == ["contents"]


@pytest.mark.parametrize(
    ("roles", "who"), [("numbers,replay", "ada"), ("numbers,replay,contents", "bob")]
)
def test_values_before_and_after_are_shown_to_the_one_who_has_opened_them(
    tmp_path, roles, who
) -> None:
    console, client = logged_in(tmp_path, roles, allow_replay=True)
    post(client, "/letters/dry-run", ROWS)
    console.jobs.close()
    (job,) = console.jobs.list()
    job.who = who
    text = client.get(f"/letters/jobs/{job.number}").text
    assert "coerce <code>model</code>" in text
    assert "the-value" not in text


@pytest.mark.parametrize(
    "rows",
    [
        "change=set&field=event_id&value=x",
        "change=drop&field=%40timestamp&value=",
        "change=coerce&field=startTime.x&value=long",
        "change=coerce&field=model&value=date",
        "change=eval&field=model&value=1",
        "event_id=../../x&change=set&field=model&value=1",
    ],
)
def test_a_change_that_cannot_be_is_refused_before_it_is_written_down(tmp_path, rows) -> None:
    console, client = logged_in(tmp_path, "numbers,replay", allow_replay=True)
    for path in ("/letters/dry-run", "/letters/replay"):
        answer = post(client, path, rows)
        assert (answer.status_code, 'role="alert"' in answer.text) == (400, True)
    assert (console.audit.written, console.desk.replayed) == ([], [])


def test_no_letter_is_mended_where_that_cannot_be_written_down(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,replay", allow_replay=True)
    console.audit.is_down = True
    assert post(client, "/letters/replay", ROWS).status_code == 503
    assert console.desk.replayed == []
