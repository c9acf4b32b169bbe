"""A replayed letter is the record that it was; which letters may go; chunks and rates."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from llmlog_common.errors import CircuitOpenError, ConfigurationError, ElasticsearchError
from llmlog_common.settings import load
from llmlog_consumer.dead_letters import source_record as original
from llmlog_consumer.dead_letters.cause import PREFIX, Cause, Ending, Stage, headers_of
from llmlog_consumer.dead_letters.letter import found
from llmlog_consumer.dead_letters.reader import chunks
from llmlog_consumer.dead_letters.record import record_of
from llmlog_consumer.kafka.producer import KafkaProducer
from llmlog_consumer.outcomes import Outcome
from llmlog_consumer.replay import replay
from llmlog_consumer.replay.plan import DryRun, ReplayOutcome, ReplayPolicy
from support.fakes_kafka import ConfirmingProducer
from support.messages import Message
from support.payloads import encoded, event

SETTINGS = load(environ={})
CAUSE = Cause(Stage.INDEX, Ending.PERMANENT, reason="r", es_type="t", es_status=400)


def letter(offset=41, *, value=b"v", partition=3, topic="litellm-logs", more=()):
    source = Message(
        topic_=topic, partition_=partition, offset_=offset, headers_=[("own", b"\x00"), *more]
    )
    headers = headers_of(source, CAUSE, group="g")
    return found(
        Message("litellm-logs.dlq", 3, 7, b"k", value, headers, timestamp_=(1, 1_767_225_999_000))
    )


def test_a_replayed_letter_is_its_source_and_dies_with_its_history():
    first = letter()
    record = record_of(first)
    assert (record.topic(), record.partition(), record.offset()) == ("litellm-logs", 3, 41)
    assert (record.key(), record.value()) == (b"k", b"v")
    assert record.timestamp() == (1, 1_767_225_600_123)
    again = found(Message(topic_="litellm-logs.dlq", headers_=headers_of(record, CAUSE, group="g")))
    assert again.name == first.name
    assert again.replays == 1
    assert again.headers["first_failed_at"] == first.headers["first_failed_at"]
    assert again.own == (("own", b"\x00"),)
    assert found(
        Message(headers_=headers_of(record_of(again), CAUSE, group="g"))
    ).replays == 2  # fmt: skip


def test_a_letter_of_no_known_source_keeps_its_own_name():
    foreign = found(Message(topic_="d", partition_=1, offset_=5, headers_=None))
    again = found(Message(headers_=headers_of(record_of(foreign), CAUSE, group="g")))
    assert again.name == foreign.name == "d/1/5"
    assert record_of(foreign).timestamp() == (1, foreign.timestamp_ms)


def test_what_says_no_place_has_its_own():
    some = letter()
    odd = replace(some, headers={**some.headers, "offset": "-1"})
    assert record_of(odd).source == (odd.topic, odd.partition, odd.offset)


@pytest.mark.parametrize(("replays", "force", "goes"), [(2, False, True), (3, False, False),
                                                        (3, True, True)])  # fmt: skip
def test_the_loop_guard(replays, force, goes):
    some = record_of(letter(more=[(f"{PREFIX}replay_count", str(replays).encode())]))
    opened = ReplayPolicy(SETTINGS, force).open(some)
    assert opened == (some if goes else ReplayOutcome.LOOPED)


class GroupConsumer:
    """A source topic with one record."""

    def __init__(self, monkeypatch, record, start=0):
        monkeypatch.setattr(original, "KafkaAdmin", lambda _: self)
        monkeypatch.setattr(original, "KafkaOffsets", lambda _: self)
        monkeypatch.setattr(original.topic_reader, "read_one", lambda *_: record)
        self.start = start

    def require(self, _topic):
        return type("Topic", (), {"partitions": 4})

    def watermarks(self, _topic, partitions):
        return dict.fromkeys(partitions, (self.start, 100))


def truncated(whole):
    cut = letter(value=whole[:3])
    digest = hashlib.sha256(whole).hexdigest()
    headers = {**cut.headers, "truncated.length": str(len(whole)), "truncated.sha256": digest}
    return replace(cut, headers=headers)


def test_the_original_of_a_truncated_letter_is_read_from_its_source(monkeypatch):
    GroupConsumer(monkeypatch, Message(value_=b"the whole", key_=b"key", headers_=[("own", b"2")]))
    opened = ReplayPolicy(SETTINGS).open(record_of(truncated(b"the whole")))
    assert (opened.value(), opened.key()) == (b"the whole", b"key")
    assert opened.headers()[0] == ("own", b"2")
    assert opened.truncated is None


@pytest.mark.parametrize(
    ("record", "start"),
    [(Message(value_=b"another"), 0), (None, 0), (Message(value_=None), 0),
     (Message(value_=b"the whole"), 42)],
)  # fmt: skip
def test_what_is_not_the_original_is_gone(monkeypatch, record, start):
    GroupConsumer(monkeypatch, record, start)
    assert ReplayPolicy(SETTINGS).open(record_of(truncated(b"the whole"))) is ReplayOutcome.GONE


class Elastic:
    def __init__(self, there):
        self.there = there

    def demand(self, _method, _path, *, body):
        return {"docs": [{"found": doc["_id"] in self.there} for doc in body["docs"]]}


def test_a_plan_says_what_would_become_of_each():
    old = timedelta(days=500).total_seconds()
    from llmlog_schemas.codec import Encoder
    from llmlog_schemas.convert import to_event
    from support.payloads import payload

    expired = Encoder().encode(to_event(payload(5, startTime=time.time() - old)))
    some = [
        letter(1, value=encoded(1)),
        letter(2, value=encoded(2)),
        letter(3, value=b"garbage"),
        letter(4, value=encoded(3, document=b'{"messages":{"broken": }')),
        letter(5, value=expired),
        letter(6, value=encoded(6), more=[(f"{PREFIX}replay_count", b"3")]),
    ]
    plan = DryRun(ReplayPolicy(SETTINGS), Elastic({event(2)["event_id"]}), None)
    assert plan.of(iter(some)) == [
        {"fingerprint": CAUSE.fingerprint, "stage": "index", "letters": 6, "send": 1, "there": 1,
         "dies": 2, "expired": 1, "looped": 1, "gone": 0}
    ]  # fmt: skip


class Delivery:
    """Settles at once what it is given, unless it is held."""

    pause_reason = ""
    circuit_open = ""

    def __init__(self, settle):
        self.settle, self.closed, self.spans = settle, False, []

    def accept(self, span, records):
        self.spans.append((span, list(records)))
        if not self.pause_reason:
            for record in records:
                self.settle(span, Outcome.INDEXED, 1, len(record.value()))

    def step(self, _wait=0.0):
        pass

    flush = step

    def close(self):
        self.closed = True


def indexing(delivery=Delivery, stopping=lambda: False, **options):
    made = []
    runner = replay.Indexing(
        ReplayPolicy(SETTINGS),
        lambda settle: made.append(delivery(settle)) or made[0],
        stopping=stopping,
        **options,
    )
    return runner, made[0]


def test_every_letter_is_settled_and_places_of_two_topics_are_kept_apart():
    runner, delivery = indexing()
    some = [letter(n, topic=topic) for n in range(3) for topic in ("a", "b")]
    assert runner.run(map(record_of, some))
    assert runner.counts == {"indexed": 6}
    assert delivery.closed
    assert len({span.generation for span, _ in delivery.spans}) == len(delivery.spans) == 2


def test_a_wrong_deployment_ends_it_with_the_reason():
    class Held(Delivery):
        pause_reason = "open the index"

    runner, delivery = indexing(Held)
    with pytest.raises(ElasticsearchError, match="open the index"):
        runner.run([record_of(letter())])
    assert delivery.closed

    class Flooded(Delivery):
        circuit_open = "nearly everything"

    with pytest.raises(CircuitOpenError):
        indexing(Flooded)[0].run([record_of(letter())])


def test_told_to_stop_it_takes_no_more():
    runner, _ = indexing(stopping=lambda: True)
    assert runner.run(record_of(letter(n)) for n in range(5000)) is False
    assert runner.counts.total() < 5000


def to_topic(topic=None, **options):
    """Return a run, and the client that it sends with."""
    client = ConfirmingProducer()
    producer = KafkaProducer(SETTINGS, client=client)
    options = {"stopping": lambda: False, **options}
    return replay.ToTopic(ReplayPolicy(SETTINGS), topic, producer, **options), client


def test_a_letter_that_names_no_source_goes_to_the_topic_of_the_events():
    foreign = found(Message(topic_=SETTINGS.dlq_topic, value_=b"foreign", headers_=None))
    runner, client = to_topic()
    assert runner.run(map(record_of, [letter(topic="orders"), foreign]))
    sent = [(record["topic"], record["value"]) for record in client.records]
    assert sent == [("orders", b"v"), (SETTINGS.topic, b"foreign")]
    assert runner.counts == {"sent": 2}


def test_ctrl_c_is_heard_while_a_rate_is_kept():
    asked = iter([False, False, False])
    runner, client = to_topic(rate=0.01, stopping=lambda: next(asked, True))
    began = time.monotonic()
    assert runner.run(record_of(letter(n)) for n in range(3)) is False
    assert time.monotonic() - began < 5
    assert len(client.records) == 1


def test_the_dead_letter_topic_is_no_place_to_send_letters_to():
    from llmlog_consumer.cli.dlq.replay import replay_letters

    with pytest.raises(ConfigurationError, match=r"litellm-logs\.dlq is the dead-letter topic"):
        replay_letters(to_topic="litellm-logs.dlq", yes=True)


def test_chunks_are_bounded_by_number_and_bytes():
    assert [len(c) for c in chunks((letter(n) for n in range(5)), 2)] == [2, 2, 1]
    large = letter(value=bytes(3 * 1024 * 1024))
    assert [len(c) for c in chunks([large] * 5)] == [2, 2, 1]
