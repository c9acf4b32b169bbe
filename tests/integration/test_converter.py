"""The process beside a gateway: what it makes, and whatever may happen to it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmlog_common.settings import load
from llmlog_common.throttled_log import GatewayLogger, ThrottledLog
from llmlog_producer.converter import client as module
from llmlog_producer.converter.client import ConversionProcess, Converter
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EncodedEvent, EventBuilder
from llmlog_producer.events.snapshot import snapshot
from support.payloads import payload
from support.pipeline import base_environment, wait_until

Children = Callable[[], list[psutil.Process]]
LIMIT = 1 << 20
SECRET = "sk-PLANTED00x8Kq2Wn5Rt7Yp3Zm"


def captured(number: int, **more: Any) -> CapturedPayload:
    copy, _ = snapshot(payload(number, **more), without=frozenset())
    return CapturedPayload(copy, f"call {number}", 1_800_000_000.0)


def in_place(one: CapturedPayload, limit: int = LIMIT) -> bytes:
    builder = EventBuilder(load(environ={}), Stats())
    builder.limit = limit
    return builder.build(one).body


def bodies(items: list[EncodedEvent | None]) -> list[bytes | None]:
    return [None if item is None else item.body for item in items]


@pytest.fixture
def children() -> Children:
    """Return our child processes that the test has started."""
    before = psutil.Process().children()
    return lambda: [child for child in psutil.Process().children() if child not in before]


@pytest.fixture
def urgent() -> threading.Event:
    """Set when the events are needed at once."""
    return threading.Event()


@pytest.fixture
def stats() -> Stats:
    return Stats()


@pytest.fixture
def make(
    stats: Stats, monkeypatch: pytest.MonkeyPatch, children: Children, urgent: threading.Event
) -> Iterator[Callable[..., Converter]]:
    """Make converters that start a process for the first payload already; end them."""
    monkeypatch.setattr(module, "_START_AFTER_PAYLOADS", 1)
    made: list[Converter] = []

    def make_one(**environ: str) -> Converter:
        made.append(
            Converter(load(environ=environ), stats, ThrottledLog(GatewayLogger()), urgent.is_set)
        )
        return made[-1]

    yield make_one
    for one in made:
        one.close()
    assert not children(), "nothing is left behind"


def start_process(converter: Converter) -> int:
    """Return the id of a converter's process once it answers."""
    wait_until(lambda: converter.convert(captured(0), [], LIMIT), 30, "the process answers")
    assert converter.pid is not None
    return converter.pid


@pytest.fixture
def one() -> Iterator[ConversionProcess]:
    """A process for many payloads."""
    process = ConversionProcess()
    process.start(load(environ={}))
    assert process.poll_ready(30)
    yield process
    process.end()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from([*payload(1), "else"]), JSON), min_size=1))
def test_it_makes_what_the_gateway_would_make(
    one: ConversionProcess, dicts: list[dict[str, Any]]
) -> None:
    copies = [snapshot({"id": "i", **some}, without=frozenset())[0] for some in dicts]
    payloads = [CapturedPayload(copy, "call", 1.5) for copy in copies if isinstance(copy, bytes)]
    made, _ = one.convert(payloads, LIMIT)
    assert made == [in_place(some) for some in payloads]


def test_secrets_are_gone_from_what_it_makes(one: ConversionProcess) -> None:
    given = captured(1, messages=[{"role": "user", "content": f"my key is {SECRET}"}])
    assert isinstance(given.payload, bytes)
    assert SECRET.encode() in given.payload
    (made,), _ = one.convert([given], LIMIT)
    assert made is not None
    assert SECRET.encode() not in made


def test_events_that_the_process_truncates_are_counted_by_the_gateway(
    make: Callable[..., Converter], stats: Stats
) -> None:
    converter = make()
    start_process(converter)
    large = captured(1, messages="words and more " * 5000)
    made = converter.convert(large, [captured(2), large], 20_000)
    expected = [in_place(some, 20_000) for some in (large, captured(2), large)]
    assert bodies(made) == expected
    assert max(map(len, expected)) < 21_000
    assert stats.snapshot()["truncated"] == 2


def test_a_few_payloads_start_no_process(
    children: Children, make: Callable[..., Converter]
) -> None:
    converter = make()
    assert converter.convert(captured(1), [], LIMIT) == []
    assert not children()
    assert converter.convert(captured(2), [], LIMIT) == []
    assert len(children()) == 1


@pytest.mark.parametrize(
    "environ",
    [{"LLMLOG_GATEWAY_CONVERTER": "thread"}, {"LLMLOG_REDACT_FUNCTION": "copy.copy"}],
)
def test_no_process_is_started(
    children: Children, make: Callable[..., Converter], environ: dict[str, str]
) -> None:
    converter = make(**environ)
    assert [converter.convert(captured(number), [], LIMIT) for number in range(200)] == [[]] * 200
    assert not children()


