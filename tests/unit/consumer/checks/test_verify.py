"""What `verify` reads, round by round, and what it accepts as the end of an event."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace

import pytest

from llmlog_common.errors import ElasticsearchUnreachable, KafkaError
from llmlog_common.settings import load
from llmlog_consumer.checks.doctor.canary import HEADER, new_event
from llmlog_consumer.checks.event_files import GROUPS
from llmlog_consumer.checks.proof import Proof
from llmlog_consumer.checks.verify import Scope, Verifier
from llmlog_consumer.elasticsearch.lookup import Limits
from llmlog_consumer.kafka.gaps import Gap
from llmlog_schemas.codec import Encoder, UnknownSchemaError, schema_text
from support.fakes.checks import (
    SETTINGS,
    TODAY,
    FakeElastic,
    FakeKafka,
    FakeSources,
    deployment,
    letter_of,
)
from support.messages import Message
from support.payloads import encoded, event

TOPIC = SETTINGS.topic


def event_id(seed: int) -> str:
    return event(seed)["event_id"]


def records(*seeds: int, first: int = 0) -> list[Message]:
    """Return records of one partition with consecutive offsets."""
    return [
        Message(partition_=0, offset_=first + number, value_=encoded(seed))
        for number, seed in enumerate(seeds)
    ]


def settled(number: int) -> FakeKafka:
    """Return a topic of one partition whose records are all settled."""
    return FakeKafka({0: (0, number)}, {0: number})


def indexed(*seeds: int, index: str = TODAY) -> FakeElastic:
    elastic = FakeElastic()
    for seed in seeds:
        elastic.index(index, event_id(seed))
    return elastic


def verify(sources: FakeSources, **options) -> Proof:
    verifier = Verifier(sources, **options)
    return verifier.verify(verifier.scope())


# The scope of a round


def test_a_round_begins_where_the_round_before_ended():
    verifier = Verifier(deployment(FakeKafka({0: (0, 900), 1: (0, 5)}, {0: 800, 1: 5})))
    following = verifier.next_scope(Scope({0: (0, 500)}))
    assert following == Scope({0: (500, 800), 1: (0, 5)})


def test_a_topic_recreated_between_two_rounds_is_verified_from_its_start():
    verifier = Verifier(deployment(FakeKafka({0: (0, 90), 1: (3, 5)}, {0: 80, 1: 5})))
    following = verifier.next_scope(Scope({0: (100, 500), 1: (0, 3)}))
    assert following.ranges == {0: (0, 80), 1: (3, 5)}
    assert following.restarted == (0,)


def test_a_round_without_news_verifies_nothing_again():
    verifier = Verifier(deployment(FakeKafka({0: (0, 90)}, {0: 80})))
    assert verifier.next_scope(Scope({0: (0, 80)})) == Scope({0: (80, 80)})


def test_a_partition_that_was_added_since_and_is_still_empty_has_not_restarted():
    verifier = Verifier(deployment(FakeKafka({0: (0, 5), 1: (0, 0)}, {0: 5})))
    following = verifier.next_scope(Scope({0: (0, 5)}))
    assert following == Scope({0: (5, 5), 1: (0, 0)})


def test_a_later_round_sees_gaps_that_are_new():
    verifier = Verifier(deployment(FakeKafka({0: (50, 90)}, {0: 20})))
    following = verifier.next_scope(Scope({0: (0, 20)}))
    assert [gap["next"] for gap in following.unaccepted_gaps] == [50]


def test_records_beyond_the_committed_offset_are_not_verified():
    kafka, elastic = FakeKafka({0: (0, 4)}, {0: 3}), indexed(1, 2, 3)
    sources = deployment(kafka, elastic, records=records(1, 2, 3, 4))
    assert Verifier(sources).scope().ranges == {0: (0, 3)}
    proof = verify(sources)
    assert (proof.records, proof.events, proof.lost_count, proof.ok) == (3, 3, 0, True)


def test_a_partition_without_a_committed_offset_has_nothing_to_verify():
    scope = Verifier(deployment(FakeKafka({0: (4, 9), 1: (0, 5)}, {1: 5}))).scope()
    assert scope.ranges == {0: (4, 4), 1: (0, 5)}


def test_since_and_until_narrow_what_is_verified():
    kafka = FakeKafka({0: (0, 90)}, {0: 80}, first_at={1_000: {0: 30}, 2_000: {0: 60}})
    verifier = Verifier(deployment(kafka))
    assert verifier.scope(since_ms=1_000).ranges == {0: (30, 80)}
    assert verifier.scope(until_ms=2_000).ranges == {0: (0, 60)}
    assert verifier.scope(since_ms=1_000, until_ms=2_000).ranges == {0: (30, 60)}


def test_until_later_than_the_committed_offset_stays_at_the_committed_offset():
    kafka = FakeKafka({0: (0, 90)}, {0: 80}, first_at={1_000: {0: 85}})
    assert Verifier(deployment(kafka)).scope(until_ms=1_000).ranges == {0: (0, 80)}


def test_a_group_that_has_committed_nothing_is_an_error_unless_the_topic_is_empty():
    with pytest.raises(KafkaError) as refusal:
        Verifier(deployment(FakeKafka({0: (0, 9)}))).scope()
    assert str(refusal.value) == (
        f"group {SETTINGS.group} has committed nothing of {TOPIC}: there is nothing to verify yet; "
        "check LLMLOG_GROUP, or run `pipeline consume`"
    )
    assert Verifier(deployment(FakeKafka({0: (9, 9)}))).scope().ranges == {0: (9, 9)}


def test_a_log_that_ends_before_the_committed_offset_was_recreated_and_nothing_of_it_is_settled():
    """Its records wait for `offsets accept-gap`; they are not lost."""
    scope = Verifier(deployment(FakeKafka({0: (0, 50), 1: (0, 5)}, {0: 1000, 1: 5}))).scope()
    assert scope.ranges == {0: (0, 0), 1: (0, 5)}
    assert [gap["first"] for gap in scope.unaccepted_gaps] == [1000]


@pytest.mark.parametrize("later_end", [70, 90])
def test_records_written_and_settled_during_the_questions_are_no_recreated_topic(later_end):
    kafka = FakeKafka({0: (0, 50)}, {0: 70}, later_logs={0: (0, later_end)})
    assert Verifier(deployment(kafka)).scope() == Scope({0: (0, 50)})


def test_only_a_log_that_ends_before_the_committed_offset_is_asked_for_again():
    """Each question is a request to the broker."""
    kafka = FakeKafka({0: (0, 50), 1: (0, 60), 2: (0, 70)}, {0: 51, 1: 60, 2: 1})
    Verifier(deployment(kafka)).scope()
    assert kafka.questions == [[0]]


# Gaps


def test_records_deleted_before_they_were_settled_are_a_difference_until_the_gap_is_accepted():
    kafka = FakeKafka({0: (7, 8)}, {0: 5})
    proof = verify(deployment(kafka))
    assert proof.unaccepted_gaps == [{"partition": f"{TOPIC}/0", "first": 5, "next": 7}]
    assert not proof.ok

    kafka.accepted = {0: [Gap(5, 7, 1_769_860_000_000)]}
    proof = verify(deployment(kafka))
    assert proof.ok
    assert proof.accepted_gaps == [
        {
            "partition": f"{TOPIC}/0",
            "first": 5,
            "next": 7,
            "records": 2,
            "accepted_at": "2026-01-31T11:46:40+00:00",
        }
    ]


def test_a_gap_that_was_accepted_before_does_not_cover_a_new_one():
    kafka = FakeKafka({0: (70, 80)}, {0: 50}, accepted={0: [Gap(5, 7, 1)]})
    assert not verify(deployment(kafka)).ok


def test_the_gaps_of_all_partitions_are_listed_also_one_whose_number_of_records_is_unknown():
    """A topic that was recreated begins again at 0: the gap ends before it begins."""
    gaps = {0: [Gap(5, 7, 1), Gap(9, 12, 2)], 1: [Gap(1000, 0, 3)]}
    proof = verify(deployment(FakeKafka({0: (20, 20), 1: (0, 0)}, {0: 20, 1: 0}, accepted=gaps)))
    assert [(gap["partition"], gap["first"], gap["records"]) for gap in proof.accepted_gaps] == [
        (f"{TOPIC}/0", 5, 2),
        (f"{TOPIC}/0", 9, 3),
        (f"{TOPIC}/1", 1000, 0),
    ]


def test_a_group_that_stands_at_the_start_of_the_log_has_no_gap():
    assert verify(deployment(FakeKafka({0: (7, 7)}, {0: 7}))).ok


def test_offsets_that_retention_deletes_while_the_topic_is_read_are_counted():
    kafka = FakeKafka({0: (2, 20), 1: (0, 3), 2: (4, 9)}, {0: 8, 1: 3, 2: 4})
    kafka.later_logs = {0: (7, 20), 1: (50, 50)}
    proof = verify(deployment(kafka, indexed(1), records=records(1, first=7)))
    assert (proof.records, proof.documents, proof.deleted_while_reading) == (1, 1, 5 + 3)
    assert proof.ok


# How an event ended


def test_an_event_with_neither_document_nor_letter_is_lost():
    proof = verify(deployment(settled(2), indexed(1), records=records(1, 2)))
    assert (proof.events, proof.documents, proof.lost_count, proof.ok) == (2, 1, 1, False)
    (lost,) = proof.lost
    assert lost["event_id"] == event_id(2)
    assert lost["coordinates"] == [f"{TOPIC}/0/1"]
    assert lost["day"].endswith("T00:00:00+00:00")


def test_an_event_with_a_letter_is_dead_and_with_a_document_too_recovered():
    letters = [letter_of(TOPIC, 0, 0), letter_of(TOPIC, 0, 1)]
    proof = verify(deployment(settled(2), indexed(1), records=records(1, 2), letters=letters))
    assert (proof.documents, proof.dead_letters, proof.recovered) == (1, 1, 1)
    assert proof.ok


def test_a_letter_of_another_topic_does_not_end_an_event_of_this_one():
    """Several topics may share one dead-letter topic."""
    letters = [letter_of("other-logs", 0, 0)]
    proof = verify(deployment(settled(1), records=records(1), letters=letters))
    assert (proof.dead_letters, proof.lost_count, proof.ok) == (0, 1, False)


@pytest.mark.parametrize("place", [(1, 0), (0, 1)])
def test_a_letter_of_another_record_does_not_end_this_one(place):
    letters = [letter_of(TOPIC, *place)]
    proof = verify(deployment(settled(1), records=records(1), letters=letters))
    assert proof.lost_count == 1


def letter_with(value: bytes | None, *, offset: int = 99, **headers: str) -> Message:
    """Return a letter of another place on the topic that holds this value."""
    letter = letter_of(headers.pop("topic", TOPIC), 0, offset, **headers)
    letter.value_ = value
    return letter


@pytest.mark.parametrize("topic", [TOPIC, "mirror.logs"])
@pytest.mark.parametrize("stage", ["decode", "transform", "index"])
def test_the_letter_of_an_event_is_found_by_the_events_id_wherever_its_record_lay(topic, stage):
    """A topic may be recreated, mirrored, or have the event a second time."""
    letter = letter_with(encoded(1), topic=topic, stage=stage)
    letter.key_ = b"any key"
    proof = verify(deployment(settled(1), records=records(1), letters=[letter]))
    assert (proof.dead_letters, proof.ok) == (1, True)


def test_the_letter_of_a_truncated_event_is_found_by_its_id():
    value = encoded(1)
    letter = letter_with(value[:60], stage="oversize", **{"truncated.length": str(len(value))})
    assert verify(deployment(settled(1), records=records(1), letters=[letter])).dead_letters == 1


@pytest.mark.parametrize(
    "letter",
    [
        letter_with(encoded(2), offset=0, stage="index"),
        letter_with(encoded(1)[:-400], offset=99, stage="decode"),
        letter_with(b"\x00\x00\x00\x00\x07" + encoded(1)[10:], offset=99, stage="decode"),
        letter_with(b"garbage", offset=0, stage="decode", timestamp="1"),
        letter_with(b"garbage", offset=0, stage="decode", topic="other"),
        letter_with(encoded(1), stage="index", group="another group"),
        letter_with(b"garbage", offset=0, stage="decode", group="another group"),
    ],
    ids=[
        "another event at this place",
        "half of the event",
        "the event under a schema that is not known",
        "a record of the topic as it was before it was recreated",
        "a record of another topic",
        "the event, in another group",
        "this place, in another group",
    ],
)
def test_a_letter_of_something_else_does_not_hide_a_loss(letter):
    letter.key_ = event_id(1).encode()
    proof = verify(deployment(settled(1), records=records(1), letters=[letter]))
    assert (proof.dead_letters, proof.lost_count, proof.ok) == (0, 1, False)


@pytest.mark.parametrize("prefix", ["__connect.errors.", "__streams.errors."])
def test_a_letter_of_another_program_does_not_hide_a_loss(prefix):
    letter = letter_with(encoded(1))
    place = {"topic": TOPIC, "partition": "0", "offset": "0"}
    letter.headers_ = [(prefix + name, value.encode()) for name, value in place.items()]
    assert verify(deployment(settled(1), records=records(1), letters=[letter])).lost_count == 1


def test_letters_of_other_groups_are_counted_in_a_note():
    letters = [letter_of(TOPIC, 0, n, group="blue") for n in range(3)]
    proof = verify(deployment(settled(1), indexed(1), records=records(1), letters=letters))
    assert proof.notes == ["3 letters of other consumer groups left out: blue"]
    assert proof.ok


def garbage(*offsets: int, value: bytes | None = b"garbage") -> list[Message]:
    return [Message(partition_=0, offset_=offset, value_=value) for offset in offsets]


@pytest.mark.parametrize("value", [b"garbage", None])
def test_on_a_mirrored_topic_a_letter_without_an_event_is_found_by_time_and_value(value):
    """Each ends one record, however often it was written."""
    letters = [letter_with(value, offset=n, topic="origin", stage="decode") for n in (70, 71, 71)]
    proof = verify(deployment(settled(3), records=garbage(0, 1, 2, value=value), letters=letters))
    assert (proof.dead_letters, proof.lost_count) == (2, 1)


def test_on_a_mirrored_topic_a_truncated_letter_is_found_by_its_digest():
    digest = hashlib.sha256(b"garbage").hexdigest()
    truncated = {"truncated.sha256": digest, "truncated.length": "7"}
    letter = letter_with(b"gar", topic="origin", stage="decode", **truncated)
    proof = verify(deployment(settled(1), records=garbage(0), letters=[letter]))
    assert (proof.dead_letters, proof.lost_count) == (1, 0)


def test_two_records_of_one_event_with_different_documents_are_in_conflict():
    """Only one of them is in the index."""
    topic = [*records(1), *records(1, first=1)]
    topic[1].value_ = encoded(1, document=b'{"another":1}')
    proof = verify(deployment(settled(2), indexed(1), records=topic))
    assert (proof.events, proof.documents, proof.conflict_count) == (1, 1, 1)
    assert proof.conflict[0]["event_id"] == event_id(1)
    assert proof.conflict[0]["coordinates"] == [f"{TOPIC}/0/0", f"{TOPIC}/0/1"]
    assert not proof.ok


def test_a_record_whose_schema_the_registry_has_is_read():
    class FakeRegistry:
        def schema_text(self, schema_id):
            assert schema_id == 7
            return schema_text()

    record = Message(partition_=0, offset_=0, value_=Encoder(schema_id=7).encode(event(1)))
    sources = deployment(settled(1), indexed(1), records=[record], registry=FakeRegistry())
    proof = verify(sources)
    assert (proof.documents, proof.lost_count) == (1, 0)


class _EmptyRegistry:
    def schema_text(self, schema_id):
        raise UnknownSchemaError(f"knows no schema {schema_id}")


@pytest.mark.parametrize(
    ("registry", "why"),
    [(None, "set LLMLOG_SCHEMA_REGISTRY_URL"), (_EmptyRegistry(), "knows no schema 7")],
)
def test_a_record_whose_schema_is_not_to_be_had_here_is_unknown_and_not_lost(registry, why):
    """The workers may have had it: whoever verifies has other settings, or a later registry."""
    value = Encoder(schema_id=7).encode(event(1))
    record = Message(partition_=0, offset_=0, value_=value)
    proof = verify(deployment(settled(1), indexed(1), records=[record], registry=registry))
    assert (proof.lost_count, proof.unknown_count, proof.ok) == (0, 1, False)
    assert why in proof.unknown[0]["why"]
    letter = letter_of(TOPIC, 0, 0)
    proof = verify(deployment(settled(1), records=[record], letters=[letter], registry=registry))
    assert (proof.dead_letters, proof.unknown_count, proof.ok) == (1, 0, True)


@pytest.mark.parametrize("value", [b"garbage", None, encoded(1, event_id="short")])
def test_a_record_that_holds_no_event_has_to_have_a_letter(value):
    record = Message(partition_=0, offset_=0, value_=value)
    proof = verify(deployment(settled(1), records=[record], letters=[letter_of(TOPIC, 0, 0)]))
    assert (proof.events, proof.dead_letters, proof.ok) == (1, 1, True)
    proof = verify(deployment(settled(1), records=[record]))
    assert (proof.events, proof.lost_count, proof.ok) == (1, 1, False)
    assert proof.lost[0]["event_id"] is None
    assert proof.lost[0]["coordinates"] == [f"{TOPIC}/0/0"]


def test_an_event_that_was_sent_twice_is_one_event():
    proof = verify(deployment(settled(2), indexed(1), records=records(1, 1)))
    assert (proof.records, proof.events, proof.documents, proof.ok) == (2, 1, 1, True)


def test_a_letter_of_either_record_ends_an_event_that_was_sent_twice():
    letters = [letter_of(TOPIC, 0, 0)]
    proof = verify(deployment(settled(2), records=records(1, 1), letters=letters))
    assert (proof.dead_letters, proof.lost_count) == (1, 0)


def test_an_event_with_documents_in_two_indices_is_doubled():
    elastic = indexed(1)
    elastic.index("logs-2021.01.01", event_id(1))
    proof = verify(deployment(settled(1), elastic, records=records(1)))
    assert (proof.documents, proof.doubled_count, proof.ok) == (1, 1, False)
    assert proof.doubled[0]["indices"] == ["logs-2021.01.01", TODAY]


def test_a_lost_event_is_named_with_the_places_of_all_its_records():
    proof = verify(deployment(settled(2), records=records(1, 1)))
    assert [row["coordinates"] for row in proof.lost] == [[f"{TOPIC}/0/0", f"{TOPIC}/0/1"]]


def test_an_event_older_than_the_limit_is_retired_and_a_younger_one_is_lost():
    sources = deployment(settled(1), records=records(1))
    age = SETTINGS.max_event_age.total_seconds()
    now = time.time()
    assert verify(sources, clock=lambda: now + age - 7200).lost_count == 1
    proof = verify(sources, clock=lambda: now + age + 7200)
    assert (proof.retired, proof.lost_count, proof.ok) == (1, 0, True)


def placed(seed: int, place: str, offset: int = 0) -> Message:
    """Return the record of an event with this period and group."""
    value = Encoder().encode({**event(seed), "index_place": place})
    return Message(partition_=0, offset_=offset, value_=value)


@pytest.mark.parametrize("index", [f"{TODAY}-pay", f"{TODAY[:-3]}-pay"])
def test_a_document_of_a_group_is_found_and_a_second_one_elsewhere_is_doubled(index):
    elastic = indexed(1, index=index)
    place = "-pay" if index.startswith(TODAY) else "month-pay"
    proof = verify(deployment(settled(1), elastic, records=[placed(1, place)]))
    assert (proof.documents, proof.ok) == (1, True)
    elastic.index(TODAY, event_id(1))
    proof = verify(deployment(settled(1), elastic, records=[placed(1, place)]))
    assert (proof.documents, proof.doubled_count) == (1, 1)


def test_an_event_is_retired_by_the_greatest_age_of_its_group():
    settings = load(environ={"LLMLOG_INDEX": "logs", "LLMLOG_GROUP_MAX_EVENT_AGE": "pay=1 day"})
    messages = [placed(seed, place, seed - 1) for seed, place in ((1, ""), (2, "-pay"), (3, "-b"))]
    sources = deployment(settled(3), records=messages)
    later = time.time() + 2 * 86400
    proof = verify(replace(sources, settings=settings), clock=lambda: later)
    assert (proof.retired, proof.lost_count) == (1, 2)
    assert event_id(2) not in {row["event_id"] for row in proof.lost}


def test_a_closed_index_of_one_group_makes_no_event_of_another_unknown():
    elastic = FakeElastic()
    elastic.closed = {f"{TODAY}-pay"}
    proof = verify(deployment(settled(2), elastic, records=[placed(1, ""), placed(2, "-pay", 1)]))
    assert (proof.lost_count, proof.unknown_count) == (1, 1)


# What Elasticsearch is asked


def test_a_document_of_another_deployment_does_not_count():
    """The names of its indices begin alike."""
    for index in ("logs-v2-2026.01.31", "logs-staging", "other-2026.01.31"):
        elastic = indexed(1, index=index)
        proof = verify(deployment(settled(1), elastic, records=records(1)))
        assert (proof.documents, proof.lost_count) == (0, 1), index


def test_documents_that_were_indexed_a_moment_ago_are_found():
    elastic = indexed(1)
    assert verify(deployment(settled(1), elastic, records=records(1))).ok
    paths = [path for _, path in elastic.asked]
    assert paths == ["/_alias/logs", "/logs-2*/_refresh", "/logs-2*/_search"]


def same_group(number: int) -> list[str]:
    """Return event ids that are looked up together."""
    return [f"AZtXgOIAPqM4wrx7{letter}CkA" for letter in "abcdefghijklmnopqrst"[:number]]


@pytest.mark.parametrize("limits", [Limits(), Limits(ids=7), Limits(ids=1), Limits(hits=3)])
def test_every_document_is_found_however_many_are_looked_up_at_once(limits):
    """Elasticsearch returns ten hits unless more are asked for."""
    ids, elastic = same_group(20), FakeElastic()
    values = [encoded(number, event_id=name) for number, name in enumerate(ids)]
    topic = [Message(partition_=0, offset_=o, value_=value) for o, value in enumerate(values)]
    for name in ids:
        elastic.index(TODAY, name)
    proof = verify(deployment(settled(20), elastic, records=topic), limits=limits)
    assert (proof.records, proof.documents, proof.lost_count) == (20, 20, 0)


def test_a_search_asks_where_the_documents_are_and_not_what_they_hold():
    """The documents of one search may be gigabytes."""
    elastic = indexed(1)
    verify(deployment(settled(1), elastic, records=records(1)))
    ((body, params),) = elastic.searches
    assert (body["_source"], body["track_total_hits"]) == (False, False)
    assert params["filter_path"].startswith("hits.hits._id,hits.hits._index,_shards,timed_out")


def test_progress_is_told_after_each_group_of_events():
    told = []
    verify(deployment(settled(1), records=records(1), on_progress=lambda *step: told.append(step)))
    assert told == [("looking up", number, GROUPS) for number in range(1, GROUPS + 1)]


@pytest.mark.parametrize("fault", ["failing", "closed", "blocked"])
def test_what_cannot_be_looked_up_is_unknown_and_never_lost(fault):
    elastic = indexed(1, 2)
    elastic.index("logs-2021.01.01", "another")
    getattr(elastic, fault).add(TODAY)
    dead = letter_with(encoded(2), stage="index")
    proof = verify(deployment(settled(2), elastic, records=records(1, 2), letters=[dead]))
    assert (proof.lost_count, proof.unknown_count, proof.dead_letters) == (0, 1, 1)
    ((why, events),) = (row.values() for row in proof.unknown)
    assert why.startswith(f"index {TODAY} ")
    assert events == 1
    assert not proof.ok
    assert not proof.has_difference


def test_an_index_that_cannot_be_searched_hides_nothing_of_the_others():
    elastic = indexed(1)
    elastic.blocked = {"logs-2021.01.01"}
    elastic.failing = {"logs-2021.01.02"}
    proof = verify(deployment(settled(2), elastic, records=records(1, 2)))
    assert (proof.documents, proof.lost_count, proof.unknown_count) == (1, 1, 0)
    assert [note.split(" ")[1] for note in proof.notes] == ["logs-2021.01.01", "logs-2021.01.02"]


def test_a_search_that_was_broken_off_is_no_answer():
    elastic = indexed(1)
    elastic.timed_out = True
    with pytest.raises(ElasticsearchUnreachable, match="broke off a search"):
        verify(deployment(settled(1), elastic, records=records(1)))


# Where users look


def test_a_copy_in_another_index_behind_the_alias_doubles_the_event():
    """A restored snapshot has the alias of the index that was saved."""
    elastic = indexed(1)
    elastic.attached = {"restored"}
    elastic.index("restored", event_id(1))
    proof = verify(deployment(settled(1), elastic, records=records(1)))
    assert proof.doubled[0]["indices"] == [TODAY, "restored"]
    assert (proof.documents, proof.doubled_count, proof.ok) == (1, 1, False)


def test_an_event_whose_index_was_replaced_by_another_behind_the_alias_is_not_lost():
    elastic = FakeElastic()
    elastic.attached = {"restored"}
    elastic.index("restored", event_id(1))
    assert verify(deployment(settled(1), elastic, records=records(1))).ok


def test_a_copy_that_is_not_behind_the_alias_is_not_a_second_one():
    elastic = indexed(1)
    elastic.index("logs-2021.01.01", event_id(1))
    elastic.detached = {"logs-2021.01.01"}
    assert verify(deployment(settled(1), elastic, records=records(1))).ok


def test_documents_that_users_do_not_find_are_a_difference():
    elastic = indexed(1)
    elastic.detached = {TODAY}
    proof = verify(deployment(settled(1), elastic, records=records(1)))
    assert proof.not_behind_alias == [{"index": TODAY, "events": 1}]
    assert (proof.documents, proof.lost_count, proof.has_difference) == (1, 0, True)


def test_without_the_right_to_see_aliases_daily_indices_and_the_alias_are_searched():
    elastic = indexed(1)
    elastic.alias_status = 403
    assert verify(deployment(settled(1), elastic, records=records(1))).ok
    assert ("POST", "/logs-2*,logs/_search") in elastic.asked


# Without the right to refresh


def test_without_the_right_to_refresh_it_is_said_and_the_indexs_own_refresh_is_waited_for():
    elastic = indexed(1)
    elastic.refresh_status = 403
    elastic.refresh_interval = "7s"
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        elastic.refresh()

    proof = verify(deployment(settled(1), elastic, records=records(1)), sleep=sleep)
    assert (proof.documents, proof.lost_count) == (1, 0)
    assert waits == [8.0]
    assert "may not refresh the indices of logs" in proof.notes[0]


@pytest.mark.parametrize(("interval", "seconds"), [("-1", 6.0), ("10m", 60.0), ("200ms", 6.0)])
def test_the_wait_for_a_refresh_is_bounded_and_documents_are_found_without_it(interval, seconds):
    elastic = indexed(1)
    elastic.refresh_status = 403
    elastic.refresh_interval = interval
    waits = []
    proof = verify(deployment(settled(1), elastic, records=records(1)), sleep=waits.append)
    assert (proof.documents, proof.lost_count) == (1, 0)
    assert waits == [seconds]


# What an open transaction holds back


def held_back() -> FakeKafka:
    """Return a log of nine offsets, of which an open transaction holds back the last four."""
    return FakeKafka({0: (0, 9), 1: (0, 0)}, {0: 1}, stable_ends={0: 5})


def test_what_an_open_transaction_holds_back_is_named_and_nothing_is_said_to_be_proved():
    waits = []
    kafka = held_back()
    proof = verify(deployment(kafka, indexed(1), records=records(1)), sleep=waits.append)
    assert proof.held_back == [{"partition": f"{TOPIC}/0", "first": 5, "next": 9, "records": 4}]
    assert (proof.documents, proof.has_difference, proof.ok) == (1, False, False)
    assert sum(waits) == 5.0, "transactions at work have time to end"


def test_a_transaction_that_ends_meanwhile_holds_nothing_back():
    kafka = held_back()

    def sleep(_seconds):
        # Another one has begun behind all that was there when the round began.
        kafka.logs, kafka.stable_ends = {0: (0, 20), 1: (0, 0)}, {0: 9}

    proof = verify(deployment(kafka, indexed(1), records=records(1)), sleep=sleep)
    assert (proof.held_back, proof.ok) == ([], True)


def test_a_partition_that_loses_its_leader_meanwhile_does_not_stop_the_proof():
    kafka = held_back()
    verifier = Verifier(deployment(kafka, indexed(1), records=records(1)), sleep=lambda _: None)
    scope = verifier.scope()
    kafka.leaderless = frozenset({0})
    assert verifier.verify(scope).held_back == []


def test_records_that_were_written_later_than_asked_for_are_not_held_back():
    kafka = held_back()
    kafka.first_at = {7: {0: 5, 1: 0}}
    verifier = Verifier(deployment(kafka, indexed(1), records=records(1)), sleep=lambda _: None)
    assert verifier.verify(verifier.scope(until_ms=7)).held_back == []


def test_records_that_a_reset_has_skipped_are_skipped_and_not_lost():
    kafka = FakeKafka({0: (0, 3)}, {0: 3}, accepted={0: [Gap(1, 3, 1)]})
    proof = verify(deployment(kafka, indexed(1), records=records(1, 2, 3)))
    assert (proof.documents, proof.skipped, proof.lost_count, proof.ok) == (1, 2, 0, True)


def test_a_canary_is_left_out_and_a_header_alone_hides_no_lost_event():
    header = [(HEADER, b"1")]
    canary = new_event(time.time())
    some = [
        Message(partition_=0, offset_=0, value_=Encoder().encode(canary), headers_=header),
        Message(partition_=0, offset_=1, value_=encoded(1), headers_=header),
        Message(partition_=0, offset_=2, value_=encoded(2)),
    ]
    proof = verify(deployment(settled(3), indexed(2), records=some))
    assert [row["event_id"] for row in proof.lost] == [event_id(1)]
    assert proof.records == 3
    assert "1 canaries of `pipeline doctor --end-to-end` are left out" in proof.notes
