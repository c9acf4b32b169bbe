"""`pipeline offsets`: offsets that the log does not have."""

from __future__ import annotations

import pytest

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.cli.offsets import PartitionOffsets, read_offsets, require_gap


def test_deleted_records_and_a_recreated_topic_are_told_apart():
    deleted = PartitionOffsets("t/0", 5, 12, 40)
    assert deleted.gap_description == "offsets 5 to 12 (7 records at most) are deleted"
    recreated = PartitionOffsets("t/0", 5000, 0, 30).gap_description
    assert recreated.startswith("the log ends at offset 30, before the committed 5000: the topic")
    assert recreated.endswith("all of its records, from 0 on, are read")


@pytest.mark.parametrize(
    ("committed", "state", "has_gap"),
    [
        (None, "not begun", False),
        (9, "out of range: retention has deleted the next record", True),
        (10, "behind", False),
        (90, "current", False),
        (91, "out of range: the log ends before the committed offset", True),
    ],
)
def test_the_state_of_a_partition(committed, state, has_gap):
    place = PartitionOffsets("t/0", committed, 10, 90)
    assert (place.state, place.has_gap) == (state, has_gap)


class BusyTopic:
    """A topic to which 20 records are written, and settled, with each request."""

    end = 100

    def committed(self, _topic, _partitions):
        self.end += 20
        return {0: self.end}

    def watermarks(self, _topic, _partitions):
        self.end += 20
        return {0: (0, self.end)}


def test_records_that_are_written_meanwhile_are_no_gap():
    place = read_offsets(BusyTopic(), "t", [0])[0]
    assert not place.has_gap
    assert place.state == "behind"
    with pytest.raises(ConfigurationError, match="t/0 has no gap: committed 120, log 0 to 140"):
        require_gap(place)


def test_a_gap_reaches_from_the_committed_offset_to_the_logs_start():
    gap = require_gap(PartitionOffsets("t/0", 5, 12, 40))
    assert (gap.first, gap.next) == (5, 12)