def test_only_the_first_payloads_that_are_json_are_handed_over(
    make: Callable[..., Converter],
) -> None:
    converter = make()
    start_process(converter)
    objects = CapturedPayload({"id": object()}, "", 1.0)
    item = EncodedEvent(b"made already")
    assert converter.convert(objects, [captured(1)], LIMIT) == []
    assert len(converter.convert(captured(1), [captured(2), objects, captured(3)], LIMIT)) == 2
    assert len(converter.convert(captured(1), [item, captured(3)], LIMIT)) == 1
    large = [captured(number, messages="m" * 200_000) for number in range(8)]
    assert len(converter.convert(large[0], large[1:], LIMIT)) == 5
    objects = captured(1, messages="m" * 3_000_000)  # too large for the hook to make JSON of
    assert converter.convert(objects, large, 1 << 23) == []


def test_a_payload_that_cannot_be_read_is_left_to_the_gateway(
    make: Callable[..., Converter],
) -> None:
    converter = make()
    start_process(converter)
    unreadable = CapturedPayload(b"[]", "", 1.0)
    good = captured(1)
    assert bodies(converter.convert(good, [unreadable, good], LIMIT)) == [
        in_place(good), None, in_place(good),
    ]  # fmt: skip


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_one_that_dies_or_hangs_is_replaced_after_a_while(
    children: Children,
    make: Callable[..., Converter],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    how: signal.Signals,
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 0.2)
    converter = make()
    pid = start_process(converter)
    os.kill(pid, how)
    # More than the sockets hold: the stopped process reads nothing, so the sending blocks too.
    large = [captured(number, messages="m" * 200_000) for number in range(5)]
    assert converter.convert(large[0], large[1:], LIMIT) == []
    assert converter.pid is None
    assert not psutil.pid_exists(pid), "it is gone, and no zombie"
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 10)
    assert converter.convert(captured(1), [], LIMIT) == []
    assert not children(), "not at once"
    (line,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert ("ended with -9" if how == signal.SIGKILL else "TimeoutError") in line
    assert "LLMLOG_GATEWAY_CONVERTER=thread" in line
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.0)
    converter._not_before = 0.0
    assert start_process(converter) != pid


@pytest.mark.parametrize(("program", "why"), [("/bin/false", "ended with 1"), ("/none", "Error")])
def test_one_that_cannot_start_is_said_and_done_without(
    children: Children,
    make: Callable[..., Converter],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    program: str,
    why: str,
) -> None:
    (tmp_path / "python").symlink_to(program)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    converter = make()

    def warnings() -> list[str]:
        assert converter.convert(captured(1), [], LIMIT) == []
        return [r.message for r in caplog.records if r.levelno == logging.WARNING]

    wait_until(warnings, 30, "it is logged")
    assert not children(), "no zombie either"
    assert why in warnings()[0]


@pytest.mark.parametrize("executable", [None, "", "/usr/bin/uwsgi", "frozen"])
def test_what_is_no_interpreter_is_not_started_again(
    children: Children,
    make: Callable[..., Converter],
    monkeypatch: pytest.MonkeyPatch,
    executable: str | None,
) -> None:
    if executable == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        monkeypatch.setattr(sys, "executable", executable)
    converter = make()
    assert [converter.convert(captured(number), [], LIMIT) for number in range(5)] == [[]] * 5
    assert not children()


def test_modules_are_found_where_the_gateway_found_them(
    make: Callable[..., Converter], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not in the working directory: another `llmlog_producer` there might redact nothing."""
    for name in ("llmlog_producer", "orjson", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    start_process(make())


def test_another_version_converts_nothing(
    make: Callable[..., Converter],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after an upgrade of the package that this process has imported."""
    monkeypatch.setattr(module, "IDENTITY", ("0.0.9", "a former schema's"))
    converter = make()
    wait_until(lambda: converter.convert(captured(1), [], LIMIT) or caplog.records, 30)
    assert converter.pid is None
    assert "AnotherVersionError" in caplog.text


@pytest.mark.parametrize("size", [10, 900_000])
def test_events_that_are_needed_at_once_do_not_wait_for_the_process(
    make: Callable[..., Converter],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    urgent: threading.Event,
    size: int,
) -> None:
    """Neither while it is to read nor while it is to answer."""
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 60)
    converter = make()
    os.kill(start_process(converter), signal.SIGSTOP)
    threading.Timer(0.2, urgent.set).start()
    began = time.monotonic()
    assert converter.convert(captured(1, messages="m" * size), [], LIMIT) == []
    assert time.monotonic() - began < 20
    assert converter.convert(captured(2), [], LIMIT) == []
    assert not caplog.records, "that is no reason to complain"


