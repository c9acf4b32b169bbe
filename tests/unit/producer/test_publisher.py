"""An event's way from the hook to Kafka, with a Kafka client that answers as told."""

import json
import logging
import random
import signal
import threading
import time
from collections import deque

import pytest
from confluent_kafka import KafkaError, KafkaException

from llmlog_common.settings import load
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EncodedEvent
from llmlog_producer.sending import publisher as publisher_module
from llmlog_producer.sending import queue as intake
from llmlog_producer.sending import sender, spill
from llmlog_producer.sending import topic_lookup as topic
from llmlog_producer.sending.publisher import Publisher
from llmlog_schemas.codec import Decoder
from support.payloads import payload
from support.pipeline import wait_until

TRANSPORT = KafkaError._TRANSPORT
TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE


class Cluster:
    """What the fake client talks to.

    Attributes:
        up: acknowledges; otherwise keeps what it is given unanswered.
        there: the topic exists and brokers answer.
        answer: the code of every answer; None for an acknowledgement.
        records: what was acknowledged.
        silent: until it is set, whoever asks for the topic waits.
    """

    def __init__(self):
        self.there = self.up = True
        self.answer = None
        self.room = 10**9
        self.records = []
        self.produced = 0
        self.limit = self.batch_limit = 10**9
        self.batches = None
        self.slow = 0.0
        self.told = None
        self.rebuilt = 0
        self.silent = None
        self.asked = threading.Event()
        self.looked = self.bounds_asked = 0

    def ids(self):
        return [Decoder().decode(value)["litellm_call_id"] for value in self.records]


class KafkaProducer:
    """In the place of `kafka_producer.KafkaProducer`."""

    cluster: Cluster

    def __init__(self, settings, on_report, on_error):
        self.on_report = on_report
        self.waiting = []
        self.broken = self.down = False

    def topic_exists(self, timeout, *, known):
        self.cluster.looked += 1
        self.cluster.asked.set()
        if self.cluster.silent:
            self.cluster.silent.wait(30)
        if not self.cluster.there:
            raise KafkaException(KafkaError(TRANSPORT))
        return True

    def max_message_bytes(self, timeout):
        self.cluster.bounds_asked += 1
        return self.cluster.told

    def limit_batches(self, topic_bytes):
        self.cluster.batches = topic_bytes

    def produce(self, item, value):
        self.cluster.produced += 1
        if len(self.waiting) >= self.cluster.room:
            raise BufferError
        if len(value) > self.cluster.limit:
            raise KafkaException(KafkaError(TOO_LARGE))
        self.waiting.append((item, value))

    def poll(self, timeout):
        if self.cluster.up:
            if self.waiting and time.monotonic() - self.waiting[0][0].sent < self.cluster.slow:
                threading.Event().wait(timeout / 10)
                return
            answered, self.waiting = self.waiting, []
            if sum(len(value) for _, value in answered) > self.cluster.batch_limit:
                for item, _ in answered:
                    self.on_report(item, KafkaError(TOO_LARGE))
                answered = []
            for item, value in answered:
                self.answer(item, value)
        if timeout:
            threading.Event().wait(timeout / 10)

    def answer(self, item, value):
        code = self.cluster.answer
        if code is None:
            self.cluster.records.append(value)
        self.on_report(item, None if code is None else KafkaError(code))

    def purge(self):
        self.waiting = []

    def rebuild(self):
        self.cluster.rebuilt += 1
        self.waiting = []
        self.broken = False


@pytest.fixture
def cluster(monkeypatch):
    """A cluster, and a client that asks it."""
    made = Cluster()
    monkeypatch.setattr(KafkaProducer, "cluster", made, raising=False)
    monkeypatch.setattr(sender, "KafkaProducer", KafkaProducer)
    monkeypatch.setattr(spill, "OVERDUE", 0.1)
    monkeypatch.setattr(sender, "_TEND", 0.01)
    monkeypatch.setattr(sender, "_HOLD", 0.05)
    monkeypatch.setattr(sender, "_POLL", 0.01)
    monkeypatch.setattr(sender, "_NAP", 0.01)
    monkeypatch.setattr(topic, "_LOOK_AGAIN", 0.05)
    return made


