"""Tools of others read the headers of dead letters: names and values are fixed byte for byte."""

import json

import pytest
from confluent_kafka import KafkaError

from llmlog_common.settings import load
from llmlog_consumer.dead_letters import writer
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.dead_letters.deduplicate import NewestPerSource
from llmlog_consumer.dead_letters.headers import OUR_HEADERS, PREFIX, build_headers
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.reader import sort_newest_first
from support.fakes.kafka import ConfirmingProducer, kafka_exception
from support.messages import Message

IDENTITY = ("version", "topic", "partition", "offset", "timestamp", "group")
CAUSE = (
    "stage",
    "disposition",
    "exception",
    "es.status",
    "es.type",
    "es.caused_by",
    "es.reason",
    "fingerprint",
)
TARGET = ("index", "document_id", "schema", "model")
HISTORY = ("attempts", "first_failed_at", "last_failed_at", "replay_count")
HEADERS = (*IDENTITY, *CAUSE, *TARGET, *HISTORY)
TRUNCATED = ("truncated.length", "truncated.sha256")
MENDED = ("mended",)
"""A letter of a record that was mended before it failed has it too."""

EVERYTHING = Cause(
    Stage.INDEX,
    Ending.EXHAUSTED,
    exception="Error: ours",
    reason="theirs",
    es_status=400,
    es_type="document_parsing_exception",
    es_caused_by="illegal_argument_exception: why",
    index="litellm-logs-2026.01.31",
    document_id="AZtXgOIAPqM4wrx7hCk_",
    model="gpt-4o",
    attempts=6,
)


class Broker(ConfirmingProducer):
    """A topic that refuses large values."""

    refuse_above = None

    def produce(self, topic, **record):
        if self.refuse_above is not None and len(record["value"]) > self.refuse_above:
            raise kafka_exception(KafkaError.MSG_SIZE_TOO_LARGE)
        super().produce(topic, **record)


@pytest.fixture
def broker():
    return Broker()


def write(broker, cause, message):
    """Send one letter; return what lies on the topic then, as a message."""
    settled = []
    letters = writer.LetterWriter(load(environ={}), 4, client=broker)
    letters.write(writer.PendingLetter(message, cause, lambda: settled.append(1)))
    letters.poll()
    letters.poll()
    assert settled == [1]
    assert letters.pending == 0
    (record,) = broker.records
    return Message(
        topic_="litellm-logs.dlq",
        partition_=record["partition"],
        offset_=7,
        key_=record["key"],
        value_=record["value"],
        headers_=record["headers"],
        timestamp_=(1, 1_769_860_000_000),
    )


def test_every_header_is_written_under_the_prefix_and_nothing_else():
    written = [name for name, _ in build_headers(Message(), EVERYTHING, group="g")]
    assert PREFIX == "pipeline.dlq."
    assert written == [PREFIX + name for name in HEADERS]
    assert {PREFIX + name for name in (*HEADERS, *TRUNCATED, *MENDED)} == OUR_HEADERS


def test_the_enumerations_are_closed():
    assert [str(stage) for stage in Stage] == [
        "decode",
        "transform",
        "expired",
        "oversize",
        "index",
    ]
    assert [str(ending) for ending in Ending] == ["poison", "permanent", "exhausted"]


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("ending", Ending)
def test_stages_and_dispositions_are_written_as_words(stage, ending):
    written = dict(build_headers(Message(), Cause(stage, ending), group="g"))
    assert written[f"{PREFIX}stage"] == str(stage).encode()
    assert written[f"{PREFIX}disposition"] == str(ending).encode()


