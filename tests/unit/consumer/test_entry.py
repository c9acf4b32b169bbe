"""The command's entry: Ctrl-C and a closed pipe say nothing, at whatever moment they come."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from llmlog_consumer import __main__ as entry


def test_ctrl_c_while_libraries_load_ends_without_a_traceback(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_run", interrupted)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("when", "options"), [("while it prints", ["-u"]), ("when it has printed", [])]
)
def test_a_reader_that_has_seen_enough_ends_it_quietly(when, options):
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


def test_a_command_that_failed_keeps_its_code_though_nobody_reads(monkeypatch):
    class Closed:
        def flush(self):
            raise BrokenPipeError

        def fileno(self):
            return 1

    def difference():
        sys.exit(7)

    monkeypatch.setattr(entry, "_run", difference)
    monkeypatch.setattr(entry.os, "dup2", lambda *_: None)
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 7


def test_output_that_was_closed_before_we_began_is_no_error():
    ended = subprocess.run(
        f"exec {sys.executable} -m llmlog_consumer --help >&-", shell=True,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
