"""Log lines and a stream that is not read."""

import threading

import pytest

from llmlog_consumer.log_stream import STALLED_SECONDS, LogStream, open_stderr
from support.fakes.service import Clock
from support.pipeline import wait_until


class Pipe:
    """A stream whose writes wait while no one reads it."""

    def __init__(self):
        self.is_read = threading.Event()
        self.is_read.set()
        self.begun = threading.Event()
        self.lines = []

    def write(self, text):
        self.begun.set()
        self.is_read.wait(30)
        self.lines.append(text)


@pytest.fixture
def pipe():
    pipe = Pipe()
    yield pipe
    pipe.is_read.set()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stream(pipe, clock):
    return LogStream(pipe.write, 100, clock)


def stall(pipe, stream):
    """Stop the reading, with one line on its way and ten that wait."""
    pipe.is_read.clear()
    stream.write("0" * 10)
    assert pipe.begun.wait(30)
    for number in range(1, 10):
        stream.write(str(number) * 10)


def test_lines_arrive_in_their_order_each_in_one_call(pipe, stream):
    for number in range(9):
        stream.write(f"line {number}\n")
    assert stream.flush(30)
    assert pipe.lines == [f"line {number}\n" for number in range(9)]


def test_a_stalled_stream_makes_no_caller_wait_and_says_later_what_it_left_out(pipe, stream):
    stall(pipe, stream)
    for _ in range(7):
        stream.write("no room\n")
    assert stream.left_out == 7
    assert not stream.flush(0.01)
    pipe.is_read.set()
    assert stream.flush(30)
    assert sorted(line for line in pipe.lines if "left out" not in line) == [
        str(number) * 10 for number in range(10)
    ]
    assert [line for line in pipe.lines if "left out" in line] == [
        "7 log lines were left out here: stderr was not read in time\n"
    ]
    stream.write("room again")
    assert stream.flush(30)
    assert pipe.lines[-1] == "room again"


def test_a_stalled_stream_is_said_and_its_end_as_well(pipe, stream, clock):
    assert stream.describe() == ""
    stall(pipe, stream)
    clock.now += STALLED_SECONDS - 0.1
    assert stream.describe() == ""
    clock.now += 2.1
    assert stream.describe().startswith("stderr takes no line since 5 s, 0 lines were left out")
    pipe.is_read.set()
    wait_until(lambda: stream.describe() == "", 30, "be read")


def test_a_reader_that_is_gone_disturbs_no_one():
    def put(_text):
        raise BrokenPipeError

    stream = LogStream(put)
    stream.write("lost")
    assert stream.flush(30)


def test_lines_go_to_stderr(capfd):
    stream = open_stderr()
    stream.write("ü\n")
    assert stream.flush(30)
    assert capfd.readouterr().err == "ü\n"
    assert not stream.isatty()
