"""Events that Kafka refuses, and batches; with a Kafka client that answers as told."""

import json
import time
from asyncio import CancelledError
from dataclasses import replace

import pytest
from confluent_kafka import KafkaError

from llmlog_common.settings import load
from llmlog_common.throttled_log import GatewayLogger, ThrottledLog
from llmlog_producer.counters import Stats
from llmlog_producer.sending.queue import EventQueue
from llmlog_producer.sending.sender import Sender
from llmlog_producer.sending.shutdown import Handover
from llmlog_producer.sending.timing import Timing
from llmlog_schemas.codec import Decoder
from support.fakes.gateway import FAST, Clock, LateJobs, RecordedWakeup, Steps, captured
from support.pipeline import wait_until


def document(value):
    return json.loads(Decoder().decode(value)["document"])


@pytest.mark.parametrize("journal", ["spill", "off"])
def test_a_refusal_for_the_clusters_reasons_is_waited_out(start, cluster, journal, caplog):
    cluster.answer = KafkaError.TOPIC_AUTHORIZATION_FAILED
    gateway = start(journal)
    gateway.offer(*map(str, range(20)))
    wait_until(lambda: cluster.produced > 20, 5)
    assert gateway.counter("failed") == 0
    cluster.answer = None
    assert gateway.publisher.flush(5) == 0
    assert sorted(map(int, cluster.call_ids())) == list(range(20))
    lines = [r for r in caplog.records if "takes no events" in r.message]
    assert len(lines) == 1, "one line per cause and minute"


def test_an_invalid_record_is_lost_and_counted(start, cluster):
    cluster.answer = KafkaError.INVALID_RECORD
    gateway = start("always")
    gateway.offer("a")
    wait_until(lambda: gateway.counter("failed") == 1, 5)
    assert gateway.stats.pending == gateway.in_journal == 0


@pytest.mark.parametrize("journal", ["always", "off"])
def test_an_event_that_is_too_large_is_truncated_until_it_fits(start, cluster, journal):
    cluster.limit = 3000
    gateway = start(journal)
    gateway.offer("a", messages="m" * 50_000)
    assert gateway.publisher.flush(5) == 0
    (value,) = cluster.records
    assert "llmlog_cut" in document(value)["messages"]
    assert (gateway.counter("delivered"), gateway.counter("failed")) == (1, 0)
    assert gateway.counter("truncated") >= 1
    assert gateway.in_journal == 0


@pytest.mark.parametrize("journal", ["always", "spill", "off"])
def test_a_batch_that_is_too_large_costs_none_of_its_events(start, cluster, journal):
    cluster.batch_limit, cluster.has_topic = 5000, False
    gateway = start(journal)
    for number in range(20):
        gateway.offer(f"c{number}", messages="m" * 2000)
    cluster.has_topic = True
    assert gateway.publisher.flush(30) == 0
    assert sorted(cluster.call_ids()) == sorted(f"c{number}" for number in range(20))
    assert gateway.counter("delivered") == 20
    assert gateway.counter("failed") == gateway.counter("truncated") == 0


@pytest.mark.parametrize("journal", ["always", "off"])
def test_an_event_that_is_too_large_for_the_broker_alone_is_truncated(start, cluster, journal):
    cluster.batch_limit = 5000
    gateway = start(journal)
    gateway.offer("a", messages="m" * 20_000)
    gateway.offer("b")
    assert gateway.publisher.flush(30) == 0
    assert sorted(cluster.call_ids()) == ["a", "b"]
    assert gateway.counter("failed") == 0


@pytest.mark.parametrize("journal", ["always", "spill", "off"])
def test_events_that_are_too_large_are_truncated_while_others_flow(start, cluster, journal):
    cluster.batch_limit, cluster.has_topic = 10_000, False
    gateway = start(journal)
    for number in range(60):
        gateway.offer(f"c{number}", messages="m" * (20_000 if number % 3 == 0 else 100))
    cluster.has_topic = True
    for number in range(60, 90):
        gateway.offer(f"c{number}")
        time.sleep(0.005)  # so that there is always one more
    assert gateway.publisher.flush(30) == 0
    assert sorted(cluster.call_ids()) == sorted(f"c{number}" for number in range(90))
    assert (gateway.counter("delivered"), gateway.counter("failed")) == (90, 0)
    assert gateway.counter("truncated") == 20
    assert cluster.produced < 90 * 12, "each is sent a few times, however many there are"


@pytest.mark.parametrize("journal", ["always", "spill"])
def test_an_event_that_is_refused_late_for_its_size_is_truncated_too(start, cluster, journal):
    cluster.batch_limit, cluster.delay_seconds = 10_000, 0.3
    gateway = start(journal)
    gateway.offer("a", messages="m" * 20_000)
    assert gateway.publisher.flush(30) == 0
    assert cluster.call_ids() == ["a"]
    assert (gateway.counter("failed"), gateway.counter("truncated")) == (0, 1)
    assert gateway.in_journal == 0


