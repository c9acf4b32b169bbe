"""Log lines: one event each, whatever is in it."""

import io

import pytest
import structlog

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


@pytest.mark.parametrize(("value", "coloured"), [("1", False), ("", True)])
def test_no_color_turns_colours_off_on_a_terminal(monkeypatch, value, coloured):
    monkeypatch.setenv("NO_COLOR", value)
    stream = Terminal()
    log_setup.configure(stream=stream)
    structlog.get_logger("test").error("something", why="else")
    assert ("\x1b[" in stream.getvalue()) is coloured
