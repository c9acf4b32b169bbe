"""Log lines: one event each, whatever is in it."""

import io

import pytest
import structlog

from llmlog_common.credentials import remember
from llmlog_consumer import log_setup


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
