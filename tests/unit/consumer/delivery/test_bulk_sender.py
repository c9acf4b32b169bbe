"""How many requests are under way, and what is sent again."""

import threading

from structlog.testing import capture_logs

from llmlog_consumer.delivery.bulk_sender import BulkSender, ConcurrencyLimit
from llmlog_consumer.delivery.pauses.index_pause import Refusal
from llmlog_consumer.elasticsearch.batch import BatchBuilder
from llmlog_consumer.offset_tracker import Span
from support.fakes.delivery import FakeClock, FakeElasticsearch, FakeRecord, ManualExecutor, always


def test_concurrency_grows_by_one_for_each_round_of_answers():
    limit = ConcurrencyLimit(max_requests=10, size=4.0)
    for _ in range(4):
        limit.record_success()
    assert 4.8 < limit.size <= 5.0
    for _ in range(6):
        limit.record_success()
    assert limit.limit in {5, 6}


def test_concurrency_never_grows_beyond_its_maximum():
    limit = ConcurrencyLimit(max_requests=4)
    for _ in range(1000):
        limit.record_success()
    assert limit.limit == 4


def test_a_push_back_halves_concurrency():
    limit = ConcurrencyLimit(max_requests=8, size=8.0)
    limit.record_pushback()
    assert limit.limit == 4


def test_one_request_may_always_be_under_way():
    limit = ConcurrencyLimit(max_requests=8, size=8.0)
    for _ in range(100):
        limit.record_pushback()
    assert limit.limit == 1
    assert ConcurrencyLimit(max_requests=4, size=0.5).limit == 1


def test_one_answer_makes_a_second_request_possible():
    limit = ConcurrencyLimit(max_requests=4, size=1.0)
    limit.record_success()
    assert limit.limit == 2


def test_concurrency_recovers_after_push_backs():
    limit = ConcurrencyLimit(max_requests=4, size=1.0)
    answers = 0
    while limit.limit < 4:
        limit.record_success()
        answers += 1
        assert answers < 20


class SenderRig:
    """A sender with a server that creates every document."""

    def __init__(self, limit=None):
        self.clock, self.executor, self.released = FakeClock(), ManualExecutor(), []
        self.elasticsearch = FakeElasticsearch(always((201, None)))
        self.sender = BulkSender(
            self.elasticsearch,
            lambda _, record: self.released.append(record.offset()),
            concurrency=limit or ConcurrencyLimit(),
            executor=self.executor,
            clock=self.clock,
        )

    def batch(self, *offsets, index="logs-1"):
        builder = BatchBuilder()
        for offset in offsets:
            span = Span(0, 1, offset, offset, 0, 1, 0.0)
            builder.add(span, FakeRecord(offset), 0, index, f"id{offset}", b"{}", 0.0)
        return builder.take()

    def answers(self):
        self.executor.finish()
        return [response.batch for response in self.sender.answers(0.0)]


def test_no_more_requests_are_under_way_than_the_limit():
    rig = SenderRig(ConcurrencyLimit(max_requests=4, size=2.0))
    rig.sender.put(*(rig.batch(n) for n in range(5)))
    rig.sender.send()
    assert (rig.sender.under_way, rig.executor.under_way) == (2, 2)
    assert len(rig.answers()) == 2
    assert rig.sender.under_way == 0
    rig.sender.send()
    assert rig.elasticsearch.requests == [[0], [1]]
    assert rig.executor.under_way == 2


def test_a_probe_of_an_index_that_answers_late_takes_no_place_of_other_requests():
    rig = SenderRig(ConcurrencyLimit(max_requests=4, size=1.0))
    for number, index in enumerate(("logs-2", "logs-3")):
        refused = rig.batch(number, index=index)
        rig.sender.hold_index(refused, Refusal("503: no shard"), refused)
    rig.clock.now += 20.0
    rig.sender.send()
    assert rig.executor.under_way == 2
    rig.sender.put(rig.batch(7), rig.batch(8))
    rig.sender.send()
    assert rig.executor.under_way == 3


def test_a_batch_is_not_sent_before_its_time_and_lets_others_pass():
    rig = SenderRig()
    early, due = rig.batch(1), rig.batch(2)
    early.retry.wait_until(rig.clock.now + 5.0)
    rig.sender.put(early, due)
    rig.sender.send()
    assert rig.answers() == [due]
    rig.clock.now += 4.9
    rig.sender.send()
    assert rig.answers() == []
    rig.clock.now += 0.1
    rig.sender.send()
    assert rig.answers() == [early]


def test_each_sending_is_counted_as_an_attempt():
    rig = SenderRig()
    batch = rig.batch(1)
    for attempt in (1, 2, 3):
        rig.sender.put(batch)
        rig.sender.send()
        rig.answers()
        assert batch.retry.attempts == attempt


def test_released_records_of_a_batch_that_was_sent_before_are_left_out_and_reported():
    rig = SenderRig()
    batch = rig.batch(1, 2, 3)
    batch.retry.record_sent()
    batch.operations[1].span.released = True
    rig.sender.put(batch)
    rig.sender.send()
    rig.answers()
    assert rig.elasticsearch.requests == [[1, 3]]
    assert rig.released == [2]


