"""Holds members of a group in one process; prints what each is given and loses, as JSON lines.

    python members.py COUNT

Settings come from the environment. SIGTERM closes the members, one after the other.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time

from confluent_kafka import Consumer

from llmlog_common.kafka_clients import consumer_config, new_client
from llmlog_common.settings import load

TURN_SECONDS = 0.02


def main(count: int) -> None:
    """Poll all members in turn until SIGTERM."""
    settings, ended = load(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())

    def say(what: str):
        def report(_client, partitions) -> None:
            line = {"at": time.monotonic(), what: [one.partition for one in partitions]}
            print(json.dumps(line), flush=True)

        return report

    members = [new_client(Consumer, consumer_config(settings)) for _ in range(count)]
    for member in members:
        member.subscribe(
            [settings.topic], on_assign=say("given"), on_revoke=say("taken"), on_lost=say("taken")
        )
    while not ended.wait(TURN_SECONDS):
        for member in members:
            member.poll(0)
    for member in members:
        member.close()


main(int(sys.argv[1]))
