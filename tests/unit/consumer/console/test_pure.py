"""Conversations, CSV, values, pictures, vendored files, history, jobs, options."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.errors import ConfigurationError, ElasticsearchUnreachable, KafkaUnreachable
from llmlog_consumer.console.access.roles import Role, parse_grants, roles_of
from llmlog_consumer.console.access.sessions import LIFETIME_SECONDS, MAX_SESSIONS, Sessions
from llmlog_consumer.console.charts import draw_series, draw_waterfall
from llmlog_consumer.console.conversation import MAX_TURNS, read_conversation
from llmlog_consumer.console.csv_file import write_csv
from llmlog_consumer.console.formats import (
    EMAIL_HIDDEN,
    write_label,
    write_seconds,
    write_usd,
    write_value,
)
from llmlog_consumer.console.history import History, Sample, balance, rates, take_sample
from llmlog_consumer.console.jobs import FAILED_SECONDS, FRESH_SECONDS, MAX_WAITING, Jobs
from llmlog_consumer.console.options import Options
from llmlog_consumer.console.vendored import VENDORED
from llmlog_consumer.console.views import FOLDER
from support.pipeline import wait_until

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
KEYS = st.sampled_from(["role", "content", "type", "text", "tool_calls", "image_url", "function"])
MESSAGES = st.lists(st.dictionaries(KEYS, JSON, max_size=5) | JSON, max_size=5)


# Conversations


def test_a_conversation_is_read_turn_by_turn():
    turns, left_out = read_conversation({
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 900}},
            ]},
            {"role": "assistant", "tool_calls": [
                {"function": {"name": "weather", "arguments": '{"city": "Köln"}'}}]},
            {"role": "tool", "content": "rain"},
        ],
        "response": {"choices": [
            {"message": {"content": "an umbrella", "reasoning_content": "hm"}}]},
    })  # fmt: skip
    said = [(turn.role, [(p.kind, p.title, p.text) for p in turn.parts]) for turn in turns]
    assert left_out == 0
    assert said[0] == ("system", [("text", "", "be kind")])
    assert said[1][1][0] == ("text", "", "look")
    assert said[1][1][1][0] == "image"
    assert len(said[1][1][1][2]) == 300
    assert said[2] == ("assistant", [("tool call", "weather", '{"city": "Köln"}')])
    assert said[3] == ("tool", [("tool result", "", "rain")])
    assert said[4] == ("assistant", [("thinking", "", "hm"), ("text", "", "an umbrella")])
    assert [turn.is_answer for turn in turns] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ({"output": [{"type": "message", "content": [{"type": "text", "text": "hi"}]}]}, "hi"),
        ({"content": [{"type": "text", "text": "hi"}]}, "hi"),
        ({"content": [{"type": "tool_use", "name": "f", "input": {"a": 1}}]}, '{\n  "a": 1\n}'),
        ("hi", "hi"),
    ],
)  # fmt: skip
def test_answers_of_other_providers_are_read_as_well(response, text):
    (turn,), _ = read_conversation({"response": response})
    assert [part.text for part in turn.parts] == [text]


def test_of_a_long_conversation_both_ends_are_shown():
    messages = [{"role": "user", "content": str(n)} for n in range(1000)]
    turns, left_out = read_conversation({"messages": messages})
    assert (len(turns), left_out) == (MAX_TURNS, 1000 - MAX_TURNS)
    assert (turns[0].parts[0].text, turns[-1].parts[0].text) == ("0", "999")


CUT_IMAGE = {"llmlog_cut": {"type": "image/png", "bytes": 48213, "sha256": "ab12"}}
LEFT_OUT = "the gateway has left out: image/png, 48,213 bytes, sha256 ab12"


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": CUT_IMAGE}}, "image"),
        ({"type": "input_image", "image_url": CUT_IMAGE}, "image"),
        ({"type": "image", "source": {"type": "base64", "data": CUT_IMAGE}}, "image"),
        ({"type": "tool_result", "content": CUT_IMAGE}, "tool result"),
        (CUT_IMAGE, "json"),
    ],
)
def test_what_the_gateway_has_cut_is_said_in_words(part, kind):
    messages = [{"role": "user", "content": [{"type": "text", "text": "see"}, part]}] * 200
    turns, left_out = read_conversation({"messages": messages})
    assert (len(turns), left_out) == (200, 0)
    assert {(one.parts[1].kind, one.parts[1].text) for one in turns} == {(kind, LEFT_OUT)}


@pytest.mark.parametrize("marker", [{}, {"bytes": True}, {"type": {"a": 1}}, {"sha256": [1]}])
def test_a_marker_of_another_program_is_text_as_well(marker):
    turns, _ = read_conversation(
        {"messages": [{"role": "user", "content": {"llmlog_cut": marker}}]}
    )
    assert turns[0].parts[0].text


@given(MESSAGES | JSON, JSON)
def test_anything_that_a_client_sent_is_a_conversation(messages, response):
    turns, _ = read_conversation({"messages": messages, "response": response})
    for turn in turns:
        assert isinstance(turn.role, str)
        assert all(isinstance(part.text, str) for part in turn.parts)


# CSV


@given(st.lists(st.text() | st.floats(allow_nan=False) | st.integers() | st.none(), min_size=1))
def test_no_cell_is_a_formula_and_every_text_is_kept(cells):
    ((*found,),) = csv.reader(io.StringIO(write_csv([], [cells]).decode().split("\r\n", 1)[1]))
    for cell, read in zip(cells, found, strict=True):
        if isinstance(cell, str):
            assert not read.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))
            assert read.removeprefix("'").replace("\r", "") in {
                cell.replace("\r", ""), cell.removeprefix("'").replace("\r", "")
            }  # fmt: skip


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\uff1d1"])
def test_a_text_that_would_be_calculated_is_quoted(text):
    heading, row = write_csv([text], [[text]]).decode().splitlines()[:2]
    assert heading.strip('"').startswith("'")
    assert row.strip('"').startswith("'")


def test_numbers_stay_numbers():
    assert write_csv(["a"], [[-1.5], [None]]) == b'a\r\n-1.5\r\n""\r\n'


# Values


def test_values_are_written_for_people():
    assert [write_usd(value) for value in (0, 0.00001234, 0.01234, 1234.5, None, True)] == [
        "$0.00", "$1.23e-05", "$0.01234", "$1,234.50", "not recorded", "not recorded",
    ]  # fmt: skip
    assert [write_seconds(value) for value in (0.25, 12.5, 600, float("nan"))] == [
        "250 ms", "12.50 s", "10.0 min", "not recorded",
    ]  # fmt: skip
    assert write_value(["a", "b"], "text") == "a, b"
    assert write_value(value=True, kind="text") == "yes"
    assert write_value("", "text") == "not recorded"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("ada@example.org", EMAIL_HIDDEN),
        ("key of ada.b+c@mail.example.org!", f"key of {EMAIL_HIDDEN}!"),
        ("claude-sonnet@20240620", "claude-sonnet@20240620"),
        ("a" * 300, "a" * 119 + "…"),
    ],
)
def test_an_address_in_a_name_is_hidden_without_the_right_to_it(text, hidden):
    assert write_label(text, shows_contents=False) == hidden
    assert write_label(text, shows_contents=True)[:119] == text[:119]


# Pictures


def test_pictures_are_data_and_their_hints_are_no_markup():
    for picture in (
        draw_series(["<b>"], [1, 2], [[1.0, None]], title="t", stacked=True),
        draw_waterfall([("<b>", 0.0, 1.0, 2.0)], title="t"),
    ):
        assert json.loads(json.dumps(picture)) == picture
        assert picture["tooltip"]["renderMode"] == "richText"
        assert "formatter" not in json.dumps(picture)


# What others wrote


def test_vendored_files_are_those_of_the_table():
    folder = FOLDER / "static/vendor"
    there = {path.name for path in folder.iterdir() if path.suffix == ".js"}
    assert there == set(VENDORED)
    for name, vendored in VENDORED.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == vendored.sha256
        assert (folder / f"{vendored.package.split('.')[0]}.LICENSE").is_file()


def test_pages_have_no_script_and_no_style_of_their_own():
    for path in (FOLDER / "templates").iterdir():
        text = path.read_text()
        assert "style=" not in text, path.name
        assert " on" + "click" not in text, path.name
        assert "|safe" not in text.replace(" ", ""), path.name
        assert "hx-on" not in text, path.name
        assert "js:" not in text, path.name
        for line in text.splitlines():
            assert "<script" not in line or 'src="/static/' in line, path.name
            assert "http://" not in line.replace("http://www.w3.org", ""), path.name
            assert "https://" not in line, path.name


def test_our_own_script_makes_no_markup_of_data():
    text = (FOLDER / "static/console.js").read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "Function(", "write("):
        assert word not in text.replace("const write =", "").replace("write(value)", ""), word


# Sessions


def test_a_session_ends_after_half_a_day():
    now = [0.0]
    sessions = Sessions(clock=lambda: now[0])
    cookie = sessions.open("ada", "link")
    now[0] = LIFETIME_SECONDS
    assert sessions.find(cookie)
    now[0] += 1
    assert sessions.find(cookie) is None


def test_the_oldest_session_ends_where_there_are_too_many():
    sessions = Sessions()
    cookies = [sessions.open("ada", "link") for _ in range(MAX_SESSIONS + 1)]
    assert sessions.find(cookies[0]) is None
    assert sessions.find(cookies[1])


def test_a_session_of_another_process_is_none():
    assert Sessions().find(Sessions().open("ada", "link")) is None


# Roles and options


def test_roles_of_groups_add_up():
    grants = parse_grants(["a=numbers", "a=contents", "cn=b,ou=x=replay"])
    assert roles_of(["a", "cn=b,ou=x", "other"], grants) == frozenset(Role)
    assert roles_of([""], grants) == frozenset()


@pytest.mark.parametrize("grant", ["a", "a=", "=numbers", "a=admin", "a=numbers,all"])
def test_a_grant_without_a_role_is_refused(grant):
    with pytest.raises(ConfigurationError):
        parse_grants([grant])


def check(options: Options) -> None:
    options.check()
    options.proxy()


def file_with(folder: Path, text: str) -> Path:
    path = folder / "file"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options(host="0.0.0.0"), "--url is missing"),
        (Options(host="0.0.0.0", urls=["http://c"]), "--token-file"),
        (Options(socket=Path("/x"), urls=["http://c"]), "--token-file"),
        (Options(proxy_from=["10.0.0.1"]), "belong together"),
        (Options(proxy_from=["nowhere"]), "--proxy-from nowhere"),
        (Options(grants=["a=numbers"]), "--socket"),
        (Options(urls=["ftp://c"]), "--url ftp://c"),
        (Options(urls=["http://c/path"]), "--url http://c/path"),
        (Options(urls=["http://c:x"]), "--url http://c:x"),
    ],
)
def test_options_that_leave_no_way_in_or_any_way_are_refused(options, says):
    with pytest.raises(ConfigurationError, match=says):
        check(options)


@pytest.mark.parametrize("text", ["ada numbers short", "ada numbers", "ada boss " + "x" * 32])
def test_a_token_file_with_a_wrong_line_is_refused(tmp_path, text):
    with pytest.raises(ConfigurationError, match=r"line 1|no role"):
        Options(token_file=file_with(tmp_path, text)).tokens()


def test_a_secret_that_is_short_is_refused(tmp_path):
    path = file_with(tmp_path, "short")
    options = Options(proxy_from=["10.0.0.1"], proxy_secret_file=path, grants=["a=numbers"])
    with pytest.raises(ConfigurationError, match="32 characters"):
        options.proxy()


def test_addresses_are_compared_without_their_default_port():
    origins = Options(urls=["https://Console.example.org"], host="0.0.0.0").origins()
    assert origins.hosts == {"console.example.org", "console.example.org:443"}
    assert origins.is_secure
    assert not Options().origins().is_secure
    assert Options(host="::1").origins().hosts == {"[::1]:8765", "localhost:8765"}


# History


def sample(at, written=None, settled=None, documents=None, letters=0):
    status = None if settled is None else {"dead_letters_on_topic": letters, "in_flight": 3}
    return Sample(at * 1000, status, written, settled, documents)


def test_rates_have_a_gap_where_a_server_was_away():
    samples = [sample(0, 0, 0, 0), sample(10, 100, 50, None), sample(20, 200, 90, 80)]
    assert rates(samples) == {
        "written": [(10_000, 10.0), (20_000, 10.0)],
        "settled": [(10_000, 5.0), (20_000, 4.0)],
        "indexed": [(10_000, None), (20_000, None)],
    }


def test_the_balance_is_of_the_moments_that_both_servers_answered():
    samples = [sample(0), sample(10, 0, 100, 90, 5), sample(20, 9, 200, 180, 8), sample(30)]
    found = balance(samples)
    assert (found.seconds, found.settled, found.documents, found.letters) == (10, 100, 90, 3)
    assert (found.rest, found.in_flight) == (7, 3)
    assert balance(samples[:2]) is None


def test_a_server_that_is_away_leaves_the_other_part():
    def away():
        raise KafkaUnreachable("no broker answers")

    found = take_sample(away, lambda: 5, clock=lambda: 1.0)
    assert (found.status, found.documents, found.kafka_error) == (None, 5, "no broker answers")

    def gone():
        raise ElasticsearchUnreachable("no node answers")

    assert take_sample(away, gone).elasticsearch_error == "no node answers"


def test_the_history_keeps_what_was_seen_last():
    taken = iter([sample(1, 1, 1, 1), sample(2), sample(3)])
    history = History(lambda: next(taken, sample(4)), interval_seconds=0.001)
    history.start()
    wait_until(lambda: len(history.samples()) > 3)
    history.close()
    assert history.last_status().at_ms == 1000


# Jobs


def test_work_of_one_key_is_done_once_and_shown_for_a_while():
    now = [0.0]
    jobs = Jobs(clock=lambda: now[0])
    done = []
    first = jobs.start("a", "ada", lambda _job: done.append(1) or "result")
    wait_until(lambda: first.is_finished)
    assert first.look().result == "result"
    assert jobs.start("a", "bob", lambda _job: done.append(1)) is first
    now[0] = FRESH_SECONDS + 1
    again = jobs.start("a", "bob", lambda _job: done.append(1))
    wait_until(lambda: again.is_finished)
    assert (again is first, done) == (False, [1, 1])
    jobs.close()


def test_a_job_that_fails_says_why_and_is_tried_again():
    def fail(_job):
        raise ElasticsearchUnreachable("away")

    now = [100.0]
    jobs = Jobs(clock=lambda: now[0])
    first = jobs.start("a", "ada", fail)
    wait_until(lambda: first.is_finished)
    assert (first.look().error, first.look().result) == ("away", None)
    assert jobs.start("a", "ada", fail) is first, "the page that asks how far it is sees why"
    now[0] += FAILED_SECONDS
    assert jobs.start("a", "ada", fail) is not first
    jobs.close()


def test_a_job_that_is_stopped_ends_at_its_next_report():
    goes = threading.Event()

    def work(job):
        goes.wait()
        job.report("reading", 1, 2)

    jobs = Jobs()
    job = jobs.start("a", "ada", work)
    assert not job.look().is_finished
    job.stop()
    goes.set()
    wait_until(lambda: job.is_finished)
    assert job.look().error == "stopped"
    jobs.close()


def test_too_much_work_is_refused():
    goes = threading.Event()
    jobs = Jobs()
    for number in range(MAX_WAITING):
        jobs.start(str(number), "ada", lambda _job: goes.wait())
    with pytest.raises(Exception, match="too much to do"):
        jobs.start("more", "ada", lambda _job: None)
    goes.set()
    jobs.close()