def test_a_batch_of_released_records_alone_is_not_sent():
    rig = SenderRig()
    batch = rig.batch(1)
    batch.retry.record_sent()
    batch.operations[0].span.released = True
    rig.sender.put(batch)
    rig.sender.send()
    assert (rig.sender.under_way, rig.executor.under_way) == (0, 0)
    assert rig.released == [1]


def test_during_a_pause_every_index_of_a_held_batch_is_checked_again():
    rig = SenderRig()
    rig.sender.hold(rig.batch(1), "run `pipeline setup`")
    assert rig.sender.pause_reason == "run `pipeline setup`"
    assert rig.elasticsearch.forgotten == ["logs-1"]


def test_no_probe_is_sent_while_another_request_is_under_way():
    rig = SenderRig()
    held, other = rig.batch(1), rig.batch(2)
    rig.sender.put(other)
    rig.sender.send()
    rig.sender.hold(held, "closed")
    rig.clock.now += 60.0
    rig.sender.send()
    assert rig.executor.under_way == 1
    assert rig.answers() == [other]
    rig.sender.send()
    assert rig.answers() == [held]


def test_the_begin_and_the_end_of_a_pause_are_logged_once():
    rig = SenderRig()
    with capture_logs() as lines:
        rig.sender.hold(rig.batch(1), "closed (open the index)")
        rig.sender.hold(rig.batch(2), "closed (open the index)")
        rig.clock.now += 60.0
        rig.sender.send()
        (probe,) = rig.answers()
        rig.sender.hold(probe, "closed (open the index)")
        rig.clock.now += 60.0
        rig.sender.send()
        (probe,) = rig.answers()
        rig.sender.end_probe(probe)
    assert lines == [
        {
            "event": "indexing paused: the deployment is wrong, nothing is lost",
            "log_level": "error",
            "why": "closed (open the index)",
        },
        {"event": "indexing resumed", "log_level": "info", "after_refusals": 2},
    ]


def test_a_pause_whose_only_held_batch_is_itself_at_fault_tries_the_others():
    rig = SenderRig()
    refused, others = rig.batch(1), [rig.batch(2), rig.batch(3)]
    rig.sender.put(*others)
    rig.sender.hold(refused, "401")
    for expected in (refused, others[0], refused):
        rig.clock.now += 60.0
        rig.sender.send()
        assert rig.answers() == [expected]
        rig.sender.hold(expected, "403")


def test_a_pause_wants_another_probe_once_each_document_it_holds_was_refused_alone():
    rig = SenderRig()
    batch = rig.batch(1, 2)
    rig.sender.hold(batch, "403")
    for probe, wants_probe in ((batch, False), (rig.batch(1), True)):
        rig.clock.now += 60.0
        rig.sender.send()
        assert rig.answers() == [batch]
        rig.sender.hold(probe, "403")
        assert rig.sender.wants_probe == wants_probe
    rig.sender.put(rig.batch(3))
    assert not rig.sender.wants_probe


def test_an_answer_of_another_batch_does_not_end_the_pause():
    rig = SenderRig()
    held, other = rig.batch(1), rig.batch(2)
    rig.sender.hold(held, "closed")
    rig.clock.now += 60.0
    rig.sender.send()
    rig.sender.end_probe(other)
    assert rig.sender.paused
    rig.sender.end_probe(held)
    assert not rig.sender.paused


def test_after_a_pause_held_batches_are_sent_first():
    rig = SenderRig()
    rig.sender.put(rig.batch(9))
    for offset in (1, 2, 3):
        rig.sender.hold(rig.batch(offset), "closed")
    assert not rig.sender.has_work
    rig.clock.now += 60.0
    rig.sender.send()
    (probe,) = rig.answers()
    rig.sender.end_probe(probe)
    assert rig.sender.has_work
    while rig.sender.has_work:
        rig.sender.send()
        rig.answers()
    assert rig.elasticsearch.requests == [[1], [2], [3], [9]]


def test_as_many_requests_run_at_once_as_concurrency_allows_and_answers_are_waited_for():
    number = 40
    together, begin, names = threading.Barrier(number), threading.Event(), []

    class Client(FakeElasticsearch):
        def send(self, batch):
            names.append(threading.current_thread().name)
            together.wait(30.0)
            begin.wait(30.0)
            return super().send(batch)

    rig = SenderRig()
    sender = BulkSender(
        Client(always((201, None))),
        lambda _span, _record: None,
        concurrency=ConcurrencyLimit(max_requests=number, size=float(number)),
    )
    sender.put(*(rig.batch(offset) for offset in range(number)))
    sender.send()
    assert list(sender.answers(0.0)) == [], "none has arrived yet"
    begin.set()
    while sender.under_way:
        assert list(sender.answers(30.0)), "it waits for the first"
    sender.close()
    assert all(name.startswith("llmlog-bulk") for name in names)


def test_a_closed_sender_stops_its_threads_and_waits_for_no_request():
    rig = SenderRig()
    rig.sender.put(rig.batch(1))
    rig.sender.send()
    rig.sender.close()
    assert rig.executor.closed
    assert rig.executor.cancelled == 1
