"""Owns the question whether the process has threads: gevent and eventlet take them away."""

from __future__ import annotations

import sys


def describe_patched_threads() -> str:
    """Return why the callback cannot work here; empty where threads are threads.

    With patched threads the sending thread runs on the event loop's own thread, and librdkafka's
    waits, which cannot be patched, stop all of it for a second and more.
    """
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return (
            "gevent has patched Python's threads: run LiteLLM in a process without monkey.patch_all"
        )
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return (
            "eventlet has patched Python's threads: run LiteLLM in a process without monkey_patch"
        )
    return ""
