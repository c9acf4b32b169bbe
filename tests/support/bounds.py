"""The command `pipeline` with other bounds than its defaults.

    python bounds.py '{"operations": 1}' consume --workers 2

Workers are spawned and run this file's top level too, before anything of theirs: so the bounds hold
in each of them, and the command itself needs no switch for its tests.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any, Final

from llmlog_consumer.cli.app import app
from llmlog_consumer.delivery.limits import DeliveryLimits
from llmlog_consumer.kafka import consumer as source
from llmlog_consumer.worker import worker
from llmlog_consumer.worker.limits import Limits
from llmlog_consumer.worker.worker import Worker

_DELIVERY: Final = {
    "operations": "batch_operations",
    "body_bytes": "batch_bytes",
    "age": "batch_age_seconds",
    "bulks": "requests",
}
_NAMES: Final = {*_DELIVERY, "in_flight_bytes", "chunk", "commit_records"}
"""Of a batch: operations, bytes, seconds. Requests and bytes in flight, records consumed at once,
records settled before a commit."""


def apply(bounds: dict[str, float]) -> None:
    """Set the bounds for this process."""
    assert set(bounds) <= _NAMES, f"unknown bounds: {sorted(set(bounds) - _NAMES)}"
    of_delivery = {_DELIVERY[name]: value for name, value in bounds.items() if name in _DELIVERY}
    of_worker: dict[str, Any] = {"delivery": DeliveryLimits(**of_delivery)}
    if in_flight := bounds.get("in_flight_bytes"):
        of_worker |= {"in_flight_bytes": in_flight, "partition_bytes": in_flight}
    if records := bounds.get("commit_records"):
        of_worker["commit_records"] = records
    # The child process looks the class up when it starts, after this.
    worker.Worker = partial(Worker, limits=Limits(**of_worker))  # type: ignore[misc]
    if chunk := bounds.get("chunk"):
        assert hasattr(source, "MAX_POLL_RECORDS"), f"{source.__name__} has another bound now"
        source.MAX_POLL_RECORDS = chunk


apply(json.loads(sys.argv[1]))
if __name__ == "__main__":
    app(sys.argv[2:])
