"""The filter of the `pipeline dlq` commands."""

import pytest

from llmlog_consumer.dead_letters.filters import MAX_GROUPS, Filter, GroupFilter
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.stats import Stats
from support.fakes.letters import HOUR_MS, REFUSED, new_letter
from support.payloads import encoded, event


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (Filter(), True),
        (Filter(since_ms=HOUR_MS), True),
        (Filter(since_ms=HOUR_MS + 1), False),
        (Filter(until_ms=HOUR_MS), False),
        (Filter(until_ms=HOUR_MS + 1), True),
        (Filter(stage="index"), True),
        (Filter(stage="decode"), False),
        (Filter(reason="FAILED TO PARSE"), True),
        (Filter(reason="for input"), True),
        (Filter(reason="document_parsing"), True),
        (Filter(reason="nothing of it"), False),
        (Filter(fingerprint=REFUSED.fingerprint), True),
        (Filter(fingerprint="000000000000"), False),
        (Filter(index="litellm-logs-2026.01.31"), True),
        (Filter(index="litellm-logs-2026.*"), True),
        (Filter(index="litellm-logs-2025.*"), False),
        (Filter(partition=3), True),
        (Filter(partition=1), False),
        (Filter(model="gpt-*"), True),
        (Filter(model="claude"), False),
        (Filter(stage="index", model="claude"), False),
        (Filter(event_id=event(1)["event_id"]), True),
        (Filter(event_id=event(2)["event_id"]), False),
        (Filter(event_id=""), False),
    ],
)
def test_a_letter_matches_where_every_condition_holds(wanted, matches):
    message = new_letter(partition=1, value=encoded(1))
    assert wanted.matches(read_letter(message)) is matches
    stats = Stats(wanted)
    stats.add([message])
    assert stats.as_json()["total"] == matches


@pytest.mark.parametrize(
    ("wanted", "is_time_only"),
    [
        (Filter(), True),
        (Filter(since_ms=1), True),
        (Filter(until_ms=1), True),
        (Filter(since_ms=1, stage="index"), False),
        (Filter(partition=0), False),
    ],
)
def test_a_filter_knows_whether_time_alone_decides(wanted, is_time_only):
    assert wanted.is_time_only is is_time_only


# The group


def test_a_group_has_its_own_letters_and_those_that_no_worker_wrote():
    groups = GroupFilter("blue")
    assert [groups.takes(name) for name in ("blue", "", "green", "green", "red")] == [
        *(True, True),
        *(False, False, False),
    ]
    assert groups.describe_others() == ("3 letters of other consumer groups left out: green, red")


def test_all_groups_have_every_letter():
    groups = GroupFilter(None)
    assert all(groups.takes(name) for name in ("blue", "", "green"))
    assert groups.describe_others() == ""


def test_endless_groups_take_bounded_memory():
    groups = GroupFilter("blue")
    for number in range(MAX_GROUPS + 5):
        groups.takes(f"g{number}")
    assert len(groups.others) == MAX_GROUPS + 1
    assert groups.others.total() == MAX_GROUPS + 5
    assert groups.describe_others().endswith("and 98 more")
