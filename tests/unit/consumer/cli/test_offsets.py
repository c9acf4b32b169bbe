"""`pipeline offsets`: offsets that the log does not have."""

from __future__ import annotations

import pytest

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.cli.offsets import describe_gap, require_gap
from llmlog_consumer.kafka.places import Log, Place


def place(committed, start, end):
    return Place("t", 0, committed, Log(start, end, end))


def test_deleted_records_and_a_recreated_topic_are_told_apart():
    assert describe_gap(Log(12, 40, 40), 5) == "offsets 5 to 12 (7 records at most) are deleted"
    recreated = describe_gap(Log(0, 30, 30), 5000)
    assert recreated.startswith("the log ends at offset 30, before the committed 5000: the topic")
    assert recreated.endswith("all of its records, from 0 on, are read")


@pytest.mark.parametrize(
    "whole", [place(None, 0, 9), place(120, 0, 140), place(140, 0, 140), Place("t", 0, 5, None)]
)
def test_a_partition_without_a_gap_is_refused(whole):
    with pytest.raises(
        ConfigurationError, match=r"t/0 has no gap: committed .*nothing was changed"
    ):
        require_gap(whole)


def test_a_gap_reaches_from_the_committed_offset_to_the_logs_start():
    gap, missing = require_gap(place(5, 12, 40))
    assert (gap.first, gap.next) == (5, 12)
    assert missing == "offsets 5 to 12 (7 records at most) are deleted"
