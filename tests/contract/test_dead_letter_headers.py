"""Other people's tools read the headers of letters: names and words are fixed to the letter."""

import json

import pytest
from confluent_kafka import KafkaError

from llmlog_common.settings import load
from llmlog_consumer.dead_letters import reader, writer
from llmlog_consumer.dead_letters.cause import PREFIX, Cause, Ending, Stage, headers_of
from support.fakes_kafka import ConfirmingProducer, kafka_exception
from support.messages import Message

IDENTITY = ("version", "topic", "partition", "offset", "timestamp", "group")
CAUSE = ("stage", "disposition", "exception", "es.status", "es.type", "es.caused_by", "es.reason",
         "fingerprint")  # fmt: skip
TARGET = ("index", "document_id", "schema", "model")
HISTORY = ("attempts", "first_failed_at", "last_failed_at", "replay_count")
HEADERS = (*IDENTITY, *CAUSE, *TARGET, *HISTORY)
TRUNCATED = ("truncated.length", "truncated.sha256")

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
    written = [name for name, _ in headers_of(Message(), EVERYTHING, group="g")]
    assert PREFIX == "pipeline.dlq."
    assert written == [PREFIX + name for name in HEADERS]


def test_the_enumerations_are_closed():
    assert [str(stage) for stage in Stage] == ["decode", "transform", "oversize", "index"]
    assert [str(ending) for ending in Ending] == ["poison", "permanent", "exhausted"]


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("ending", Ending)
def test_stages_and_dispositions_are_written_as_words(stage, ending):
    written = dict(headers_of(Message(), Cause(stage, ending), group="g"))
    assert written[f"{PREFIX}stage"] == str(stage).encode()
    assert written[f"{PREFIX}disposition"] == str(ending).encode()


def test_a_letter_is_read_as_it_was_written(broker):
    found = reader.found(write(broker, EVERYTHING, Message(headers_=[("own", b"\x00")])))
    assert found.name == "litellm-logs/3/41"
    assert found.coordinates == "litellm-logs.dlq/3/7"
    assert set(found.headers) == set(HEADERS)
    assert found.as_json(recovered=False) == {
        "coordinates": "litellm-logs.dlq/3/7",
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
        "first_failed_at": found.headers["first_failed_at"],
        "last_failed_at": found.headers["first_failed_at"],
        "replay_count": 0,
        "recovered": False,
    }
    json.dumps(found.as_json(recovered=True))


@pytest.mark.parametrize("value", [None, b"", b"\x00\xff"])
@pytest.mark.parametrize("key", [None, b"", b"\xff"])
def test_key_and_value_are_the_sources_byte_for_byte(broker, key, value):
    letter = write(broker, Cause(Stage.DECODE, Ending.POISON, "x"), Message(key_=key, value_=value))
    assert letter.key() == key
    assert letter.value() == value


@pytest.mark.parametrize(("source", "letter"), [(0, 0), (3, 3), (4, 0), (11, 3)])
def test_a_letter_lies_beside_its_source_partition(broker, source, letter):
    assert write(broker, EVERYTHING, Message(partition_=source)).partition() == letter


def test_a_letter_of_what_elasticsearch_never_saw_has_no_es(broker):
    cause = Cause(Stage.DECODE, Ending.POISON, "DecodeError: the record has no value")
    read = reader.found(write(broker, cause, Message(value_=None))).as_json(recovered=False)
    assert read["es"] is None
    assert read["document_id"] is None
    assert read["exception"] == "DecodeError: the record has no value"


def test_a_letter_too_large_is_cut_and_says_what_is_missing(broker):
    value = bytes(range(256)) * 1024
    broker.refuse_above = 100_000
    letter = write(broker, EVERYTHING, Message(value_=value))
    found = reader.found(letter)
    assert letter.value() == value[: writer.TRUNCATED_BYTES]
    assert set(found.headers) == {*HEADERS, *TRUNCATED}
    assert found.headers["truncated.length"] == "262144"
    assert found.headers["truncated.sha256"] == (
        "2312394bd99545d9de131c24efb781e765ac1aec243f2ed9347597a793a415e9"
    )


def test_a_letter_that_was_cut_and_dies_again_says_nothing_old(broker):
    before = [(f"{PREFIX}truncated.length", b"1"), (f"{PREFIX}unknown", b"1")]
    found = reader.found(write(broker, EVERYTHING, Message(headers_=before)))
    assert set(found.headers) == set(HEADERS)


def test_a_record_that_something_else_wrote_is_read_too():
    found = reader.found(Message(topic_="litellm-logs.dlq", offset_=5, headers_=None))
    assert found.name == found.coordinates == "litellm-logs.dlq/3/5"
    read = found.as_json(recovered=False)
    assert read["source"] == {"topic": None, "partition": None, "offset": None}
    assert read["stage"] is None


@pytest.mark.parametrize("value", [b"", b"x", b"-", b"--1", b"\xff", "²".encode(), None])
def test_headers_that_are_no_numbers_do_not_stop_the_list(value):
    headers = [(f"{PREFIX}{name}", value) for name in (*HEADERS, "replay_count")]
    read = reader.found(Message(headers_=headers)).as_json(recovered=False)
    assert read["source"]["partition"] is None
    assert read["replay_count"] == 0


def test_the_newest_letter_of_a_name_speaks():
    def letter(offset, timestamp, source):
        headers = headers_of(Message(offset_=source), EVERYTHING, group="g")
        return Message(
            topic_="d", offset_=offset, headers_=headers, timestamp_=(1, timestamp * 1000)
        )

    letters, doublets = (
        [letter(1, 10, 41), letter(2, 30, 41), letter(3, 20, 42)],
        reader.NewestPerRecord(),
    )
    doublets.add(letters)
    newest = reader.newest_first(
        reader.found(message) for message in letters if doublets.keeps(message)
    )
    assert [found.offset for found in newest] == [2, 3]
