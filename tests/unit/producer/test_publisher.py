"""An event's way from the hook to Kafka, with a Kafka client that answers as told."""

import logging
import random
import threading
import time
from dataclasses import replace

import pytest
from confluent_kafka import KafkaError

from llmlog_producer.events.build import CapturedPayload
from llmlog_producer.sending.queue import WAKE_BYTES, EventQueue
from llmlog_producer.sending.timing import Limits
from support.fakes.gateway import FAST, TRANSPORT, Disk, captured
from support.pipeline import wait_until

LONG_WAITS = replace(FAST, max_idle_seconds=60, overdue_seconds=60)


def journal_files(tmp_path):
    return list(tmp_path.glob("*/*.journal"))


@pytest.mark.parametrize("journal", ["spill", "always", "off"])
def test_events_are_delivered(start, cluster, journal, tmp_path):
    gateway = start(journal)
    gateway.offer("a", "b", "c")
    assert gateway.publisher.flush(5) == 0
    assert cluster.call_ids() == ["a", "b", "c"]
    assert gateway.counter("delivered") == 3
    assert gateway.publisher.close(1) == 0
    assert not journal_files(tmp_path)


def test_with_journal_always_the_event_is_written_before_the_hook_returns(start, cluster):
    cluster.has_topic = False
    gateway = start("always")
    gateway.offer("a")
    assert gateway.publisher.unsafe == 0
    gateway.kill()
    cluster.has_topic = True
    following = start("always")
    wait_until(lambda: cluster.call_ids() == ["a"], 5)
    assert following.publisher.flush(5) == 0
    assert following.counter("recovered") == 1


def test_with_journal_spill_an_overdue_event_is_written_while_kafka_is_away(start, cluster):
    cluster.has_topic = False
    gateway = start()
    gateway.offer("a", "b")
    assert gateway.publisher.unsafe == 2
    wait_until(lambda: gateway.publisher.unsafe == 0, 5)
    assert gateway.stats.pending == 2
    cluster.has_topic = True
    assert gateway.publisher.flush(5) == 0
    assert sorted(cluster.call_ids()) == ["a", "b"]


def test_with_journal_spill_an_overdue_event_is_written_while_kafka_does_not_answer(start, cluster):
    gateway = start()
    gateway.offer("first")
    assert gateway.publisher.flush(5) == 0
    cluster.up = False
    gateway.offer("in flight")
    wait_until(lambda: cluster.produced == 2 and gateway.publisher.unsafe == 0, 5)
    gateway.offer("later")
    wait_until(lambda: gateway.publisher.unsafe == 0, 5)
    assert cluster.produced == 2, "no event is added to those that Kafka does not answer"
    cluster.up = True
    assert gateway.publisher.flush(5) == 0
    assert cluster.call_ids() == ["first", "in flight", "later"]


def test_flush_signal_and_close_end_the_idle_wait(start, cluster):
    gateway = start(timing=LONG_WAITS)
    gateway.offer("a")
    assert gateway.publisher.flush(30) == 0
    cluster.up = False
    gateway.offer("b")
    gateway.client.down = True
    gateway.publisher.journal_first(30)
    assert gateway.publisher.unsafe == 0
    cluster.up = True
    assert gateway.publisher.flush(30) == 0
    assert gateway.publisher.close(30) == 0
    assert cluster.call_ids() == ["a", "b"]


def test_the_idle_wait_ends_when_an_event_in_flight_is_overdue(start, cluster):
    gateway = start(timing=replace(FAST, max_idle_seconds=60))
    gateway.offer("a")
    assert gateway.publisher.flush(5) == 0
    cluster.up = False
    gateway.offer(*map(str, range(20)))
    # It wakes the thread, unless it is late itself; that sends them and waits again.
    wait_until(lambda: gateway.publisher.flush(0.01) and cluster.produced == 21, 5)
    wait_until(lambda: gateway.publisher.unsafe == 0, 5)
    cluster.up = True
    assert gateway.publisher.flush(30) == 0
    assert gateway.publisher.close(30) == 0


def test_a_known_topic_is_looked_up_again_for_its_partitions_alone(start, cluster):
    gateway = start(timing=replace(FAST, topic_refresh_seconds=0.01))
    wait_until(lambda: cluster.lookups > 5, 5)
    assert cluster.bound_lookups == 1, "a client that is replaced forgets the events in flight"
    assert gateway.publisher.close(5) == 0


