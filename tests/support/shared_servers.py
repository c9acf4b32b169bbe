"""One Kafka and one Elasticsearch for all of pytest-xdist's workers.

The first worker that needs the servers starts them, and stops them at its end. Servers end with
the process that started them, so that worker waits for the others: each holds a shared lock for
as long as it may use them. Locks of a worker that dies are released by the system.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from llmlog_local.testing import running_servers


@dataclass(frozen=True)
class Addresses:
    """Where the servers are."""

    bootstrap_servers: str
    elasticsearch_url: str

    @property
    def environment(self) -> dict[str, str]:
        """The settings that make this project use them."""
        return {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "LLMLOG_ELASTICSEARCH_URL": self.elasticsearch_url,
        }


@contextmanager
def shared_servers(folder: Path) -> Iterator[Addresses]:
    """Use the servers for the length of the block; start them where no process has.

    Args:
        folder: the same for all workers of a run.
    """
    written = folder / "servers.json"
    with (folder / "servers.lock").open("w") as starting, (folder / "users.lock").open("w") as use:
        fcntl.flock(starting, fcntl.LOCK_EX)
        if written.exists():
            fcntl.flock(use, fcntl.LOCK_SH)
            fcntl.flock(starting, fcntl.LOCK_UN)
            yield Addresses(**json.loads(written.read_text()))
            return
        with running_servers(folder / f"servers-{os.getpid()}") as running:
            addresses = Addresses(running.kafka.bootstrap_servers, running.elasticsearch.url)
            written.write_text(json.dumps(asdict(addresses)))
            fcntl.flock(starting, fcntl.LOCK_UN)
            yield addresses
            fcntl.flock(starting, fcntl.LOCK_EX)  # from here on a newcomer starts its own
            written.unlink()
            fcntl.flock(use, fcntl.LOCK_EX)  # until every other worker is done