def test_a_letter_is_read_as_it_was_written(broker):
    letter = read_letter(write(broker, EVERYTHING, Message(headers_=[("own", b"\x00")])))
    assert letter.source_coordinates == "litellm-logs/3/41"
    assert letter.coordinates == "litellm-logs.dlq/3/7"
    assert set(letter.headers) == set(HEADERS)
    assert letter.as_json(recovered=False) == {
        "coordinates": "litellm-logs.dlq/3/7",
        "event_id": None,
        "group": "llmlog-pipeline",
        "writer": "pipeline",
        "source": {"topic": "litellm-logs", "partition": 3, "offset": 41},
        "stage": "index",
        "disposition": "exhausted",
        "fingerprint": EVERYTHING.fingerprint,
        "exception": "Error: ours",
        "es": {
            "status": 400,
            "type": "document_parsing_exception",
            "reason": "theirs",
            "caused_by": "illegal_argument_exception: why",
        },
        "document_id": "AZtXgOIAPqM4wrx7hCk_",
        "index": "litellm-logs-2026.01.31",
        "model": "gpt-4o",
        "attempts": 6,
        "first_failed_at": letter.headers["first_failed_at"],
        "last_failed_at": letter.headers["first_failed_at"],
        "replay_count": 0,
        "mended": [],
        "recovered": False,
    }
    json.dumps(letter.as_json(recovered=True))


@pytest.mark.parametrize("value", [None, b"", b"\x00\xff"])
@pytest.mark.parametrize("key", [None, b"", b"\xff"])
def test_key_and_value_are_the_sources_byte_for_byte(broker, key, value):
    letter = write(broker, Cause(Stage.DECODE, Ending.POISON, "x"), Message(key_=key, value_=value))
    assert letter.key() == key
    assert letter.value() == value


@pytest.mark.parametrize(("source", "letter"), [(0, 0), (3, 3), (4, 0), (11, 3)])
def test_a_letter_lies_beside_its_source_partition(broker, source, letter):
    assert write(broker, EVERYTHING, Message(partition_=source)).partition() == letter


def test_a_letter_of_a_record_that_never_reached_elasticsearch_has_no_es(broker):
    cause = Cause(Stage.DECODE, Ending.POISON, "DecodeError: the record has no value")
    read = read_letter(write(broker, cause, Message(value_=None))).as_json(recovered=False)
    assert read["es"] is None
    assert read["document_id"] is None
    assert read["exception"] == "DecodeError: the record has no value"


def test_a_letter_too_large_is_truncated_and_has_length_and_digest_of_the_original(broker):
    value = bytes(range(256)) * 1024
    broker.refuse_above = 100_000
    letter = read_letter(write(broker, EVERYTHING, Message(value_=value)))
    assert letter.value == value[: writer.TRUNCATED_BYTES]
    assert set(letter.headers) == {*HEADERS, *TRUNCATED}
    assert letter.headers["truncated.length"] == "262144"
    assert letter.headers["truncated.sha256"] == (
        "2312394bd99545d9de131c24efb781e765ac1aec243f2ed9347597a793a415e9"
    )


def test_a_new_letter_has_no_header_of_an_earlier_truncation(broker):
    before = [(f"{PREFIX}truncated.length", b"1"), (f"{PREFIX}unknown", b"1")]
    letter = read_letter(write(broker, EVERYTHING, Message(headers_=before)))
    assert set(letter.headers) == set(HEADERS)


def test_a_record_of_an_unknown_writer_is_read_too():
    letter = read_letter(Message(topic_="litellm-logs.dlq", offset_=5, headers_=None))
    assert letter.source_coordinates == letter.coordinates == "litellm-logs.dlq/3/5"
    read = letter.as_json(recovered=False)
    assert read["source"] == {"topic": None, "partition": None, "offset": None}
    assert read["stage"] is None


@pytest.mark.parametrize("value", [b"", b"x", b"-", b"--1", b"\xff", "²".encode(), None])
def test_headers_that_are_not_numbers_do_not_end_the_list(value):
    headers = [(f"{PREFIX}{name}", value) for name in (*HEADERS, "replay_count")]
    read = read_letter(Message(headers_=headers)).as_json(recovered=False)
    assert read["source"]["partition"] is None
    assert read["replay_count"] == 0


def test_of_two_letters_of_one_record_the_newest_is_read():
    def letter(offset, timestamp, source):
        headers = build_headers(Message(offset_=source), EVERYTHING, group="g")
        return Message(
            topic_="d", offset_=offset, headers_=headers, timestamp_=(1, timestamp * 1000)
        )

    letters = [letter(1, 10, 41), letter(2, 30, 41), letter(3, 20, 42)]
    newest = NewestPerSource()
    newest.add(letters)
    kept = [read_letter(message) for message in letters if newest.keeps(message)]
    assert [letter.offset for letter in sort_newest_first(kept)] == [2, 3]