def test_a_closed_publisher_does_not_send_the_events_that_it_leaves_to_the_journal(start, cluster):
    cluster.up = False
    gateway = start()
    gateway.offer("a", "b")
    assert gateway.publisher.close(5) == 2
    assert not gateway.client.waiting


def test_many_bytes_end_the_idle_wait(start, cluster):
    gateway = start(timing=LONG_WAITS)
    gateway.offer("a")
    assert gateway.publisher.flush(30) == 0
    gateway.offer("b", "c", messages=[{"content": "x" * WAKE_BYTES}])
    wait_until(lambda: cluster.produced == 3, 10)
    assert gateway.publisher.close(30) == 0


def test_a_backlog_is_sent_without_long_idle_waits(start, cluster):
    cluster.up = False
    first = start("always")
    names = [str(number) for number in range(20)]
    first.offer(*names)
    first.kill()
    before = cluster.produced
    cluster.up = True
    second = start(timing=LONG_WAITS, limits=Limits(backlog_events=3))
    wait_until(lambda: cluster.produced >= before + len(names), 10)
    assert second.publisher.flush(30) == 0
    assert second.publisher.close(30) == 0
    assert sorted(set(cluster.call_ids()), key=int) == names


def test_the_events_of_a_dead_process_are_sent_by_the_next_one(start, cluster):
    cluster.up = False
    gateway = start()
    gateway.offer("a", "b")
    wait_until(lambda: gateway.stats.pending == 2 and gateway.publisher.unsafe == 0, 5)
    gateway.kill()
    cluster.up = True
    start()
    wait_until(lambda: sorted(cluster.call_ids()) == ["a", "b"], 5)


def test_a_full_kafka_client_is_waited_for(start, cluster):
    cluster.room = 3
    gateway = start()
    gateway.offer(*map(str, range(50)))
    assert gateway.publisher.flush(10) == 0
    assert sorted(map(int, cluster.call_ids())) == list(range(50))


def test_if_no_thread_can_be_started_a_later_event_starts_it(start, cluster, monkeypatch, caplog):
    start_thread, refused = threading.Thread.start, []

    def refuse_twice(thread):
        if thread.name == "llmlog-publisher" and len(refused) < 2:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start_thread(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_twice)
    gateway = start(timing=replace(FAST, thread_retry_seconds=0.0))
    assert "no thread can be started" in caplog.text
    gateway.offer("a")
    assert gateway.publisher.unsafe == 1, "it waits in memory, and its hook for nothing"
    gateway.offer("b", "c")
    assert gateway.publisher.flush(5) == 0
    assert len(refused) == 2
    assert [t.name for t in threading.enumerate()].count("llmlog-publisher") == 1
    assert sorted(cluster.call_ids()) == ["a", "b", "c"]


@pytest.mark.parametrize("journal_bytes", [20_000, 10**9])
def test_past_the_memory_bound_the_newest_events_are_dropped_with_an_error(
    start, cluster, caplog, journal_bytes
):
    """Whatever room the journal has: a hook waits for no disk."""
    cluster.has_topic = False
    gateway = start(queue=EventQueue(max_events=5), journal_max_bytes=journal_bytes)
    offered = [captured(str(number)) for number in range(100)]
    accepted = sum(gateway.publisher.offer(one) for one in offered)
    assert 5 <= accepted <= 100
    assert gateway.counter("dropped_queue_full") == 100 - accepted
    assert gateway.counter("accepted") == accepted
    if accepted < 100:
        errors = [r for r in caplog.records if r.levelno == logging.ERROR and "LOST" in r.message]
        assert len(errors) == 1
    cluster.has_topic = True
    assert gateway.publisher.flush(5) == 0
    assert set(cluster.call_ids()) <= {str(number) for number in range(100)}
    assert len(cluster.records) == accepted


class Unreadable(dict):
    """A payload that must not be looked at."""

    def get(self, *_):
        raise RuntimeError

    items = keys = copy = __iter__ = get


def unreadable():
    one = CapturedPayload({}, "", time.time())
    one.payload = Unreadable()
    return one


@pytest.fixture
def disk(tmp_path):
    """A disk that hangs, until the test has ended at the latest."""
    one = Disk(tmp_path / "disk")
    yield one
    one.answers.set()


