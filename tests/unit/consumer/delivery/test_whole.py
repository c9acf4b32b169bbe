"""The whole delivery before a cluster that breaks in parts: each record ends exactly once."""

import random
import time
from collections import Counter
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from llmlog_common.errors import Unreachable
from llmlog_consumer.delivery.limits import DeliveryLimits
from llmlog_consumer.delivery.pauses.index_pauses import HoldLimits
from llmlog_consumer.elasticsearch.index_names import DAY_MS, daily_index
from llmlog_schemas.codec import Encoder, schema_text
from llmlog_schemas.convert import to_event
from support.fakes.cluster import FAULTS, ITEM_ERRORS, WholeRig
from support.payloads import payload

PARTITIONS, RECORDS = 3, 24  # and records of each
PLACES = [(partition, offset) for partition in range(PARTITIONS) for offset in range(RECORDS)]
SCHEMA_ID = 1
NOW_MS = time.time() * 1000
INDICES = [daily_index("logs", NOW_MS - days * DAY_MS) for days in range(3)]  # newest first
LIMITS = DeliveryLimits(
    batch_operations=6, hold=HoldLimits(max_bytes=20_000, max_records_behind=15)
)
DAYS = {"yesterday": 1, "before": 2, "expired": 40}
KINDS = ["today"] * 5 + ["yesterday"] * 4 + ["before"] * 2 + ["framed", "expired", "rotten"]
OWN_FAULTS = ["none"] * 10 + ["refused", "disliked"]


@cache
def event_of(number, kind):
    started = NOW_MS / 1000 - DAYS.get(kind, 0) * 86_400 - number / 1000
    return to_event(payload(number, startTime=started))


@cache
def value_of(number, kind):
    value = Encoder(SCHEMA_ID if kind == "framed" else None).encode(event_of(number, kind))
    return b"rotten" + value if kind == "rotten" else value


partitions, indices = st.integers(0, PARTITIONS - 1), st.sampled_from(INDICES)
consume = st.tuples(st.just("consume"), partitions, st.integers(1, 12))
turn = st.tuples(st.just("turn"), st.sampled_from([0.0, 0.3, 2.0, 20.0, 100.0]), st.integers(0, 9))
fault = st.one_of(
    st.tuples(st.just("fault"), st.sampled_from(FAULTS), st.integers(1, 4)),
    st.tuples(st.just("outage"), st.sampled_from(["", "", *FAULTS]), st.none()),
    st.tuples(st.just("break"), indices, st.sampled_from(["", *ITEM_ERRORS])),
    st.tuples(st.just("delete"), indices, st.none()),
    st.tuples(st.just("template"), st.booleans(), st.none()),
    st.tuples(st.just("body"), st.sampled_from([400, 3_000, 1 << 30]), st.none()),
    st.tuples(st.just("release"), partitions, st.booleans()),
    st.tuples(st.just("assign"), partitions, st.none()),
    st.tuples(st.just("registry"), st.booleans(), st.none()),
    st.tuples(st.just("letters"), st.booleans(), st.none()),
)
plans = st.lists(st.one_of(consume, consume, turn, turn, fault), max_size=80)


def carry_out(rig, action, what, how):  # noqa: C901 - a line or two for each
    match action:
        case "consume":
            rig.consume(what, how)
        case "turn":
            rig.turn(what, how)
        case "fault":
            rig.cluster.faults += [what] * how
        case "outage":
            rig.cluster.outage = what
        case "break":
            rig.cluster.states |= {what: how}
        case "delete":
            rig.cluster.delete(what)
        case "template":
            rig.cluster.has_template = what
        case "body":
            rig.cluster.max_bytes = what
        case "release":
            rig.release(what, is_drained=how)
        case "assign":
            rig.assign(what)
        case "registry":
            rig.registry.answers[SCHEMA_ID] = schema_text() if what else Unreachable("away")
        case "letters":
            rig.letters.deliver = what


def check_whole(plan, seed):
    """Carry out a plan, mend all, and check that each record has ended once."""
    pick = random.Random(seed)
    kinds = {place: pick.choice(KINDS) for place in PLACES}
    numbers = {place: number for number, place in enumerate(PLACES)}
    logs = [
        [value_of(numbers[p], kinds[p]) for p in PLACES if p[0] == n] for n in range(PARTITIONS)
    ]
    rig = WholeRig(logs, INDICES[0], seed, LIMITS)
    rig.registry.answers[SCHEMA_ID] = schema_text()
    ids = {p: event_of(numbers[p], kinds[p])["event_id"] for p in PLACES if kinds[p] != "rotten"}
    for event_id in ids.values():
        own = pick.choice(OWN_FAULTS)
        if own == "disliked":
            rig.cluster.disliked[event_id] = 403
        elif own == "refused":
            rig.cluster.refused.add(event_id)
    for one in plan:
        carry_out(rig, *one)

    rig.mend()
    rig.registry.answers[SCHEMA_ID] = schema_text()
    for _ in range(600):
        for number in range(PARTITIONS):
            rig.consume(number, 10)
        rig.turn(7.0)
        if rig.is_done:
            break
    assert rig.is_done, (rig.delivery.unhealthy, rig.outcomes, rig.tracker.unsettled)
    rig.turn(20.0)
    assert rig.delivery.unhealthy == "", "nothing is left that waits"
    assert not rig.delivery.waiting(for_time=True).total()
    assert not rig.delivery.is_blocked
    assert not rig.delivery.is_stuck

    letters = Counter((one.record.partition(), one.record.offset()) for one in rig.letters.letters)
    for place in PLACES:
        event_id = ids.get(place, "")
        documents = rig.cluster.created[event_id]
        assert documents or letters[place], f"{place} is lost: {kinds[place]}"
        # A request without an answer tells nothing, and what is released is read again.
        if place not in rig.released and event_id not in rig.cluster.unsure:
            # A control of an index that was deleted is created once more, in the new one.
            assert bool(documents) + letters[place] == 1, f"{place} has ended twice: {kinds[place]}"


@given(plan=plans, seed=st.integers(0, 10**6))
@settings(max_examples=40)
def test_each_record_ends_once_whatever_breaks_and_all_end_once_it_is_mended(plan, seed):
    check_whole(plan, seed)


def test_a_refused_document_that_alone_is_held_does_not_keep_a_pause_for_ever():
    """All are refused for a while; then only one that is itself at fault is left as the probe."""
    plan = [
        ("outage", "403 page", None),
        *[("consume", partition, 12) for partition in range(PARTITIONS)],
        *[("turn", 20.0, 9)] * 60,
    ]
    for seed in range(5):
        check_whole(plan, seed)
