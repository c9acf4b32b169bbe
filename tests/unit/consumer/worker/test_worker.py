"""The worker's order, with everything around it made of paper."""

import threading
from collections import Counter
from types import SimpleNamespace

import pytest

from llmlog_common.settings import load
from llmlog_consumer.worker import worker as module
from llmlog_consumer.worker.worker import Task, Worker


class Record:
    """A Kafka message as far as the worker looks at one."""

    def __len__(self):
        return 100

    def partition(self):
        return 0

    def offset(self):
        return 7

    def leader_epoch(self):
        return None


class Delivery:
    """Holds whatever it is given for ever."""

    unhealthy = circuit_open = ""
    closed = stuck = False

    def __init__(self):
        self.counts, self.deaths = Counter(), Counter()
        self.stepped_by = set()

    def accept(self, span, records):
        self.span = span

    def step(self, wait=0.0):
        self.stepped_by.add(threading.current_thread())

    def flush(self):
        self.step()

    def close(self):
        pass


class GroupConsumer:
    """One partition of one record; `close` revokes it from a thread of its own, as librdkafka."""

    joined, refusal = True, ""

    def __init__(self, listener):
        self._listener = listener
        self.out_of_range, self.commits, self.closed = set(), [], False
        self.records = [Record()]

    def consume(self, timeout):
        if self.records:
            self._listener.on_assigned({0: 7})
        records, self.records = self.records, []
        return records

    def pause_only(self, paused):
        pass

    def positions(self, partitions):
        return {}

    def commit(self, commits, notes=None):
        self.commits.append([commit.offset for commit in commits])

    def commit_within(self, commits, timeout):
        self.commits.append([commit.offset for commit in commits])
        return True

    def close(self, timeout):
        thread = threading.Thread(target=self._listener.on_revoked, args=([0],), daemon=True)
        thread.start()
        thread.join(timeout)
        self.closed = not thread.is_alive()


@pytest.fixture
def worker(monkeypatch):
    delivery = Delivery()
    monkeypatch.setattr(module, "Elastic", lambda _: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(module.Delivery, "from_settings", lambda *_: delivery)
    monkeypatch.setattr(module, "GroupConsumer", lambda _, listener, __: GroupConsumer(listener))
    turns = iter([False])
    return Worker(load(environ={}), Task(1, drain_seconds=0.1), stopping=lambda: next(turns, True))


def test_a_drain_that_ended_unfinished_is_not_begun_again_while_it_leaves(worker):
    """The client revokes in its own thread, which has 15 s for it: nobody waits for that."""
    worker.run()
    assert worker._source.closed
    assert worker._delivery.stepped_by == {threading.current_thread()}
    assert worker._source.commits[-2:] == [[7], [7]], "at the end, and as the partition goes"
    assert worker.counts["released"] == 1


def test_a_partition_that_goes_while_it_works_is_drained_first(worker, monkeypatch):
    monkeypatch.setattr(module, "REVOKE_SECONDS", 0.1)
    worker.on_assigned({0: 7})
    assert worker._tracker.register(0, 7, 7, epoch=-1, records=1, size=100, now=0.0)
    worker.on_revoked([0])
    assert worker._delivery.stepped_by
    assert worker.counts["released"] == 1


def test_what_kafka_refuses_makes_it_unhealthy(worker):
    assert worker.unhealthy == ""
    worker._source.refusal = "Kafka: no"
    assert worker.report()["unhealthy"] == "Kafka: no"