@pytest.mark.parametrize("journal", ["spill", "always"])
def test_while_the_disk_hangs_kafka_gets_everything(start, cluster, disk, journal):
    gateway = start(journal, disk=disk, timing=replace(FAST, hook_seconds=0.01))
    gateway.offer(*map(str, range(50)))
    assert gateway.publisher.flush(30) == 0
    assert len(cluster.call_ids()) == 50
    assert disk.is_reached.is_set()
    disk.answers.set()
    assert gateway.publisher.close(30) == 0
    assert not files_in(disk.folder)


def files_in(folder):
    return [path for path in folder.iterdir() if path.stat().st_size]


def test_while_the_disk_hangs_and_kafka_is_away_hooks_refuse_what_memory_cannot_hold(
    start, cluster, disk, caplog
):
    cluster.has_topic = False
    gateway = start(
        disk=disk, queue=EventQueue(max_events=40), limits=Limits(write_bytes=1, taken_events=1)
    )

    def has_42():
        while gateway.publisher.offer(captured("more")):
            pass
        return gateway.counter("accepted") == 42

    assert disk.is_reached.wait(30), "the search for files of dead processes hangs"
    wait_until(has_42, 30, "the queue has 40, the sending thread one, and the next job one")
    before = gateway.counter("dropped_queue_full")
    assert not any(gateway.publisher.offer(unreadable()) for _ in range(1000))
    assert gateway.counter("dropped_queue_full") == before + 1000
    assert gateway.counter("dropped_unreadable") == 0, "no payload is converted to be thrown away"
    assert caplog.text.count("EVENTS ARE LOST") == 1
    disk.answers.set()
    wait_until(lambda: gateway.publisher.unsafe == 0, 30)
    cluster.has_topic = True
    assert gateway.publisher.flush(30) == 0
    assert len(cluster.records) == gateway.counter("accepted")


def test_a_disk_that_hangs_costs_one_hook_its_time_and_is_counted(start, cluster, disk, caplog):
    gateway = start("always", disk=disk, timing=replace(FAST, hook_seconds=0.1))
    began = time.monotonic()
    gateway.offer(*map(str, range(300)))
    assert time.monotonic() - began < 15, "300 times 0.1 s would be twice that"
    assert gateway.counter("not_journaled") == gateway.counter("accepted") == 300
    assert gateway.counter("dropped_queue_full") == 0
    assert "did not have an event when its hook returned" in caplog.text
    disk.answers.set()
    assert gateway.publisher.flush(30) == 0

    def is_written_again():
        before = gateway.counter("not_journaled")
        gateway.offer("again")
        return gateway.counter("not_journaled") == before

    wait_until(is_written_again, 30)


def test_a_disk_that_hangs_does_not_keep_the_process_from_ending(start, cluster, disk):
    cluster.has_topic = False
    gateway = start(disk=disk, timing=replace(FAST, release_seconds=0.1))
    gateway.offer("a")
    began = time.monotonic()
    assert gateway.publisher.journal_first(0.2)
    assert gateway.publisher.close(0.1) == 1
    assert time.monotonic() - began < 20


def test_a_disk_that_is_full_costs_no_event_while_kafka_answers(start, cluster, tmp_path):
    cluster.has_topic = False
    gateway = start("always", journal_max_bytes=5_000)
    gateway.offer(*map(str, range(50)))
    assert gateway.counter("not_journaled") > 0
    cluster.has_topic = True
    assert gateway.publisher.flush(30) == 0
    assert sorted(map(int, cluster.call_ids())) == list(range(50))


def test_a_log_that_stalls_stops_neither_hooks_nor_delivery(start, cluster, caplog):
    stalled, goes_on, in_vain = threading.Event(), threading.Event(), []

    class Stalled(logging.Handler):
        def emit(self, record):
            stalled.set()
            in_vain.append(not goes_on.wait(10))

    logger, handler = logging.getLogger("llmlog_producer"), Stalled()
    logger.addHandler(handler)
    try:
        gateway = start(queue=EventQueue(max_events=0))
        assert not gateway.publisher.offer(captured("refused"))
        assert stalled.wait(10)
        assert not gateway.publisher.offer(captured("refused"))
        other = start()
        other.offer("a")
        assert other.publisher.flush(10) == 0
    finally:
        goes_on.set()
        assert caplog.records
        logger.removeHandler(handler)
    assert not any(in_vain), "the log went on only after all else was done"