def test_no_event_is_larger_than_the_topic_takes(start, cluster):
    cluster.topic_bytes = cluster.limit = 20_000
    gateway = start()
    gateway.offer("a")
    assert gateway.publisher.flush(5) == 0
    assert cluster.batch_bytes == 20_000
    gateway.offer("b", messages="words and words " * 5000)
    assert gateway.publisher.flush(5) == 0
    assert cluster.produced == 2, "none was refused"
    assert "llmlog_cut" in document(cluster.records[1])["messages"]


def test_an_event_that_cannot_be_truncated_further_is_lost_and_counted(start, cluster):
    cluster.limit = 10
    gateway = start()
    gateway.offer("a")
    assert gateway.publisher.flush(5) == 0
    assert gateway.counter("failed") == 1


@pytest.mark.parametrize("journal", ["spill", "off"])
def test_after_a_fatal_error_a_new_client_sends_again(start, cluster, journal):
    gateway = start(journal)
    cluster.up = False
    gateway.offer("a", "b")
    wait_until(lambda: cluster.produced == 2, 5)
    gateway.client.broken = True
    wait_until(lambda: cluster.rebuilds, 5)
    cluster.up = True
    assert gateway.publisher.flush(5) == 0
    assert sorted(cluster.call_ids()) == ["a", "b"]
    assert gateway.counter("producer_rebuilt") == 1


@pytest.mark.parametrize("journal", ["spill", "off"])
def test_a_client_whose_certificate_has_changed_is_replaced_and_nothing_is_lost(
    start, cluster, journal
):
    gateway = start(journal, timing=replace(FAST, certificate_seconds=0.02, move_seconds=0.2))
    cluster.up = False
    gateway.offer("a", "b")
    wait_until(lambda: cluster.produced == 2, 5)
    gateway.client.is_outdated = True
    wait_until(lambda: cluster.rebuilds, 5)
    gateway.client.is_outdated = False
    cluster.up = True
    assert gateway.publisher.flush(5) == 0
    assert sorted(set(cluster.call_ids())) == ["a", "b"]
    assert gateway.counter("producer_rebuilt") == 0


@pytest.fixture
def steps(cluster, tmp_path):
    """A sender with nothing to do; its topic is found."""
    one = Steps(cluster, tmp_path)
    one.step()
    return one


def test_a_journal_that_takes_nothing_is_not_tried_at_each_poll(cluster, tmp_path):
    timing = replace(FAST, housekeeping_seconds=0.02, max_idle_seconds=60)
    one = Steps(cluster, tmp_path, timing=timing, max_bytes=1500)
    one.step()
    cluster.up = False
    one.offer("b", "c")
    one.step()
    one.clock.now += 10 * timing.overdue_seconds
    one.step(background=True)
    assert one.journal.waiting == 1, "there is room for one of them"
    assert one.wakeup.waits[-1] == 0.02


def test_the_idle_wait_is_as_long_as_the_next_event_has_time(cluster, tmp_path):
    timing = Timing(max_idle_seconds=60, overdue_seconds=8)
    one = Steps(cluster, tmp_path, timing=timing)
    one.step()
    one.step(background=True)
    assert one.wakeup.waits[-1] == 10.0, "the caller's bound: no event is in flight"
    cluster.up = False
    one.offer("a")
    one.step(background=True)
    assert one.wakeup.waits[-1] == 8.0


class SlowQueue(EventQueue):
    """A queue whose events take a millisecond of a clock each."""

    def __init__(self, clock, **bounds):
        super().__init__(**bounds)
        self.clock = clock

    def take(self, max_events):
        self.clock.now += 0.001
        return super().take(1)


def slow_steps(cluster, folder, **bounds):
    queue = SlowQueue(None, **bounds)
    one = Steps(cluster, folder, queue=queue)
    queue.clock = one.clock
    one.step()
    return one


def test_it_gives_way_to_other_threads_within_a_burst(cluster, tmp_path):
    one = slow_steps(cluster, tmp_path)
    one.offer("a", "b", "c")
    for sent in range(1, 4):
        one.step(background=True)
        assert (cluster.produced, len(one.wakeup.pauses)) == (sent, sent)
    one.step(background=True)
    assert len(one.wakeup.pauses) == 3, "an idle wait needs no pause"
    one.offer("d")
    one.step()
    assert len(one.wakeup.pauses) == 3, "`flush` waits for it"


def test_it_does_not_give_way_where_events_come_faster(cluster, tmp_path):
    one = slow_steps(cluster, tmp_path, max_events=8)
    one.offer("a", "b", "c", "d", "e")
    for _ in range(5):
        one.step(background=True)
    assert len(one.wakeup.pauses) == 3, "only once a quarter of the bound or less waits"


