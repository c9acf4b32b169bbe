"""A replay through delivery, or onto a topic: every record once, bounded by rate and bytes."""

from __future__ import annotations

import itertools

import pytest
from confluent_kafka import KafkaError as ClientError

from llmlog_common.errors import (
    CircuitOpenError,
    ConfigurationError,
    ElasticsearchError,
    KafkaError,
    KafkaUnreachable,
)
from llmlog_consumer.dead_letters.headers import PREFIX
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.record import build_record, read_record
from llmlog_consumer.kafka.producer import KafkaProducer
from llmlog_consumer.outcomes import Outcome
from llmlog_consumer.replay.plan import ReplayOutcome, ReplayPolicy
from llmlog_consumer.replay.replay import IndexReplay, ReplayRun, Timing, TopicReplay
from support.fakes.kafka import ConfirmingProducer
from support.fakes.letters import (
    DLQ_TOPIC,
    SETTINGS,
    FakeDelivery,
    new_letter,
)
from support.messages import Message


def record(offset=41, *, topic="litellm-logs", replays=0, value=b"v"):
    headers = [(f"{PREFIX}replay_count", b"%d" % replays)]
    return read_record(new_letter(source=(topic, 3, offset), source_headers=headers, value=value))


def new_run(*, stopping=lambda: False, **options):
    return ReplayRun(ReplayPolicy(SETTINGS), stopping, **options)


def new_index_replay(delivery=FakeDelivery, *, max_in_flight_bytes=1 << 20, **options):
    """Return a replay, and the delivery that it made."""
    deliveries = []

    def new_delivery(settle):
        deliveries.append(delivery(settle))
        return deliveries[0]

    run = new_run(**options)
    replay = IndexReplay(run, new_delivery, max_in_flight_bytes=max_in_flight_bytes)
    return replay, deliveries[0]


class HeldDelivery(FakeDelivery):
    """A delivery that keeps records in flight until it was stepped some times."""

    steps_to_settle = 3

    def __init__(self, settle):
        super().__init__(settle)
        self.steps = 0

    def accept(self, span, records):
        self.accepted.append((span, list(records)))
        self.steps = 0

    def step(self, _wait=0.0):
        self.steps += 1
        if self.steps == self.steps_to_settle:
            span, records = self.accepted[-1]
            self.settle(span, "indexed", len(records), sum(map(len, records)))

    flush = FakeDelivery.step


# The shared part


def test_a_letter_that_is_left_alone_is_counted_and_not_replayed():
    replay, delivery = new_index_replay()
    assert replay.run([record(1), record(2, replays=3)])
    assert replay.counts == {"indexed": 1, ReplayOutcome.TOO_MANY_REPLAYS: 1}
    assert [len(records) for _, records in delivery.accepted] == [1]


@pytest.mark.parametrize(
    ("rate", "letters", "seconds", "is_ahead"),
    [
        (None, 1000, 0, False),
        (10, 0, 0, False),
        (10, 1, 0, True),
        (10, 10, 1, False),
        (10, 11, 1, True),
    ],
)
def test_a_rate_bounds_the_letters_of_the_time_so_far(rate, letters, seconds, is_ahead):
    times = iter([100.0, 100.0 + seconds])
    run = new_run(rate=rate, clock=lambda: next(times))
    run.start()
    run.letters = letters
    assert run.is_ahead_of_rate() is is_ahead


# Through delivery


def test_every_letter_is_settled_and_equal_offsets_of_two_topics_are_kept_apart():
    replay, delivery = new_index_replay()
    records = [record(n, topic=topic) for n in range(3) for topic in ("a", "b")]
    assert replay.run(records)
    assert replay.counts == {"indexed": 6}
    assert delivery.closed
    generations = {span.generation for span, _ in delivery.accepted}
    assert len(generations) == len(delivery.accepted) == 2
    assert all(span.unsettled == 0 for span, _ in delivery.accepted)


def test_records_of_a_topic_and_of_one_recreated_under_its_name_are_kept_apart():
    """Two of one offset in one span could not be told apart."""
    replay, delivery = new_index_replay()
    assert replay.run([record(n, value=b"%d" % topic) for topic in range(3) for n in range(2)])
    spans = [[one.offset() for one in records] for _, records in delivery.accepted]
    assert spans == [[0, 1]] * 3
    assert len({span.generation for span, _ in delivery.accepted}) == 3


def test_a_wrong_deployment_ends_the_run_with_the_reason():
    class PausedDelivery(FakeDelivery):
        pause_reason = "open the index"

    replay, delivery = new_index_replay(PausedDelivery)
    with pytest.raises(ElasticsearchError, match="open the index"):
        replay.run([record()])
    assert delivery.closed


def test_a_closed_index_ends_the_run_once_all_other_letters_are_replayed():
    class HoldingDelivery(FakeDelivery):
        unhealthy = "index logs-1: open the index"

        def accept(self, span, records):
            self.accepted.append((span, list(records)))
            settled = [record for record in records if record.source[2] != 0]
            for record in settled:
                self.settle(span, Outcome.INDEXED, 1, record.size)

        @property
        def is_stuck(self):
            return True

    replay, _ = new_index_replay(HoldingDelivery)
    with pytest.raises(ElasticsearchError, match="index logs-1: open the index: fix it and run"):
        replay.run(record(n) for n in range(5000))
    assert replay.counts[Outcome.INDEXED] == 4999