def test_one_that_falls_behind_is_given_up(
    make: Callable[..., Converter],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    converter = make()
    start_process(converter)
    monkeypatch.setattr(module, "_MAX_BEHIND_SECONDS", 0.05)
    monkeypatch.setattr(module, "_USUAL_SECONDS", -0.02)  # each batch takes longer than is usual
    wait_until(lambda: converter.convert(captured(1), [], LIMIT) == [], 30, "it is given up")
    assert converter.pid is None
    assert "TimeoutError" in caplog.text


def test_one_that_may_not_be_killed_is_never_asked_again(
    make: Callable[..., Converter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late answer would be taken for that to the next question."""
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 0.2)
    converter = make()
    pid = start_process(converter)
    popen = converter._process._popen

    def refused(_popen: Any) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "kill", refused)
        os.kill(pid, signal.SIGSTOP)
        assert converter.convert(captured(1), [], LIMIT) == []
        os.kill(pid, signal.SIGCONT)
        assert converter.convert(captured(2), [], LIMIT) == []
    assert converter.pid is None
    popen.wait(30)


def test_the_default_of_sockets_is_none_of_its_business(make: Callable[..., Converter]) -> None:
    socket.setdefaulttimeout(10)
    try:
        start_process(make())
    finally:
        socket.setdefaulttimeout(None)


def test_it_leaves_no_core(one: ConversionProcess) -> None:
    assert psutil.Process(one.pid).rlimit(psutil.RLIMIT_CORE) == (0, 0)


def test_one_that_never_says_that_it_is_ready_is_given_up(
    children: Children,
    make: Callable[..., Converter],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    monkeypatch.setattr(module, "START_SECONDS", 0.1)
    converter = make()
    converter.convert(captured(1), [], LIMIT)
    converter.convert(captured(1), [], LIMIT)
    (child,) = children()
    wait_until(lambda: converter.convert(captured(1), [], LIMIT) or not child.is_running(), 10)
    assert converter.pid is None


def test_what_ends_a_group_of_processes_does_not_end_it(make: Callable[..., Converter]) -> None:
    converter = make()
    pid = start_process(converter)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(pid, number)
    assert len(converter.convert(captured(1), [captured(2)], LIMIT)) == 2
    assert converter.pid == pid
    assert os.getsid(pid) == pid


_GATEWAY = """
import os, sys, time
from llmlog_producer.converter.client import ConversionProcess
from llmlog_common.settings import load

process = ConversionProcess()
process.start(load(environ={}))
assert process.poll_ready(30)
forked = 0
if sys.argv[1] == "forks":
    forked = os.fork()
    if not forked:
        process.hang_up()  # what the handler does in a forked child
        time.sleep(60)
print(process.pid, forked, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["alone", "forks"])
def test_it_ends_with_its_gateway(how: str) -> None:
    gateway = subprocess.Popen(
        [sys.executable, "-c", _GATEWAY, how],
        stdout=subprocess.PIPE, text=True, env=base_environment({}),
    )  # fmt: skip
    with gateway:
        assert gateway.stdout is not None
        pid, forked = map(int, gateway.stdout.readline().split())
        child = psutil.Process(pid)
        gateway.kill()
        try:
            child.wait(30)
        finally:
            if forked:
                os.kill(forked, signal.SIGKILL)


_FORKS_MEANWHILE = """
import os, signal, subprocess, threading, time
from llmlog_producer.converter.client import ConversionProcess
from llmlog_common.settings import load

forked = []


def fork():
    child = os.fork()
    if not child:
        process.hang_up()
        time.sleep(60)
        os._exit(0)
    forked.append(child)


def fork_exec(*arguments, fork_exec=subprocess._fork_exec):
    forking.start()
    forking.join(0.5)  # for ever, where it waits for the start to be over
    return fork_exec(*arguments)


forking = threading.Thread(target=fork)
subprocess._fork_exec = fork_exec
process = ConversionProcess()
process.start(load(environ={}))
print(process.poll_ready(30), flush=True)
forking.join()
os.kill(forked[0], signal.SIGKILL)
process.end()
"""


def test_a_fork_while_the_process_starts_does_not_block_the_start() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORKS_MEANWHILE],
        stdout=subprocess.PIPE, text=True, env=base_environment({}), timeout=50, check=True,
    )  # fmt: skip
    assert done.stdout == "True\n"


def test_it_ends_at_once_when_it_is_closed(make: Callable[..., Converter]) -> None:
    converter = make()
    pid = start_process(converter)
    began = time.monotonic()
    converter.close()
    assert not psutil.pid_exists(pid)
    assert time.monotonic() - began < 10
    assert converter.convert(captured(1), [], LIMIT) == []
