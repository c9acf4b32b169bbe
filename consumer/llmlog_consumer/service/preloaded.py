"""Owns what is loaded once, in the process that workers are forked from: see `template.py`.

To import this is to become that process; `multiprocessing` alone does.
"""

import gc
import signal

from setproctitle import setproctitle

from llmlog_consumer import lean_imports
from llmlog_consumer.service import child_process, worker_process
from llmlog_consumer.worker import worker

lean_imports.load_elastic_transport()

from llmlog_consumer.elasticsearch import client  # noqa: E402 - after what it loads

__all__ = ["child_process", "client", "worker", "worker_process"]

# A service manager may signal every process of a service. This one ends with its supervisor, and a
# worker takes a signal as soon as it can drain: see `run_child`.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
setproctitle("pipeline consume: template")
# What no collection visits stays in memory that all workers share.
gc.collect()
gc.freeze()
