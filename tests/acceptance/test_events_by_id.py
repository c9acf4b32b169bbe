"""An event is found by its id: letters, documents and records on real servers."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from llmlog_consumer.elasticsearch.index_names import daily_index
from llmlog_schemas.codec import Encoder
from support.http_front import in_front_of, schema_registry
from support.payloads import encoded, event, payload, send
from support.pipeline import Pipeline, wait_until

REFUSED = b'{"@timestamp":%d,"litellm_call_id":"%s","stream":"maybe"}'
"""A document that the mapping refuses: `stream` is a boolean."""


def bootstrap(pipeline: Pipeline) -> str:
    return pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]


def refused(seed: int) -> bytes:
    """Return an event that Elasticsearch refuses."""
    one = event(seed)
    document = REFUSED % (one["start_time_ms"], one["litellm_call_id"].encode())
    return encoded(seed, document=document)


def event_id(seed: int) -> str:
    return event(seed)["event_id"]


def today(pipeline: Pipeline) -> str:
    return daily_index(pipeline.index, event(0)["start_time_ms"])


def write(pipeline: Pipeline, *values: bytes | None) -> None:
    send(bootstrap(pipeline), pipeline.topic, list(values), partition=0)


def letters(pipeline: Pipeline, *options: str) -> list[dict[str, Any]]:
    shown = pipeline.run("dlq", "list", "--json", *options).stdout
    return [json.loads(line) for line in shown.splitlines()]


def verify(pipeline: Pipeline, code: int) -> dict[str, Any]:
    """Return what verify counts; `said` is what it says on stderr."""
    done = pipeline.run("verify", "--json", check=False)
    assert (done.returncode, bool(done.stdout)) == (code, True), done.stdout + done.stderr
    return {**json.loads(done.stdout), "said": done.stderr}


def ask(pipeline: Pipeline, method: str, path: str, **options: Any) -> None:
    """Change something in Elasticsearch."""
    url = f"{pipeline.elasticsearch}/{path}"
    httpx.request(method, url, timeout=120, **options).raise_for_status()


def empty_index(pipeline: Pipeline, name: str, **options: Any) -> None:
    """Lose all documents of an index."""
    ask(pipeline, "DELETE", name)
    ask(pipeline, "PUT", name, **options)


def recreate_topic(pipeline: Pipeline) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap(pipeline)})
    admin.delete_topics([pipeline.topic])[pipeline.topic].result(30)
    admin.delete_consumer_groups([pipeline.group])[pipeline.group].result(30)
    wait_until(lambda: pipeline.topic not in admin.list_topics(timeout=10).topics)
    pipeline.run("setup")


def test_letters_of_a_topic_and_of_one_recreated_under_its_name_are_kept_apart(
    pipeline: Pipeline,
) -> None:
    """Their records have the same coordinates, and some the same bytes."""
    write(pipeline, refused(1), refused(2), b"garbage", b"garbage", b"garbage")
    pipeline.run("consume", "--until-end")
    recreate_topic(pipeline)
    write(pipeline, refused(3), refused(4), b"garbage", encoded(5), encoded(6))
    pipeline.run("consume", "--until-end")
    assert len(letters(pipeline)) == 8
    counts = json.loads(pipeline.run("dlq", "stats", "--json").stdout)
    assert (counts["total"], counts["recovered"], counts["other_groups"]) == (8, 0, 0)
    dry = json.loads(pipeline.run("dlq", "replay", "--dry-run", "--json").stdout)
    assert dry["total"] == 8
    trace = json.loads(pipeline.run("trace", event_id(4), "--json").stdout)
    assert [row["event_id"] for row in trace["dead_letters"]] == [event_id(4)]
    assert (verify(pipeline, 0)["dead_letters"], pipeline.count()) == (3, 2)

    empty_index(pipeline, today(pipeline))
    lost = verify(pipeline, 7)
    assert {row["event_id"] for row in lost["lost"]} == {event_id(5), event_id(6)}
    assert lost["dead_letters"] == 3, "an old letter at the same offset hides no loss"

    # The mapping is mended, and each event gets its own document.
    mapping = {"mappings": {"properties": {"stream": {"type": "keyword"}}}}
    empty_index(pipeline, today(pipeline), json=mapping)
    assert json.loads(pipeline.run("dlq", "replay", "--yes", "--json").stdout)["indexed"] == 4
    assert set(pipeline.documents()) == {event_id(seed) for seed in (1, 2, 3, 4)}
    assert sum(row["recovered"] for row in letters(pipeline)) == 4


def test_two_groups_that_share_a_dead_letter_topic_see_their_own_letters(
    pipeline: Pipeline,
) -> None:
    write(pipeline, refused(1), encoded(2), encoded(3), b"garbage")
    pipeline.run("consume", "--until-end")
    green = f"{pipeline.index}-green"
    pipeline.environment |= {"LLMLOG_GROUP": green, "LLMLOG_INDEX": green}
    pipeline.run("setup")
    mapping = {"mappings": {"properties": {"model": {"type": "long"}}}}
    index = daily_index(green, event(0)["start_time_ms"])
    empty_index(pipeline, index, json=mapping)
    pipeline.run("consume", "--until-end")
    own = letters(pipeline)
    assert {row["group"] for row in own} == {green}
    assert len(own) == 4
    assert len(letters(pipeline, "--all-groups")) == 6
    listed = pipeline.run("dlq", "stats")
    assert listed.stdout.startswith("4 dead letters")
    assert f"2 letters of other consumer groups left out: {pipeline.group}" in listed.stderr
    assert verify(pipeline, 0)["dead_letters"] == 4

    pipeline.environment |= {"LLMLOG_GROUP": pipeline.group, "LLMLOG_INDEX": pipeline.index}
    empty_index(pipeline, today(pipeline))
    lost = verify(pipeline, 7)
    assert {row["event_id"] for row in lost["lost"]} == {event_id(2), event_id(3)}
    assert (lost["dead_letters"], lost["lost_count"]) == (2, 2)
    assert "4 letters of other consumer groups left out" in lost["said"]
    dry = pipeline.run("dlq", "replay", "--dry-run", "--json")
    assert json.loads(dry.stdout)["total"] == 2


def test_verify_and_trace_look_where_users_look(pipeline: Pipeline) -> None:
    index = today(pipeline)
    write(pipeline, *(encoded(seed) for seed in range(20)))
    pipeline.run("consume", "--until-end")
    assert verify(pipeline, 0)["documents"] == 20

    # What a snapshot leaves that is restored under another name.
    block = {"index.blocks.write": True}
    ask(pipeline, "PUT", f"{index}/_settings", json=block)
    copy = {"settings": {"index.blocks.write": None}, "aliases": {pipeline.index: {}}}
    ask(pipeline, "PUT", f"{index}/_clone/restored-{index}", json=copy)
    doubled = verify(pipeline, 7)
    assert (doubled["documents"], doubled["doubled_count"]) == (20, 20)
    assert doubled["doubled"][0]["indices"] == [f"restored-{index}", index]
    call_id = payload(3)["litellm_call_id"]
    assert "doubled" in pipeline.run("trace", call_id).stdout.splitlines()[0]

    # Only the copy is left of these, and only the day's index of those.
    ask(pipeline, "DELETE", f"restored-{index}/_doc/{event_id(7)}")
    remove = {"actions": [{"remove": {"index": index, "alias": pipeline.index}}]}
    ask(pipeline, "POST", "_aliases", json=remove)
    hidden = verify(pipeline, 7)
    assert hidden["not_behind_alias"] == [{"index": index, "events": 1}]
    assert (hidden["lost_count"], hidden["doubled_count"]) == (0, 0)
    said = pipeline.run("verify", check=False).stdout
    assert f"1 event found in {index}, which is not behind {pipeline.index}: users do not" in said
    traced = pipeline.run("trace", event_id(7)).stdout
    assert f"not behind {pipeline.index}" in traced

    # Without an index of its day, a restored one has the documents.
    ask(pipeline, "DELETE", f"{index}")
    left = verify(pipeline, 7)
    assert (left["documents"], left["lost_count"]) == (19, 1)
    ask(pipeline, "DELETE", f"restored-{index}")


@pytest.mark.parametrize("fault", ["closed", "blocked", "without its shard"])
def test_what_cannot_be_looked_up_is_unknown_and_its_index_is_named(
    pipeline: Pipeline, fault
) -> None:
    index = today(pipeline)
    write(pipeline, *(encoded(seed) for seed in range(5)), b"garbage")
    pipeline.run("consume", "--until-end")
    if fault == "closed":
        ask(pipeline, "POST", f"{index}/_close")
    elif fault == "blocked":
        block = {"index.blocks.read": True}
        ask(pipeline, "PUT", f"{index}/_settings", json=block)
    else:
        nowhere = {"settings": {"index.routing.allocation.require._name": "no such node"}}
        ask(pipeline, "DELETE", f"{index}")
        at_once = {"wait_for_active_shards": 0}
        ask(pipeline, "PUT", f"{index}", json=nowhere, params=at_once)
    pipeline.environment["LLMLOG_COMMAND_PATIENCE"] = "3 s"
    counted = verify(pipeline, 4)
    assert (counted["unknown_count"], counted["lost_count"], counted["dead_letters"]) == (5, 0, 1)
    assert counted["unknown"][0]["why"].startswith(f"index {index} ")
    assert f"index {index} " in counted["said"]
    assert [row["recovered"] for row in letters(pipeline)] == [False]


def test_verify_without_the_right_to_refresh_waits_and_calls_nothing_lost(
    pipeline: Pipeline,
) -> None:
    error = {"type": "security_exception", "reason": "action [indices:admin/refresh] is denied"}

    def refuse(_method: str, path: str) -> tuple[int, dict[str, Any]] | None:
        return (403, {"error": error, "status": 403}) if "_refresh" in path else None

    write(pipeline, *(encoded(seed) for seed in range(50)))
    slow = {"index.refresh_interval": "2s"}
    ask(pipeline, "PUT", f"{today(pipeline)}/_settings", json=slow)
    pipeline.run("consume", "--until-end")
    with in_front_of(pipeline.elasticsearch, refuse) as url:
        pipeline.environment["LLMLOG_ELASTICSEARCH_URL"] = url
        counted = verify(pipeline, 0)
    assert (counted["documents"], counted["lost_count"]) == (50, 0)
    assert "may not refresh" in counted["said"]


def test_recovered_is_one_truth_for_letters_of_every_stage(pipeline: Pipeline) -> None:
    """The registry did not know an id; it is told, and the letters are replayed."""
    values = [Encoder(7).encode(event(seed)) for seed in (1, 2)]
    known = Encoder(8).encode(event(4))
    write(pipeline, *values, known, encoded(3, document=b"[1]"), b"garbage")
    with schema_registry(7) as url:
        pipeline.environment["LLMLOG_SCHEMA_REGISTRY_URL"] = url
        pipeline.run("consume", "--until-end")
    first = {row["event_id"]: row for row in letters(pipeline)}
    assert not any(row["recovered"] for row in first.values())
    with schema_registry() as url:
        pipeline.environment["LLMLOG_SCHEMA_REGISTRY_URL"] = url
        done = json.loads(pipeline.run("dlq", "replay", "--yes", "--json").stdout)
        assert (done["indexed"], done["dead"]) == (2, 2)
        rows = letters(pipeline)
        assert {row["event_id"]: row["recovered"] for row in rows} == {
            event_id(1): True,
            event_id(2): True,
            event_id(3): False,
            None: False,
        }
        one = next(row for row in rows if row["event_id"] == event_id(1))
        assert "recovered: yes" in pipeline.run("dlq", "show", one["coordinates"]).stdout
        assert json.loads(pipeline.run("dlq", "stats", "--json").stdout)["recovered"] == 2
        dry = json.loads(pipeline.run("dlq", "replay", "--dry-run", "--json").stdout)
        assert sum(row["already_indexed"] for row in dry["fingerprints"]) == 2
        counted = verify(pipeline, 0)
        assert (counted["recovered"], counted["dead_letters"]) == (2, 2)


def test_an_event_that_was_sent_twice_has_one_letter_and_a_conflict_is_counted(
    pipeline: Pipeline,
) -> None:
    write(pipeline, refused(1), refused(1), encoded(2), encoded(3), encoded(3, document=b'{"a":1}'))
    pipeline.run("consume", "--until-end")
    (letter,) = letters(pipeline)
    assert letter["event_id"] == event_id(1)
    pipeline.run("dlq", "replay", "--yes", "--to-topic")
    pipeline.run("consume", "--until-end")
    assert len(letters(pipeline)) == 1, "also after it went onto the topic again, and failed"
    counted = verify(pipeline, 7)
    assert (counted["events"], counted["lost_count"], counted["conflict_count"]) == (3, 0, 1)
    assert counted["conflict"][0]["event_id"] == event_id(3)
    assert f"conflict: {event_id(3)}" in pipeline.run("verify", check=False).stdout


def test_a_mirrored_topic_and_its_mirrored_letters_verify(pipeline: Pipeline) -> None:
    """The mirror has other names and offsets, and the same records."""
    write(pipeline, b"not mirrored", refused(1), encoded(2), b"garbage", b"garbage")
    pipeline.run("consume", "--until-end")
    mirror = f"mirror.{pipeline.topic}"
    pipeline.environment |= {"LLMLOG_TOPIC": mirror}
    pipeline.run("setup")
    copy(pipeline, pipeline.topic, mirror, first=1)
    copy(pipeline, f"{pipeline.topic}.dlq", f"{mirror}.dlq")
    group = Consumer({"bootstrap.servers": bootstrap(pipeline), "group.id": pipeline.group})
    group.commit(offsets=[TopicPartition(mirror, 0, 4)], asynchronous=False)
    group.close()
    counted = verify(pipeline, 0)
    assert (counted["events"], counted["documents"], counted["dead_letters"]) == (4, 1, 3)


def copy(pipeline: Pipeline, source: str, target: str, first: int = 0) -> None:
    """Copy the first partition of a topic, as MirrorMaker does."""
    reader = Consumer(
        {
            "bootstrap.servers": bootstrap(pipeline),
            "group.id": f"{pipeline.group}-mirror",
            "enable.partition.eof": True,
        }
    )
    reader.assign([TopicPartition(source, 0, first)])
    producer = Producer({"bootstrap.servers": bootstrap(pipeline)})
    while not (message := reader.poll(30)).error():
        producer.produce(
            target, message.value(), message.key(), partition=0, headers=message.headers(),
            timestamp=message.timestamp()[1],
        )  # fmt: skip
    assert producer.flush(30) == 0
    reader.close()


def test_letters_of_spring_and_kafka_streams_are_read_with_their_cause(pipeline: Pipeline) -> None:
    def spring(number: int) -> list[tuple[str, bytes]]:
        return [
            ("kafka_dlt-original-topic", b"orders"),
            ("kafka_dlt-original-partition", struct.pack(">i", 4)),
            ("kafka_dlt-original-offset", struct.pack(">q", number)),
            ("kafka_dlt-exception-cause-fqcn", b"org.example.DataException"),
            ("kafka_dlt-exception-message", b"no such customer"),
        ]

    streams = [
        ("__streams.errors.topic", b"orders"),
        ("__streams.errors.partition", b"4"),
        ("__streams.errors.offset", b"7"),
        ("__streams.errors.exception", b"SerializationException"),
        ("__streams.errors.message", b"unknown magic byte"),
    ]
    broken = [("kafka_dlt-original-offset", b"\xff"), ("__streams.errors.offset", None)]
    producer = Producer({"bootstrap.servers": bootstrap(pipeline)})
    for headers in (spring(5), spring(5), streams, broken):
        producer.produce(f"{pipeline.topic}.dlq", encoded(1), headers=headers, partition=0)
    assert producer.flush(30) == 0
    rows = letters(pipeline)
    assert [(row["writer"], row["exception"]) for row in rows] == [
        ("streams", None),
        ("streams", "SerializationException: unknown magic byte"),
        ("spring", "org.example.DataException: no such customer"),
    ]
    assert rows[-1]["source"] == {"topic": "orders", "partition": 4, "offset": 5}
    assert json.loads(pipeline.run("dlq", "stats", "--json").stdout)["total"] == 3
    shown = pipeline.run("dlq", "show", rows[-1]["coordinates"]).stdout
    assert "no such customer" in shown
    assert len(pipeline.run("dlq", "export").stdout.splitlines()) == 3