@pytest.fixture
def start(cluster, tmp_path):
    """Start publishers that share a journal folder, and end them."""
    running = []

    def start_one(journal="spill", **settings):
        environ = {"LLMLOG_JOURNAL": journal, "LLMLOG_JOURNAL_DIR": str(tmp_path)}
        environ |= {f"LLMLOG_{name.upper()}": str(value) for name, value in settings.items()}
        one = Publisher(load(environ=environ), Stats())
        running.append(one)
        return one

    yield start_one
    for one in running:
        kill(one)


def kill(publisher):
    """End it as kill -9 does: nothing is flushed, the kernel drops the locks."""
    publisher._closing.set()
    publisher._thread.join()
    publisher.abandon()


def offer(publisher, *names, **fields):
    for name in names:
        given = payload(1, litellm_call_id=name, **fields)
        assert publisher.offer(CapturedPayload(given, "", time.time()))


def journal_files(tmp_path):
    return list(tmp_path.glob("*/*.journal"))


@pytest.mark.parametrize("journal", ["spill", "always", "off"])
def test_events_are_delivered(start, cluster, journal, tmp_path):
    publisher = start(journal)
    offer(publisher, "a", "b", "c")
    assert publisher.flush(5) == 0
    assert cluster.ids() == ["a", "b", "c"]
    assert publisher._stats.snapshot()["delivered"] == 3
    assert publisher.close(1) == 0
    assert not journal_files(tmp_path)


def test_always_writes_before_the_hook_returns(start, cluster):
    cluster.there = False
    publisher = start("always")
    offer(publisher, "a")
    assert publisher.unsafe == 0
    kill(publisher)
    cluster.there = True
    following = start("always")
    wait_until(lambda: cluster.ids() == ["a"], 5)
    assert following.flush(5) == 0
    assert following._stats.snapshot()["recovered"] == 1


def test_spill_writes_what_is_overdue_while_kafka_is_away(start, cluster):
    cluster.there = False
    publisher = start()
    offer(publisher, "a", "b")
    assert publisher.unsafe == 2
    wait_until(lambda: publisher.unsafe == 0, 5)
    assert publisher._stats.pending == 2
    cluster.there = True
    assert publisher.flush(5) == 0
    assert sorted(cluster.ids()) == ["a", "b"]


def test_spill_writes_what_is_overdue_without_an_answer(start, cluster):
    publisher = start()
    offer(publisher, "first")
    assert publisher.flush(5) == 0
    cluster.up = False
    offer(publisher, "in flight")
    wait_until(lambda: publisher._sender._late, 5)
    assert publisher.unsafe == 0
    offer(publisher, "later")
    wait_until(lambda: publisher.unsafe == 0, 5)
    assert cluster.produced == 2, "nothing is added to what Kafka does not answer"
    cluster.up = True
    assert publisher.flush(5) == 0
    assert cluster.ids() == ["first", "in flight", "later"]


def test_what_is_overdue_takes_along_what_soon_will_be(start, cluster, monkeypatch):
    monkeypatch.setattr(spill, "OVERDUE", 1000)
    waiting = [
        CapturedPayload(payload(1), "", time.time() - 1000 * share)
        for share in (0.7, 1.1, 0.7, 0.4, 0.7)
    ]
    due = start()._sender._spill.is_due
    assert [due(entry, urgent=False) for entry in waiting] == [False, True, True, False, False]


def test_what_is_overdue_in_flight_takes_along_what_soon_will_be(start, cluster, monkeypatch):
    monkeypatch.setattr(spill, "OVERDUE", 1000)
    overdue = start()._sender._spill.overdue
    in_flight = [EncodedEvent(bytes(40)) for _ in range(4)]
    for item, age in zip(in_flight, (900, 800, 600, 300), strict=True):
        item.sent = -age
    assert overdue(in_flight, 0) == []
    assert overdue(in_flight, 150) == in_flight[:3]
    assert [item.ref is not None for item in in_flight] == [True, True, True, False]


