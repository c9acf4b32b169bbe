"""The command's entry: Ctrl-C and a closed pipe print nothing, whenever they come."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from llmlog_consumer.__main__ import main, require_text


def test_ctrl_c_while_libraries_load_ends_without_a_traceback(capsys):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        main(interrupt)
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("when", "options"), [("while it prints", ["-u"]), ("when it has printed", [])]
)
def test_a_closed_pipe_ends_the_command_without_a_message(when, options):
    del when
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, *options, "-m", "llmlog_consumer", "version"],
            stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["trace", b"a\xff"],
        ["dlq", "replay", "--drop", b"\xff", "--dry-run"],
        ["report", "--config", b"/\xc3"],
    ],
)
def test_an_argument_that_is_no_text_is_refused_in_one_line(arguments):
    ended = subprocess.run(
        [sys.executable, "-m", "llmlog_consumer", *arguments], capture_output=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"error: argument "), ended.stderr
    assert ended.stderr.count(b"\n") == 1
    ended.stderr.decode()


def test_an_argument_of_any_text_is_taken():
    require_text(["trace", "", "ä🙂", "\u202e"])


def test_a_command_that_failed_keeps_its_code_though_its_reader_is_gone(monkeypatch):
    somewhere = os.open(os.devnull, os.O_WRONLY)

    class ClosedPipe:
        def flush(self):
            raise BrokenPipeError

        def fileno(self):
            return somewhere

    def fail():
        sys.exit(7)

    monkeypatch.setattr(sys, "stdout", ClosedPipe())
    with pytest.raises(SystemExit) as ended:
        main(fail)
    assert ended.value.code == 7
    os.close(somewhere)


def test_output_that_the_shell_has_closed_is_no_error():
    ended = subprocess.run(
        f"exec {sys.executable} -m llmlog_consumer --help >&-", shell=True,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("loads", "absent"),
    [
        (
            "from llmlog_consumer.__main__ import load_app; load_app(['consume']); "
            "import llmlog_consumer.service.preflight, llmlog_consumer.service.supervisor, "
            "llmlog_consumer.service.health",
            (
                "rich",
                "elastic_transport",
                "fastavro",
                "prometheus_client",
                "llmlog_consumer.checks.verify",
                "llmlog_consumer.delivery.pipeline",
                "llmlog_consumer.kafka.consumer",
            ),
        ),
        (
            "import llmlog_consumer.service.preloaded",
            ("rich", "typer", "aiohttp", "httpx", "requests"),
        ),
    ],
    ids=["supervisor", "worker"],
)
def test_a_process_that_runs_for_long_loads_nothing_that_it_does_not_need(loads, absent):
    program = f"import sys; {loads}; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(ended.stdout.split())
    assert "structlog" in loaded
    assert loaded.isdisjoint(absent)
