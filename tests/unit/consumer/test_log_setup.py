"""Log lines: one event each, whatever is in it."""

import importlib
import io
import json
import logging
import re

import pytest
import structlog
from confluent_kafka import Producer

from llmlog_common import kafka_clients
from llmlog_common.credentials import remember
from llmlog_consumer import log_setup
from support.pipeline import wait_until


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(params=[io.StringIO, Terminal], ids=["piped", "terminal"])
def stderr(request):
    return request.param()


def lines(stream):
    text = stream.getvalue()
    assert text.endswith("\n")
    return text[:-1].split("\n")


@pytest.mark.parametrize(
    "value",
    ["two\nlines", "two\r\nlines", "a\rb", "\n", ["a\nb", "c"], ("a", 1), "", None, 1.5,
     {"key": "a\nb"}, ValueError("a\nb"), "a=b \"c\" 'd'", "ü 世界"],
)  # fmt: skip
def test_an_event_is_one_line_whatever_its_values(stderr, value):
    log_setup.configure(stream=stderr)
    structlog.get_logger("test").info("something", value=value)
    (line,) = lines(stderr)
    assert "something" in line
    assert "\r" not in line


def test_a_message_of_several_lines_is_one_too(stderr):
    log_setup.configure(stream=stderr)
    structlog.get_logger("test").info("some\nthing")
    (line,) = lines(stderr)
    assert "some thing" in line


def test_piped_lines_begin_with_time_level_and_event():
    stream = io.StringIO()
    log_setup.configure(stream=stream)
    structlog.get_logger("test").warning("waiting", why="two words", nothing=None)
    (line,) = lines(stream)
    assert line.startswith("timestamp=")
    assert ' level=warning event=waiting why="two words"' in line
    assert line.split(" ")[0].endswith("Z")


def test_a_worker_names_itself(stderr):
    log_setup.configure(worker=3, stream=stderr)
    structlog.get_logger("test").info("something")
    structlog.get_logger("test").info("of another", worker=1)
    first, second = lines(stderr)
    assert "3" in first
    assert "worker" in first
    assert "1" in second


def test_the_supervisor_has_no_number(stderr):
    log_setup.configure(stream=stderr)
    structlog.get_logger("test").info("something")
    assert "worker" not in stderr.getvalue()


def test_debug_lines_are_left_out(stderr):
    log_setup.configure(stream=stderr)
    structlog.get_logger("test").debug("something")
    assert stderr.getvalue() == ""


SECRET = "Hunter2-do-not-print"


@pytest.mark.parametrize(
    "value", ["x" * 10**6, ["x" * 10**6], {"x": "y" * 10**6}, ValueError("x" * 10**6), b"x" * 10**6]
)
def test_a_value_of_any_length_is_a_short_one(stderr, value):
    log_setup.configure(stream=stderr)
    structlog.get_logger("test").warning("something", why=value)
    (line,) = lines(stderr)
    assert len(line) < 2 * log_setup.MAX_VALUE_CHARACTERS
    assert "…" in line


def test_a_line_and_a_traceback_hold_no_secret_and_the_end_of_a_long_one_is_kept(stderr):
    remember([SECRET])
    log_setup.configure(stream=stderr)

    def fail():
        raise ValueError(f"{'x' * 10**6} cannot send {SECRET!r}: the reason")

    try:
        fail()
    except ValueError as error:
        structlog.get_logger("test").exception(f"{SECRET} failed", error=error, why=[SECRET])
    text = stderr.getvalue()
    assert SECRET not in text
    assert "the reason" in text
    assert len(text) < 2 * log_setup.MAX_TRACEBACK_CHARACTERS


def test_numbers_stay_numbers(stderr):
    log_setup.configure(stream=stderr)
    structlog.get_logger("test").info("something", count=12345678901234567890, share=0.5)
    assert "12345678901234567890" in stderr.getvalue()