def test_nobody_who_waits_waits_for_the_end_of_a_idle_wait(start, cluster, monkeypatch):
    monkeypatch.setattr(sender, "_NAP", 60)
    monkeypatch.setattr(spill, "OVERDUE", 60)
    publisher = start()
    offer(publisher, "a")
    assert publisher.flush(30) == 0
    cluster.up = False
    offer(publisher, "b")
    publisher._sender._client.down = True
    publisher.journal_first(30)
    assert publisher.unsafe == 0
    cluster.up = True
    assert publisher.flush(30) == 0
    assert publisher.close(30) == 0
    assert cluster.ids() == ["a", "b"]


def test_a_nap_ends_when_what_is_in_flight_is_overdue(start, cluster, monkeypatch):
    publisher = start()
    offer(publisher, "a")
    assert publisher.flush(5) == 0
    monkeypatch.setattr(sender, "_NAP", 60)
    cluster.up = False
    offer(publisher, *map(str, range(20)))
    publisher._sender.wake()
    wait_until(lambda: publisher._sender._late, 5)
    wait_until(lambda: publisher.unsafe == 0, 5)
    cluster.up = True
    assert publisher.flush(30) == 0
    assert publisher.close(30) == 0


def test_a_journal_that_takes_nothing_is_not_tried_at_each_poll(start, cluster, monkeypatch):
    publisher = start(journal_max_bytes=1000)
    offer(publisher, "a")
    assert publisher.flush(5) == 0
    cluster.up = False
    offer(publisher, "b", "c")
    publisher._sender.wake()
    overdue_in, in_flight = publisher._sender._spill.overdue_in, publisher._sender._in_flight
    wait_until(lambda: overdue_in(in_flight, time.monotonic()) < -0.1, 5)
    monkeypatch.setattr(sender, "_TEND", 0.02)
    monkeypatch.setattr(sender, "_NAP", 60)
    assert publisher._sender._idle_wait(flowing=True) == 0.02


def test_a_topic_that_was_found_is_looked_at_again_for_its_partitions_alone(
    start, cluster, monkeypatch
):
    monkeypatch.setattr(topic, "_REFRESH", 0.01)
    publisher = start()
    wait_until(lambda: cluster.looked > 5, 5)
    assert cluster.bounds_asked == 1, "a client that is rebuilt forgets what is in flight"
    assert publisher.close(5) == 0


def test_what_is_left_in_the_journal_is_not_sent_by_a_closed_publisher_too(start, cluster):
    cluster.up = False
    publisher = start()
    offer(publisher, "a", "b")
    assert publisher.close(5) == 2
    assert not publisher._sender._client.waiting


def test_many_bytes_end_a_idle_wait(start, cluster, monkeypatch):
    monkeypatch.setattr(sender, "_NAP", 60)
    monkeypatch.setattr(spill, "OVERDUE", 60)
    publisher = start()
    offer(publisher, "a")
    assert publisher.flush(30) == 0
    offer(publisher, "b", "c", messages=[{"content": "x" * intake.WAKE_BYTES}])
    wait_until(lambda: cluster.produced == 3, 10)
    assert publisher.close(30) == 0


def test_no_long_nap_is_taken_before_a_backlog_is_sent(start, cluster, monkeypatch):
    cluster.up = False
    first = start("always")
    names = [str(number) for number in range(20)]
    offer(first, *names)
    kill(first)
    before = cluster.produced
    monkeypatch.setattr(sender, "_NAP", 60)
    monkeypatch.setattr(sender, "_BACKLOG_EVENTS", 3)
    monkeypatch.setattr(spill, "OVERDUE", 60)
    cluster.up = True
    second = start()
    wait_until(lambda: cluster.produced >= before + len(names), 10)
    assert second.flush(30) == 0
    assert second.close(30) == 0
    assert sorted(set(cluster.ids()), key=int) == names


def test_a_dead_process_in_flight_is_sent_by_the_next(start, cluster):
    cluster.up = False
    publisher = start()
    offer(publisher, "a", "b")
    wait_until(lambda: publisher._stats.pending == 2 and publisher.unsafe == 0, 5)
    kill(publisher)
    cluster.up = True
    start()
    wait_until(lambda: sorted(cluster.ids()) == ["a", "b"], 5)


