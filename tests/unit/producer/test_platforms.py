"""Where the callback cannot work, it says so in one line."""

import subprocess
import sys
import types

import pytest

from llmlog_producer.patched_threads import describe_patched_threads
from support.pipeline import base_environment


def patched(name, function, kind):
    module = types.ModuleType(name)
    setattr(module, function, lambda what: what == kind)
    return module


@pytest.mark.parametrize(
    ("name", "function", "kind"),
    [
        ("gevent.monkey", "is_module_patched", "threading"),
        ("eventlet.patcher", "is_monkey_patched", "thread"),
    ],
)
def test_patched_threads_are_named(monkeypatch, name, function, kind):
    assert describe_patched_threads() == ""
    monkeypatch.setitem(sys.modules, name, patched(name, function, "socket"))
    assert describe_patched_threads() == "", "it is imported, and threads are threads"
    monkeypatch.setitem(sys.modules, name, patched(name, function, kind))
    assert name.split(".")[0] in describe_patched_threads()


def test_windows_is_refused_in_one_line():
    code = "import sys; sys.platform = 'win32'; import llmlog_producer"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE, text=True, env=base_environment({}), timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "runs on Linux and macOS" in ended.stderr.splitlines()[-1]
