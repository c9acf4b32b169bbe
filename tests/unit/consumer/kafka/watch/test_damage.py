"""Where the readable records begin again, by a broker that is silent for two reasons."""

from __future__ import annotations

import pytest

from llmlog_common.settings import load
from llmlog_consumer.kafka.watch import damage
from llmlog_consumer.kafka.watch.damage import DamageSearch
from support.fakes.delivery import FakeClock
from support.messages import Message


class Broker:
    """A client whose broker gives no record of a damaged range, and is late with some others.

    Args:
        damaged: offsets that are never given.
        late: offsets that are given at the second question alone.
        clock: moved by a poll without a record.
    """

    def __init__(self, damaged: range, late: set[int], clock) -> None:
        self.damaged, self.late, self.clock = damaged, set(late), clock
        self.at = 0

    def __call__(self, _config, **_options):
        return self

    def assign(self, places):
        self.at = places[0].offset

    def poll(self, seconds):
        offset, self.at = self.at, self.at + 1
        if offset in self.damaged or offset in self.late:
            self.late.discard(offset)
            self.at = offset
            self.clock.now += max(seconds, 1.0)
            return None
        message = Message(offset_=offset)
        message.error = lambda: None
        return message

    def close(self):
        pass


@pytest.mark.parametrize("late", [set(), {211}, {199}, {227, 211}, set(range(195, 260))])
def test_an_offset_that_a_loaded_broker_gave_late_is_not_given_up(monkeypatch, late):
    clock = FakeClock()
    monkeypatch.setattr(damage.time, "monotonic", lambda: clock.now)
    broker = Broker(range(100, 195), late, clock)
    with DamageSearch(load(environ={}), "t", 0, silence_seconds=1.0, client=broker) as search:
        found = search.find(0, -1, 0, 300)
    assert (found.first, found.next) == (100, 195)