def test_a_full_client_is_waited_for(start, cluster, monkeypatch):
    cluster.room = 3
    publisher = start()
    offer(publisher, *map(str, range(50)))
    assert publisher.flush(10) == 0
    assert sorted(map(int, cluster.ids())) == list(range(50))


@pytest.mark.parametrize("journal", ["spill", "off"])
def test_a_refusal_of_the_cluster_is_waited_out(start, cluster, journal, caplog):
    cluster.answer = KafkaError.TOPIC_AUTHORIZATION_FAILED
    publisher = start(journal)
    offer(publisher, *map(str, range(20)))
    wait_until(lambda: cluster.produced > 20, 5)
    assert publisher._stats.snapshot()["failed"] == 0
    cluster.answer = None
    assert publisher.flush(5) == 0
    assert sorted(map(int, cluster.ids())) == list(range(20))
    lines = [r for r in caplog.records if "takes no events" in r.message]
    assert len(lines) == 1, "one line per cause and minute"


def test_a_refused_record_is_lost_and_counted(start, cluster):
    cluster.answer = KafkaError.INVALID_RECORD
    publisher = start("always")
    offer(publisher, "a")
    wait_until(lambda: publisher._stats.snapshot()["failed"] == 1, 5)
    assert publisher._stats.pending == publisher._journal.waiting == 0


@pytest.mark.parametrize("journal", ["always", "off"])
def test_what_is_too_large_is_cut_until_it_fits(start, cluster, journal):
    cluster.limit = 3000
    publisher = start(journal)
    offer(publisher, "a", messages="m" * 50_000)
    assert publisher.flush(5) == 0
    (value,) = cluster.records
    event = Decoder().decode(value)
    assert "llmlog_cut" in json.loads(event["document"])["messages"]
    stats = publisher._stats.snapshot()
    assert (stats["delivered"], stats["failed"]) == (1, 0)
    assert stats["cut"] >= 1
    if journal == "always":
        assert publisher._journal.waiting == 0


@pytest.mark.parametrize("journal", ["always", "spill", "off"])
def test_a_batch_too_large_costs_none_of_its_events(start, cluster, journal):
    cluster.batch_limit, cluster.there = 5000, False
    publisher = start(journal)
    for number in range(20):
        offer(publisher, f"c{number}", messages="m" * 2000)
    cluster.there = True
    assert publisher.flush(30) == 0
    assert sorted(cluster.ids()) == sorted(f"c{number}" for number in range(20))
    stats = publisher._stats.snapshot()
    assert (stats["delivered"], stats["failed"], stats["cut"]) == (20, 0, 0)


@pytest.mark.parametrize("journal", ["always", "off"])
def test_what_is_too_large_for_the_broker_alone_is_cut(start, cluster, journal):
    cluster.batch_limit = 5000
    publisher = start(journal)
    offer(publisher, "a", messages="m" * 20_000)
    offer(publisher, "b")
    assert publisher.flush(30) == 0
    assert sorted(cluster.ids()) == ["a", "b"]
    assert publisher._stats.snapshot()["failed"] == 0


@pytest.mark.parametrize("journal", ["always", "spill", "off"])
def test_what_is_too_large_is_cut_while_others_flow(start, cluster, journal):
    cluster.batch_limit, cluster.there = 10_000, False
    publisher = start(journal)
    for number in range(60):
        offer(publisher, f"c{number}", messages="m" * (20_000 if number % 3 == 0 else 100))
    cluster.there = True
    for number in range(60, 90):
        offer(publisher, f"c{number}")
        time.sleep(0.005)  # so that there is always one more
    assert publisher.flush(30) == 0
    assert sorted(cluster.ids()) == sorted(f"c{number}" for number in range(90))
    stats = publisher._stats.snapshot()
    assert (stats["delivered"], stats["failed"], stats["cut"]) == (90, 0, 20)
    assert cluster.produced < 90 * 12, "each is sent a few times, however many there are"


@pytest.mark.parametrize("journal", ["always", "spill"])
def test_what_is_refused_late_is_cut_too(start, cluster, journal):
    cluster.batch_limit, cluster.slow = 10_000, 0.3
    publisher = start(journal)
    offer(publisher, "a", messages="m" * 20_000)
    assert publisher.flush(30) == 0
    assert cluster.ids() == ["a"]
    stats = publisher._stats.snapshot()
    assert (stats["failed"], stats["cut"]) == (0, 1)
    assert publisher._journal.waiting == 0