def test_a_folder_that_cannot_be_written_is_one_error_and_events_stay_in_memory(
    start, tmp_path, caplog
):
    (tmp_path / "file").touch()
    gateway = start("always", journal_dir=tmp_path / "file")
    gateway.offer("a")
    assert gateway.publisher.flush(5) == 0
    (line,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "LLMLOG_JOURNAL_DIR" in line.message


def test_close_waits_for_the_journal_alone_where_kafka_is_away(start, cluster, caplog):
    cluster.has_topic = False
    gateway = start()
    gateway.offer("a")
    began = time.monotonic()
    assert gateway.publisher.close(30) == 1
    assert time.monotonic() - began < 5
    assert "1 events are not sent yet" in caplog.text
    cluster.has_topic = True
    start()
    wait_until(lambda: cluster.call_ids() == ["a"], 5)


@pytest.mark.parametrize("background", [True, False])
def test_at_the_end_of_its_time_leave_has_all_events_written_at_once(start, cluster, background):
    cluster.has_topic = False
    gateway = start(timing=LONG_WAITS, background=background)
    gateway.offer("a", "b")
    assert gateway.publisher.leave(0.1) == 0
    assert gateway.in_journal == 2


def test_a_closed_publisher_leaves_its_events_to_the_next_one(start, cluster, tmp_path):
    cluster.up = False
    start().offer("a")
    first = start()
    first.offer("b")
    assert first.publisher.close(0.1) == 1
    cluster.up = True
    following = start()
    wait_until(lambda: "b" in cluster.call_ids(), 5)
    assert following.counter("recovered") == 1, "the closed one has let go of its files"


def test_close_without_a_journal_says_how_many_events_are_lost(start, cluster, caplog):
    cluster.has_topic = False
    gateway = start("off")
    gateway.offer("a")
    assert gateway.publisher.close(0.1) == 1
    assert "closed with 1 events unsent" in caplog.text


def test_an_interpreter_that_ends_needs_no_thread(start, cluster, tmp_path):
    gateway = start(background=False)
    gateway.offer("a")
    assert gateway.publisher.leave(5) == 0
    assert cluster.call_ids() == ["a"]
    cluster.up = False
    gateway.client.down = True
    gateway.offer("b")
    assert gateway.publisher.leave(5) == 0
    assert len(journal_files(tmp_path)) == 1


def test_an_interpreter_that_ends_before_the_topic_is_found_leaves_its_events_to_the_journal(
    start, cluster, tmp_path
):
    cluster.has_topic = cluster.up = False
    gateway = start(background=False)
    gateway.offer("b")
    assert gateway.publisher.leave(5) == 0
    assert len(journal_files(tmp_path)) == 1


@pytest.mark.parametrize("journal", ["spill", "always"])
def test_a_payload_that_cannot_be_read_is_counted(start, journal):
    gateway = start(journal)
    gateway.publisher.offer(unreadable())
    assert gateway.publisher.flush(5) == 0
    assert gateway.counter("dropped_unreadable") == 1


def test_a_publisher_that_is_halted_goes_on_with_the_next_event(start, cluster):
    gateway = start()
    for name in ("a", "b", "c"):
        gateway.offer(name)
        assert gateway.publisher.halt(30) == 0
    assert cluster.call_ids() == ["a", "b", "c"]
    assert [t.name for t in threading.enumerate()].count("llmlog-publisher") == 0


def test_one_that_is_halted_with_everything_sent_leaves_no_file(start, cluster, tmp_path):
    gateway = start("always")
    gateway.offer("a")
    assert gateway.publisher.halt(30) == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_a_halted_publisher_left_to_the_journal_is_counted_once_and_sent(start, cluster):
    cluster.has_topic = False
    gateway = start()
    gateway.offer("a", "b")
    assert gateway.publisher.halt(30) == 2
    assert gateway.publisher.flush(0.01) == 2, "it says what is pending"
    assert gateway.publisher.halt(30) == 2
    cluster.has_topic = True
    assert gateway.publisher.flush(30) == 0
    assert sorted(cluster.call_ids()) == ["a", "b"]
    assert (gateway.counter("delivered"), gateway.counter("recovered")) == (2, 0)


def test_events_that_were_in_flight_as_it_was_halted_are_sent_later(start, cluster):
    gateway = start()
    gateway.offer("first")
    assert gateway.publisher.flush(30) == 0
    cluster.up = False
    gateway.offer("a", "b")
    wait_until(lambda: cluster.produced == 3, 30)
    assert gateway.publisher.halt(0.3) == 2
    cluster.up = True
    gateway.offer("c")
    assert gateway.publisher.flush(30) == 0
    assert sorted(cluster.call_ids()) == ["a", "b", "c", "first"]
    assert gateway.in_journal == 0


def test_after_a_halt_the_hook_writes_no_journal_and_events_are_not_written_first(start, cluster):
    cluster.has_topic = False
    gateway = start()
    gateway.offer("a")
    gateway.publisher.halt(30)
    cluster.has_topic = True
    gateway.offer("b")
    assert gateway.publisher.flush(30) == 0
    written = gateway.counter("journaled")
    gateway.offer("c")
    assert gateway.publisher.flush(30) == 0
    assert gateway.counter("journaled") == written == 1


def test_an_event_that_comes_as_the_thread_ends_starts_another(start, cluster):
    queue = EventQueue()
    gateway = start(queue=queue)
    gateway.offer("a")
    assert gateway.publisher.flush(30) == 0

    def put_late() -> None:
        gateway.client.purge = lambda: None
        gateway.stats.add("accepted")
        queue.put(captured("late"))

    gateway.client.purge = put_late  # the thread's last act
    gateway.publisher.halt(30)
    wait_until(lambda: cluster.call_ids() == ["a", "late"], 30, "without a flush")


@pytest.mark.parametrize("journal", ["spill", "always", "off"])
@pytest.mark.parametrize("closers", [1, 3])
def test_threads_that_halt_it_while_others_report_lose_nothing(start, cluster, journal, closers):
    gateway = start(journal)
    over = threading.Event()
    sent = [0] * 4

    def report(thread: int) -> None:
        while not over.is_set():
            gateway.offer(f"{thread}-{sent[thread]}")
            sent[thread] += 1
            over.wait(0.005)

    reporters = [threading.Thread(target=report, args=(one,)) for one in range(len(sent))]
    halters = [
        threading.Thread(target=lambda: [gateway.publisher.halt(0.02) for _ in range(5)])
        for _ in range(closers)
    ]
    for thread in reporters + halters:
        thread.start()
    for thread in halters:
        thread.join()
    over.set()
    for thread in reporters:
        thread.join()
    assert gateway.publisher.flush(30) == 0
    assert set(cluster.call_ids()) == {f"{t}-{n}" for t in range(4) for n in range(sent[t])}
    assert gateway.counter("delivered") == sum(sent)
    assert gateway.publisher.halt(30) == 0
    assert [t.name for t in threading.enumerate()].count("llmlog-publisher") == 0


CODES = [
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._MSG_TIMED_OUT,
    KafkaError.NOT_ENOUGH_REPLICAS,
    TRANSPORT,
]


def make_trouble(cluster, client, pick):
    """Change the cluster at random; return how long it stays so."""
    cluster.up = pick.random() < 0.5
    cluster.answer = pick.choice([None, *CODES])
    cluster.room = pick.choice([0, 3, 10**9])
    client.down = pick.random() < 0.5
    client.broken = pick.random() < 0.2
    return pick.choice([0.0, 0.02, 0.15])


@pytest.mark.parametrize("journal", ["spill", "always", "off"])
@pytest.mark.parametrize("seed", range(20))
def test_after_any_trouble_all_events_are_sent_once_kafka_answers(start, cluster, journal, seed):
    pick = random.Random(seed)
    cluster.has_topic = pick.random() < 0.7
    gateway = start(journal)
    names = iter(range(10_000))
    for _ in range(12):
        gateway.offer(*(str(next(names)) for _ in range(pick.randint(0, 15))))
        threading.Event().wait(make_trouble(cluster, gateway.client, pick))
    cluster.has_topic = cluster.up = True
    cluster.answer, cluster.room = None, 10**9
    assert gateway.publisher.flush(20) == 0
    assert {int(name) for name in cluster.call_ids()} == set(range(next(names)))
    assert gateway.counter("failed") == gateway.counter("dropped_queue_full") == 0
    assert gateway.in_journal == 0