def test_an_open_circuit_ends_the_run():
    class OpenDelivery(FakeDelivery):
        circuit_open = "nearly every record fails"

    replay, delivery = new_index_replay(OpenDelivery)
    with pytest.raises(CircuitOpenError):
        replay.run([record()])
    assert delivery.closed


def test_after_a_signal_no_more_letters_are_taken():
    replay, _ = new_index_replay(stopping=lambda: True)
    assert replay.run(record(n) for n in range(5000)) is False
    assert replay.counts.total() < 5000


def test_records_in_flight_are_settled_before_the_run_ends():
    replay, delivery = new_index_replay(HeldDelivery, timing=Timing(turn_seconds=0.0))
    assert replay.run([record(1), record(2)])
    assert replay.counts == {"indexed": 2}
    assert delivery.steps >= HeldDelivery.steps_to_settle


def test_bytes_in_flight_are_bounded():
    replay, delivery = new_index_replay(HeldDelivery, max_in_flight_bytes=999)
    in_flight = []

    def accept(span, records):
        in_flight.append(sum(len(r) for _, rs in delivery.accepted for r in rs))
        settled = sum(replay.counts.values()) * 1000
        in_flight[-1] -= settled
        HeldDelivery.accept(delivery, span, records)

    delivery.accept = accept
    assert replay.run(record(n, value=bytes(1000)) for n in range(450))
    assert in_flight == [0, 0, 0], "a chunk is taken once the one before is settled"
    assert replay.counts == {"indexed": 450}


def test_after_a_signal_records_in_flight_are_waited_for_only_so_long():
    class StuckDelivery(FakeDelivery):
        def accept(self, span, records):
            self.accepted.append((span, list(records)))

    clock = itertools.count()
    replay, delivery = new_index_replay(
        StuckDelivery,
        stopping=lambda: bool(delivery.accepted),
        clock=lambda: float(next(clock)),
        timing=Timing(turn_seconds=0.0, drain_seconds=5.0),
    )
    assert replay.run([record()]) is False
    assert replay.counts == {}
    assert delivery.closed


def test_progress_counts_every_letter():
    steps = []
    replay, _ = new_index_replay(progress=steps.append)
    assert replay.run(record(n, replays=3 * (n == 0)) for n in range(250))
    assert steps[-1] == 250


# Onto a topic


class RefusingProducer(ConfirmingProducer):
    """A client whose records are refused by the broker."""

    def report(self, error=None, number=None):
        super().report(ClientError(ClientError.TOPIC_AUTHORIZATION_FAILED), number)


def new_topic_replay(topic=None, *, client=ConfirmingProducer, **options):
    """Return a replay, and the records that it sends."""
    fake = client()
    producer = KafkaProducer(SETTINGS, client=fake)
    return TopicReplay(new_run(**options), topic, producer), fake.records


def sent(records):
    return [(record["topic"], record["value"]) for record in records]


def test_a_letter_without_a_source_goes_to_the_topic_of_the_events():
    unknown = read_letter(Message(topic_=DLQ_TOPIC, value_=b"unknown", headers_=None))
    replay, records = new_topic_replay()
    assert replay.run([record(topic="orders"), build_record(unknown)])
    assert sent(records) == [("orders", b"v"), (SETTINGS.topic, b"unknown")]
    assert replay.counts == {"sent": 2}


def test_a_named_topic_gets_every_letter():
    replay, records = new_topic_replay("target")
    assert replay.run([record(topic="orders"), record(2, replays=3)])
    assert sent(records) == [("target", b"v")]
    assert replay.counts == {"sent": 1, ReplayOutcome.TOO_MANY_REPLAYS: 1}


def test_a_record_that_the_broker_refuses_is_not_counted_and_ends_the_run():
    replay, records = new_topic_replay(client=RefusingProducer)
    with pytest.raises(KafkaError, match="0 letters sent, the others not"):
        replay.run([record(1), record(2)])
    assert replay.counts == {"sent": 0}
    assert len(records) == 1


class SlowProducer(ConfirmingProducer):
    """A client whose confirmations come only to one who waits for them."""

    def poll(self, timeout):
        return super().poll(timeout) if timeout else 0


def test_confirmations_that_come_while_a_rate_is_kept_are_counted_when_the_run_fails():
    seconds = itertools.count()
    replay, _ = new_topic_replay(client=SlowProducer, rate=0.3, clock=lambda: float(next(seconds)))

    class Unreadable:
        """A letter whose original cannot be read."""

        @property
        def replays(self):
            raise KafkaUnreachable("no broker answers")

    with pytest.raises(KafkaUnreachable):
        replay.run([record(1), Unreadable()])
    assert replay.counts == {"sent": 1}


def test_a_signal_is_noticed_while_a_rate_is_kept():
    asked = iter([False, False, False])
    replay, records = new_topic_replay(
        rate=0.01, clock=lambda: 0.0, stopping=lambda: next(asked, True)
    )
    assert replay.run(record(n) for n in range(3)) is False
    assert len(records) == 1


def test_the_dead_letter_topic_is_refused_as_a_target():
    from llmlog_consumer.cli.dlq.replay import replay_letters

    with pytest.raises(ConfigurationError, match=r"litellm-logs\.dlq is the dead-letter topic"):
        replay_letters(to_topic="litellm-logs.dlq", yes=True)