def test_where_no_thread_can_be_started_a_later_event_starts_it(
    start, cluster, monkeypatch, caplog
):
    monkeypatch.setattr(publisher_module, "_START_AGAIN", 0.0)
    begin, refused = threading.Thread.start, []

    def refuses_twice(thread):
        if thread.name == "llmlog-publisher" and len(refused) < 2:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", refuses_twice)
    publisher = start()
    assert "no thread can be started" in caplog.text
    offer(publisher, "a")
    assert publisher.unsafe == 0, "a SIGTERM now would find nobody who writes the journal"
    offer(publisher, "b", "c")
    assert publisher.flush(5) == 0
    assert len(refused) == 2
    assert [t.name for t in threading.enumerate()].count("llmlog-publisher") == 1
    assert sorted(cluster.ids()) == ["a", "b", "c"]


def test_the_topics_bound_is_respected(start, cluster):
    cluster.told = cluster.limit = 20_000
    publisher = start()
    offer(publisher, "a")
    assert publisher.flush(5) == 0
    assert cluster.batches == 20_000
    offer(publisher, "b", messages="words and words " * 5000)
    assert publisher.flush(5) == 0
    assert cluster.produced == 2, "nothing was refused"
    document = json.loads(Decoder().decode(cluster.records[1])["document"])
    assert "llmlog_cut" in document["messages"]


def test_what_cannot_be_cut_is_lost_and_counted(start, cluster):
    cluster.limit = 10
    publisher = start()
    offer(publisher, "a")
    assert publisher.flush(5) == 0
    assert publisher._stats.snapshot()["failed"] == 1


@pytest.mark.parametrize("journal", ["spill", "off"])
def test_a_fatal_error_makes_a_new_client_that_sends_again(start, cluster, journal):
    publisher = start(journal)
    cluster.up = False
    offer(publisher, "a", "b")
    wait_until(lambda: cluster.produced == 2, 5)
    publisher._sender._client.broken = True
    wait_until(lambda: cluster.rebuilt, 5)
    cluster.up = True
    assert publisher.flush(5) == 0
    assert sorted(cluster.ids()) == ["a", "b"]
    assert publisher._stats.snapshot()["producer_rebuilt"] == 1


def test_past_both_bounds_the_newest_is_dropped_loudly(start, cluster, caplog, monkeypatch):
    monkeypatch.setattr(intake, "MAX_QUEUED_EVENTS", 5)
    cluster.there = False
    publisher = start(journal_max_bytes=20_000)
    given = [
        CapturedPayload(payload(1, litellm_call_id=str(n)), "", time.time()) for n in range(100)
    ]
    taken = sum(publisher.offer(one) for one in given)
    stats = publisher._stats.snapshot()
    assert 5 < taken < 100
    assert stats["dropped_queue_full"] == 100 - taken
    assert stats["accepted"] == taken
    loud = [r for r in caplog.records if r.levelno == logging.ERROR and "LOST" in r.message]
    assert len(loud) == 1
    cluster.there = True
    assert publisher.flush(5) == 0
    assert set(cluster.ids()) <= {str(n) for n in range(100)}
    assert len(cluster.records) == taken


def test_a_full_queue_goes_to_the_journal(start, cluster, monkeypatch):
    monkeypatch.setattr(intake, "MAX_QUEUED_EVENTS", 5)
    cluster.there = False
    publisher = start()
    offer(publisher, *map(str, range(100)))
    cluster.there = True
    assert publisher.flush(5) == 0
    assert sorted(map(int, cluster.ids())) == list(range(100))


