"""The command `pipeline` with other bounds than those that it is built with.

    python bounds.py '{"operations": 1}' consume --workers 2

Workers are spawned and run this file's top level too, before anything of theirs: so the bounds hold
in each of them, and the command itself needs no switch for its tests.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Final

from llmlog_consumer.cli.app import app
from llmlog_consumer.delivery import bulk_sender as sending
from llmlog_consumer.delivery import transform as hot_path
from llmlog_consumer.delivery.concurrency import ConcurrencyLimit
from llmlog_consumer.elasticsearch.batch import BatchBuilder
from llmlog_consumer.kafka import consumer as source
from llmlog_consumer.worker import flow_control as intake
from llmlog_consumer.worker import worker

_DEFAULTS: Final = {
    "operations": BatchBuilder().max_operations,
    "body_bytes": BatchBuilder().max_bytes,
    "age": BatchBuilder().max_age,
    "bulks": ConcurrencyLimit().most,
    "in_flight_bytes": intake.MAX_IN_FLIGHT,
    "chunk": source.MAX_POLL_RECORDS,
    "commit_records": worker.COMMIT_RECORDS,
}
"""Of a batch: operations, bytes, seconds. Bulks and bytes in flight, records taken at once, records
settled before a commit."""


def apply(bounds: dict[str, float]) -> None:
    """Set the bounds for this process."""
    assert set(bounds) <= set(_DEFAULTS), f"bounds that there are not: {bounds}"
    of = _DEFAULTS | bounds
    builder = partial(BatchBuilder, of["body_bytes"], of["operations"], of["age"])
    window = partial(ConcurrencyLimit, of["bulks"], min(2.0, of["bulks"]))
    for module, name, value in (
        (hot_path, "BatchBuilder", builder),
        (sending, "ConcurrencyLimit", window),
        (intake, "MAX_IN_FLIGHT", of["in_flight_bytes"]),
        (intake, "MAX_IN_FLIGHT_PARTITION", of["in_flight_bytes"]),
        (source, "MAX_POLL_RECORDS", of["chunk"]),
        (worker, "COMMIT_RECORDS", of["commit_records"]),
    ):
        assert hasattr(module, name), f"{module.__name__} has no {name} any more"
        setattr(module, name, value)


apply(json.loads(sys.argv[1]))
if __name__ == "__main__":
    app(sys.argv[2:])