def test_it_does_not_give_way_while_a_signal_handler_waits(cluster, tmp_path):
    one = slow_steps(cluster, tmp_path)
    one.offer("a", "b")
    one.handover.request()
    one.step(background=True)
    assert not one.wakeup.pauses


def test_a_request_is_confirmed_only_after_memory_alone_holds_no_event(steps, cluster):
    cluster.up = False
    steps.offer("in flight")
    steps.step()
    cluster.room = 0
    steps.offer("in the queue")
    steps.handover.request()
    assert not steps.handover.is_confirmed
    steps.step()
    assert steps.handover.is_confirmed
    assert steps.journal.waiting == 2


def test_a_request_is_not_confirmed_while_the_disk_has_not_answered(cluster, tmp_path):
    jobs = LateJobs()
    one = Steps(cluster, tmp_path, jobs=jobs)
    one.step()
    jobs.jobs.pop()()  # the search for files of dead processes
    cluster.up = False
    one.offer("a")
    one.handover.request()
    one.step()
    (write,) = jobs.jobs
    one.step()
    assert not one.handover.is_confirmed
    write()
    one.step()
    assert one.handover.is_confirmed
    assert one.journal.waiting == 1


def test_a_request_in_the_middle_of_a_step_is_confirmed_by_the_next_step(cluster, tmp_path):
    class InterruptedQueue(EventQueue):
        def take(self, max_events):
            one.handover.request()
            return super().take(max_events)

    one = Steps(cluster, tmp_path, queue=InterruptedQueue())
    one.step()
    assert one.handover.requested == 1
    assert not one.handover.is_confirmed, "the step had begun before it"
    assert not one.wakeup.waits, "it does not wait while a signal handler waits for it"
    one.queue.put(captured("a"))
    one.step()
    assert one.handover.requested > 1
    assert not one.handover.is_confirmed


def test_a_request_that_the_journal_cannot_take_is_not_confirmed(cluster, tmp_path):
    one = Steps(cluster, tmp_path, max_bytes=100)
    cluster.has_topic = False
    one.step()
    one.offer("a")
    one.handover.request()
    waits = len(one.wakeup.waits)
    one.step()
    assert not one.handover.is_confirmed
    assert len(one.wakeup.waits) == waits, "it does not wait while a signal handler waits for it"


def test_after_the_end_only_events_of_the_journal_are_not_sent(steps, cluster):
    cluster.up = False
    steps.offer("a")
    steps.step()
    steps.sender.end()
    assert len(cluster.clients[-1].waiting) == 1, (
        "memory alone holds it: the client may send it yet"
    )
    steps.handover.request()
    steps.step()
    steps.sender.end()
    assert not cluster.clients[-1].waiting


def test_after_a_refusal_one_event_is_tried_and_then_a_pause_is_made(cluster, tmp_path):
    clock, stats, wakeup = Clock(), Stats(), RecordedWakeup()
    log = ThrottledLog(GatewayLogger())
    queue = EventQueue()
    handover = Handover(wakeup, hooks_write=False, is_enough=bool, has_thread=bool)
    sender = Sender(
        load(environ={"LLMLOG_JOURNAL": "off"}), stats, log, queue, None,
        wakeup=wakeup, handover=handover, timing=replace(FAST, refusal_pause_seconds=2.0),
        new_client=cluster.new_client, clock=clock,
    )  # fmt: skip
    sender.step(1.0, background=False)  # finds the topic
    cluster.answer = KafkaError.TOPIC_AUTHORIZATION_FAILED
    for name in ("a", "b", "c"):
        stats.add("accepted")
        queue.put(captured(name))

    def steps(number: int) -> int:
        before = cluster.produced
        for _ in range(number):
            sender.step(0.01, background=False)
        return cluster.produced - before

    steps(5)  # all three are refused
    assert steps(20) == 0, "no event is sent during the pause"
    clock.now += 2.1
    assert steps(20) == 1, "then one event is tried, and the next pause begins"


class Rude:
    """An object of a payload whose own code raises, or does not return."""

    def __init__(self, act):
        self._act = act

    def __repr__(self):
        return self._act()


def refuse_with(error):
    def act():
        raise error

    return act


@pytest.mark.parametrize(
    "error", [CancelledError("x"), SystemExit(1), KeyboardInterrupt(), MemoryError()], ids=repr
)
def test_an_object_that_raises_any_error_costs_at_most_its_own_payload(start, cluster, error):
    gateway = start("spill")
    gateway.offer("before")
    gateway.offer("rude", metadata={"object": Rude(refuse_with(error))})
    gateway.offer("after", "later")
    assert gateway.publisher.flush(10) == 0
    assert sorted(cluster.call_ids()) == ["after", "before", "later", "rude"]
    assert gateway.counter("dropped_unreadable") == 0
