"""Owns the main loop of the process beside a gateway: payloads in, events out.

    python -P -m llmlog_producer.converter.process DESCRIPTOR

The descriptor is one end of a pair of sockets; `client` has the other, and starts this process. It
ends with its gateway.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from importlib import metadata
from typing import Final

from llmlog_producer.converter.channel import Channel
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EventBuilder
from llmlog_schemas.codec import current_fingerprint

_NICE: Final = 5
"""Lower than the gateway's priority: a request that needs the core goes first."""


def _identity() -> tuple[str, str]:
    try:
        version = metadata.version("llmlog-pipeline")
    except metadata.PackageNotFoundError:  # run from its source
        version = ""
    return version, str(current_fingerprint())


IDENTITY: Final = _identity()
"""Version and schema of the imported package: an upgrade may replace the files of a gateway that
runs."""


def main(descriptor: int) -> None:
    """Convert what comes until the other side closes."""
    # A terminal or an init system signals all processes; the gateway may still need this one.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # payloads in memory are not redacted yet
    end = socket.socket(fileno=descriptor)
    end.settimeout(None)  # the default time-out may be another
    channel = Channel(end)
    with suppress(EOFError, OSError):
        stats = Stats()
        builder = EventBuilder(channel.receive(), stats)
        channel.send(IDENTITY)
        while True:
            builder.limit, payloads = channel.receive()
            before = stats.snapshot()["truncated"]
            bodies = [_build(builder, CapturedPayload(*payload)) for payload in payloads]
            channel.send((bodies, stats.snapshot()["truncated"] - before))


def _build(builder: EventBuilder, captured: CapturedPayload) -> bytes | None:
    """Return an event's body; None of a payload that cannot be read: the gateway reports that."""
    with suppress(Exception):
        return builder.build(captured).body
    return None


if __name__ == "__main__":
    main(int(sys.argv[1]))