@pytest.mark.parametrize(("value", "coloured"), [("1", False), ("", True)])
def test_no_color_turns_colours_off_on_a_terminal(monkeypatch, value, coloured):
    monkeypatch.setenv("NO_COLOR", value)
    stream = Terminal()
    log_setup.configure(stream=stream)
    structlog.get_logger("test").error("something", why="else")
    assert ("\x1b[" in stream.getvalue()) is coloured


def test_json_is_one_object_a_line_and_numbers_stay_numbers():
    stream = io.StringIO()
    log_setup.configure(worker=2, stream=stream, form="json")
    structlog.get_logger("test").error("index ü", why='a "quoted"\nword', seconds=1.5, on=True)
    (line,) = lines(stream)
    found = json.loads(line)
    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "event": "index ü", "level": "error", "worker": 2, "why": 'a "quoted" word',
        "seconds": 1.5, "on": True,
    }  # fmt: skip


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["piped", "terminal"])
@pytest.mark.parametrize(("form", "begin"), [("logfmt", "timestamp="), ("json", "{")])
def test_a_form_that_is_set_holds_on_a_terminal_and_in_a_pipe(stream, form, begin):
    log_setup.configure(stream=stream, form=form)
    structlog.get_logger("test").info("something")
    assert lines(stream)[-1].startswith(begin)


def test_the_console_form_has_no_colours_in_a_pipe():
    stream = io.StringIO()
    log_setup.configure(stream=stream, form="console")
    structlog.get_logger("test").info("something")
    assert "\x1b" not in stream.getvalue()
    assert "something" in stream.getvalue()


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", "diwe"), ("info", "iwe"), ("warning", "we"), ("error", "e")],
)
def test_lines_below_the_level_are_left_out(level, expected):
    stream = io.StringIO()
    log_setup.configure(stream=stream, level=level)
    log = structlog.get_logger("test")
    for method in (log.debug, log.info, log.warning, log.error):
        method("x")
    assert "".join(re.findall(r"level=(\w)", stream.getvalue())) == expected


def test_librdkafkas_own_lines_have_our_form_and_are_there_with_debug_alone():
    secret = "hunter2-and-more"
    remember([secret])
    for level, expected in (("info", 0), ("debug", 1)):
        stream = io.StringIO()
        log_setup.configure(stream=stream, form="json", level=level)
        # As confluent-kafka calls it, for a line that librdkafka wrote.
        logging.getLogger("llmlog.librdkafka").log(
            logging.ERROR, "%s [%s] %s", "FAIL", "rdkafka#consumer-1", f"refused: {secret}\n"
        )
        assert len(stream.getvalue().splitlines()) == expected
    found = json.loads(stream.getvalue())
    assert (found["event"], found["facility"]) == ("librdkafka", "FAIL")
    assert found["client"] == "rdkafka#consumer-1"
    assert found["text"].startswith("refused: ")
    assert secret not in stream.getvalue()


def test_a_client_made_later_leaves_the_level_of_librdkafkas_lines():
    log_setup.configure(stream=io.StringIO(), level="debug")
    importlib.reload(kafka_clients)
    assert kafka_clients.LIBRDKAFKA_LOGGER.level == logging.DEBUG
    log_setup.configure(stream=io.StringIO())
    assert kafka_clients.LIBRDKAFKA_LOGGER.level == logging.CRITICAL


def test_a_real_client_of_a_broker_that_is_away_writes_its_lines_in_our_form():
    stream = io.StringIO()
    log_setup.configure(stream=stream, form="json", level="debug")
    config = {"bootstrap.servers": "127.0.0.1:1", "debug": "broker"}
    client = kafka_clients.new_client(Producer, config)
    wait_until(lambda: client.poll(0.05) or stream.getvalue(), 10)
    log_setup.configure()
    for line in stream.getvalue().splitlines():
        found = json.loads(line)
        assert found["event"] == "librdkafka"
        assert found["facility"]
