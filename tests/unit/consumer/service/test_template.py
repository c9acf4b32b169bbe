"""The process that workers are forked from."""

import json
import signal
import subprocess
import sys

from llmlog_consumer.backoff import Backoff

TELL = """
import json, signal, sys, threading
from llmlog_consumer.service import preloaded
print(json.dumps({
    "blocked": [number for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    "threads": threading.active_count(),
    "modules": sorted(sys.modules),
}))
"""

DELAYS = """
import multiprocessing, sys
from llmlog_consumer.backoff import Backoff

def tell(queue):
    queue.put([Backoff(1.0, 1.0).delay(1) for _ in range(4)])

context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
for _ in range(2):
    context.Process(target=tell, args=(queue,)).start()
first, second = queue.get(), queue.get()
sys.exit(first == second)
"""


def run(script):
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )


def test_it_has_what_a_worker_needs_and_takes_no_signal_that_a_worker_has_to():
    told = json.loads(run(TELL).stdout)
    assert set(told["blocked"]) >= {signal.SIGTERM, signal.SIGINT}
    assert told["threads"] == 1, "a fork copies no other thread"
    assert "llmlog_consumer.worker.worker" in told["modules"]
    assert "confluent_kafka" in told["modules"]
    assert "rich" not in told["modules"]
    assert "typer" not in told["modules"]


def test_workers_that_are_forked_from_it_do_not_wait_alike():
    assert run(DELAYS).returncode == 0
    assert Backoff(1.0, 1.0).delay(1) <= 1.0
