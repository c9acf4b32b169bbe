"""What librdkafka does where a broker says that it is not a group's coordinator (any more)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

TESTS = Path(__file__).parents[1]
SCRIPT = """
import os, sys
from llmlog_common.settings import load
from llmlog_consumer.kafka.admin import KafkaAdmin
from support.mock_cluster import OFFSET_FETCH, MockCluster

cluster = MockCluster("t", 2)
cluster.answer_with(OFFSET_FETCH, *map(int, sys.argv[1:]))
admin = KafkaAdmin(load(environ={"LLMLOG_KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap}))
print(admin.list_group_offsets("g", "t"), flush=True)
os._exit(0)  # the cluster has threads that wait for their clients
"""


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    ],
)
def test_a_coordinator_that_moves_ends_no_process_and_is_asked_again(code):
    """Not so with `AdminClient.list_consumer_group_offsets`, which ends it with signal 11."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(code), str(code)],
        text=True, capture_output=True, timeout=120, check=False,
        env=os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