def test_an_unwritable_folder_is_one_error_and_memory_alone(start, cluster, tmp_path, caplog):
    (tmp_path / "file").touch()
    publisher = start("always", journal_dir=tmp_path / "file")
    offer(publisher, "a")
    assert publisher.flush(5) == 0
    (line,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "LLMLOG_JOURNAL_DIR" in line.message


def test_the_signal_handler_has_everything_written(start, cluster):
    cluster.up = False
    publisher = start()
    offer(publisher, "produced")
    wait_until(lambda: cluster.produced, 5)
    offer(publisher, *map(str, range(20)))
    publisher.journal_first(5)
    assert publisher.unsafe == 0
    offer(publisher, "after")
    assert publisher.unsafe == 0, "from now on the hook writes"
    cluster.up = True
    assert publisher.flush(5) == 0, "and Kafka is still sent to"


def test_the_signal_handler_leaves_nothing_behind_while_kafka_answers(start, cluster, monkeypatch):
    publisher = start()
    offer(publisher, "first")
    assert publisher.flush(5) == 0
    monkeypatch.setattr(sender, "_NAP", 60)
    monkeypatch.setattr(spill, "OVERDUE", 60)
    offer(publisher, *map(str, range(20)))
    publisher.journal_first(30)
    assert len(cluster.ids()) == 21
    assert publisher.close(30) == 0


def test_a_signal_in_the_middle_of_a_hook_has_what_came_before_written(start, cluster):
    unsafe = []

    class Entries(deque):
        def append(self, entry):
            if entry.payload["litellm_call_id"] == "interrupted":
                publisher.journal_first(1.0)
                unsafe.append(publisher.unsafe)
            super().append(entry)

    cluster.there = False
    publisher = start()
    publisher._intake._entries = Entries()
    offer(publisher, *map(str, range(100)), "interrupted")
    assert unsafe == [1], "only what its hook has not handed over"


@pytest.fixture
def ending(cluster, tmp_path, monkeypatch):
    """A publisher of an interpreter that ends, Kafka away; and what it kills, once interrupted.

    It has no thread of its own: a signal's handler interrupts the work that it would wait for.
    """
    cluster.there, kills = False, []
    monkeypatch.setattr(publisher_module.os, "kill", lambda pid, number: kills.append(number))
    environ = {"LLMLOG_JOURNAL_DIR": str(tmp_path), "LLMLOG_JOURNAL_MAX_BYTES": "100000"}
    publisher = Publisher(load(environ=environ), Stats(), background=False)
    yield publisher, kills
    publisher.abandon()


def interrupt(monkeypatch, act):
    """Do something once in the middle of a step."""
    poll, done = KafkaProducer.poll, []

    def interrupted(self, timeout):
        if not done:
            done.append(True)
            act()
        poll(self, timeout)

    monkeypatch.setattr(KafkaProducer, "poll", interrupted)


def test_a_signal_in_the_middle_of_the_work_of_the_main_thread_comes_again(ending, monkeypatch):
    publisher, kills = ending
    offer(publisher, "a", "b")
    said = []
    interrupt(monkeypatch, lambda: said.append(publisher.journal_first(30)))
    began = time.monotonic()
    assert publisher.leave(30) == 0
    assert time.monotonic() - began < 10
    assert said == [False]
    assert kills == [signal.SIGTERM]
    assert publisher._stats.snapshot()["journaled"] == 2
    assert publisher.journal_first(30), "what is saved is not waited for"


def test_what_was_saved_before_says_nothing_of_what_came_after(ending, monkeypatch):
    publisher, _ = ending
    offer(publisher, "a")
    assert publisher.leave(0.1) == 0
    offer(publisher, "b")
    said = []
    interrupt(monkeypatch, lambda: said.append(publisher.journal_first(30)))
    assert publisher.leave(30) == 0
    assert said == [False]
    assert publisher._stats.snapshot()["journaled"] == 2


def test_such_a_signal_waits_for_a_full_journal_no_longer_than_it_has_time(ending, monkeypatch):
    publisher, kills = ending
    offer(publisher, "a", messages=[{"role": "user", "content": "x" * 200_000}])
    interrupt(monkeypatch, lambda: publisher.journal_first(0.2))
    began = time.monotonic()
    publisher._wait(60, lambda: False)
    assert kills == [signal.SIGTERM]
    assert time.monotonic() - began < 20


def test_such_a_signal_is_not_forgotten_where_the_work_ends_in_a_ctrl_c(ending, monkeypatch):
    publisher, kills = ending
    offer(publisher, "a")

    def twice():
        publisher.journal_first(30)
        raise KeyboardInterrupt

    interrupt(monkeypatch, twice)
    with pytest.raises(KeyboardInterrupt):
        publisher.leave(30)
    assert kills == [signal.SIGTERM]
    assert publisher.journal_first(30), "nobody works any more"


def test_brokers_that_do_not_answer_hold_the_journal_up_for_nothing(start, cluster):
    """A process that ends has no second to wait until a look for the topic is over."""
    cluster.silent = threading.Event()
    publisher = start()
    assert cluster.asked.wait(10)
    offer(publisher, "a", "b")
    publisher.journal_first(10.0)
    assert publisher.unsafe == 0
    assert publisher._stats.snapshot()["journaled"] == 2
    cluster.silent.set()
    assert publisher.flush(10) == 0
    assert sorted(cluster.ids()) == ["a", "b"]


def test_close_waits_for_the_journal_where_kafka_is_away(start, cluster, caplog):
    cluster.there = False
    publisher = start()
    offer(publisher, "a")
    began = time.monotonic()
    assert publisher.close(30) == 1
    assert time.monotonic() - began < 5
    assert "1 events are not sent yet" in caplog.text
    cluster.there = True
    start()
    wait_until(lambda: cluster.ids() == ["a"], 5)


def test_close_without_a_journal_says_what_is_lost(start, cluster, caplog):
    cluster.there = False
    publisher = start("off")
    offer(publisher, "a")
    assert publisher.close(0.1) == 1
    assert "closed with 1 events unsent" in caplog.text


def test_an_interpreter_that_ends_needs_no_thread(cluster, tmp_path):
    environ = {"LLMLOG_JOURNAL_DIR": str(tmp_path)}
    publisher = Publisher(load(environ=environ), Stats(), background=False)
    offer(publisher, "a")
    assert publisher.leave(5) == 0
    assert cluster.ids() == ["a"]
    cluster.there = cluster.up = False
    publisher._sender._topic.framing = None
    offer(publisher, "b")
    assert publisher.leave(5) == 0
    assert len(journal_files(tmp_path)) == 1
    publisher.abandon()


def test_a_payload_that_cannot_be_read_is_counted(start, cluster):
    class Rude(dict):
        def get(self, *_):
            raise RuntimeError

        items = keys = __iter__ = get

    for journal in ("spill", "always"):
        publisher = start(journal)
        captured = CapturedPayload({}, "", time.time())
        captured.payload = Rude()
        publisher.offer(captured)
        assert publisher.flush(5) == 0
        assert publisher._stats.snapshot()["dropped_unreadable"] == 1


CODES = [
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._UNKNOWN_TOPIC, KafkaError._MSG_TIMED_OUT,
    KafkaError.NOT_ENOUGH_REPLICAS, TRANSPORT,
]  # fmt: skip


def troubled(cluster, publisher, pick):
    """Let a moment of trouble pass: several kinds of it at once, as chance has it."""
    cluster.up = pick.random() < 0.5
    cluster.answer = pick.choice([None, *CODES])
    cluster.room = pick.choice([0, 3, 10**9])
    publisher._sender._client.down = pick.random() < 0.5
    publisher._sender._client.broken = pick.random() < 0.2
    return pick.choice([0.0, 0.02, 0.15])


@pytest.mark.parametrize("journal", ["spill", "always", "off"])
@pytest.mark.parametrize("seed", range(20))
def test_whatever_kafka_did_all_is_sent_once_it_answers(start, cluster, journal, seed):
    pick = random.Random(seed)
    cluster.there = pick.random() < 0.7
    publisher = start(journal)
    names = iter(range(10_000))
    for _ in range(12):
        offer(publisher, *(str(next(names)) for _ in range(pick.randint(0, 15))))
        publisher._closing.wait(troubled(cluster, publisher, pick))
    cluster.there = cluster.up = True
    cluster.answer, cluster.room = None, 10**9
    assert publisher.flush(20) == 0
    assert {int(name) for name in cluster.ids()} == set(range(next(names)))
    stats = publisher._stats.snapshot()
    assert stats["failed"] == stats["dropped_queue_full"] == 0
    if journal != "off":
        assert publisher._journal.waiting == 0
