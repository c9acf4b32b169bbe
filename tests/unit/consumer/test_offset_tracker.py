"""The tracker: what may be committed, by example and against a model of every record."""

import tracemalloc
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from llmlog_consumer.offset_tracker import UNKNOWN_EPOCH, Commit, OffsetTracker


def assigned(partition=0, start=10):
    tracker = OffsetTracker()
    tracker.assign(partition, start)
    return tracker


def register(tracker, first, last, records=None, partition=0, epoch=3, now=0.0):
    records = last - first + 1 if records is None else records
    return tracker.register(
        partition, first, last, epoch=epoch, records=records, size=records * 100, now=now
    )


def test_records_that_were_only_consumed_are_not_committed():
    tracker = assigned()
    register(tracker, 10, 14)
    assert tracker.watermark(0) == 10
    assert tracker.commits() == []
    assert (tracker.unsettled, tracker.bytes_in_flight, tracker.expected(0)) == (5, 500, 15)


def test_the_watermark_moves_over_finished_spans_at_the_head_alone():
    tracker = assigned()
    first, second, third = (register(tracker, at, at + 4) for at in (10, 15, 20))
    assert tracker.settle(third, 5, 500)
    assert tracker.settle(second, 4, 400)
    assert tracker.watermark(0) == 10
    assert tracker.settle(first, 5, 500)
    assert tracker.watermark(0) == 15
    assert tracker.settle(second, 1, 100)
    assert tracker.watermark(0) == 25
    assert (tracker.unsettled, tracker.bytes_in_flight) == (0, 0)


def test_what_records_weigh_beside_their_values_is_in_flight_until_they_are_settled():
    tracker = assigned()
    span = tracker.register(0, 10, 12, epoch=3, records=3, size=300, now=0.0, beside_bytes=1_000)
    assert tracker.in_flight(0) == tracker.bytes_in_flight == 3_300
    tracker.settle(span, 2, 200)
    assert tracker.in_flight(0) == 1_100
    tracker.settle(span, 1, 100)
    assert tracker.in_flight(0) == 0


def test_what_is_settled_behind_a_record_that_waits_does_not_pile_up():
    tracker = assigned(start=0)
    stuck = register(tracker, 0, 0)
    tracemalloc.start()
    try:
        under_way = deque()
        for offset in range(1, 40_001):
            span = register(tracker, offset, offset, epoch=offset)
            if offset == 500:
                other = span
                continue
            under_way.append(span)
            if len(under_way) > 3:
                tracker.settle(under_way.popleft(), 1, 100)
        bytes_held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bytes_held < 1_000_000
    assert tracker.watermark(0) == 0
    tracker.settle(stuck, 1, 100)
    assert tracker.commits() == [Commit(0, 500, 499)]
    tracker.settle(other, 1, 100)
    assert tracker.commits() == [Commit(0, 39_998, 39_997)]
    for span in under_way:
        tracker.settle(span, 1, 100)
    assert tracker.commits() == [Commit(0, 40_001, 40_000)]


def test_a_half_settled_span_holds_everything_behind_it():
    tracker = assigned()
    span = register(tracker, 10, 14)
    tracker.settle(span, 4, 400)
    assert tracker.commits() == []
    tracker.settle(span, 1, 100)
    assert tracker.commits() == [Commit(0, 15, 3)]


def test_gaps_between_offsets_are_no_missing_records():
    tracker = assigned(start=0)
    one = register(tracker, 3, 9, records=2)
    two = register(tracker, 50, 50)
    tracker.settle(one, 2, 200)
    assert tracker.watermark(0) == 10
    tracker.settle(two, 1, 100)
    assert tracker.watermark(0) == 51


def test_the_epoch_is_that_of_the_last_settled_span():
    tracker = assigned()
    old, new = register(tracker, 10, 10, epoch=4), register(tracker, 11, 11, epoch=5)
    tracker.settle(old, 1, 100)
    assert tracker.commits() == [Commit(0, 11, 4)]
    tracker.settle(new, 1, 100)
    assert tracker.commits() == [Commit(0, 12, 5)]


def test_a_commit_that_was_handed_to_the_broker_is_not_due_again():
    tracker = assigned()
    tracker.settle(register(tracker, 10, 10), 1, 100)
    commits = tracker.commits()
    assert tracker.commits() == commits == [Commit(0, 11, 3)]
    tracker.record_commits(commits)
    assert tracker.commits() == []
    tracker.settle(register(tracker, 11, 11), 1, 100)
    assert tracker.commits() == [Commit(0, 12, 3)]


def test_an_assignment_by_itself_commits_nothing():
    assert assigned(start=1000).commits() == []


def test_the_last_commit_names_every_partition_moved_or_not():
    tracker = assigned(0)
    tracker.assign(1, 0)
    tracker.settle(register(tracker, 10, 10), 1, 100)
    tracker.record_commits(tracker.commits())
    assert tracker.all_commits() == [Commit(0, 11, 3), Commit(1, 0, UNKNOWN_EPOCH)]


def test_an_accepted_gap_is_committed_at_once_and_ends_the_generation():
    tracker = assigned(start=0)
    late = register(tracker, 0, 4)
    tracker.skip_gap(0, 40)
    assert tracker.commits() == [Commit(0, 40, UNKNOWN_EPOCH)]
    assert (tracker.expected(0), tracker.unsettled) == (40, 0)
    assert late.released
    assert not tracker.settle(late, 5, 500)
    assert tracker.watermark(0) == 40


def test_records_of_a_partition_that_is_not_ours_are_left_alone():
    tracker = assigned()
    assert register(tracker, 10, 10, partition=1) is None
    assert tracker.expected(1) == 0, "no record is before what it expects"


def test_records_that_were_seen_before_are_left_alone():
    tracker = assigned()
    register(tracker, 10, 14)
    assert register(tracker, 12, 13) is None
    assert register(tracker, 9, 9) is None
    assert tracker.unsettled == 5


def test_a_late_answer_of_an_earlier_generation_changes_nothing():
    tracker = assigned()
    late = register(tracker, 10, 14)
    assert tracker.release(0) == 5
    assert late.released
    assert not tracker.settle(late, 5, 500)
    tracker.assign(0, 10)
    again = register(tracker, 10, 14)
    assert not tracker.settle(late, 5, 500)
    assert tracker.watermark(0) == 10
    assert (tracker.unsettled, tracker.bytes_in_flight) == (5, 500)
    assert tracker.settle(again, 5, 500)
    assert tracker.watermark(0) == 15


def test_records_settled_before_a_release_are_not_released():
    tracker = assigned()
    tracker.settle(register(tracker, 10, 14), 3, 300)
    assert tracker.release(0) == 2
    assert tracker.assigned == ()
    assert (tracker.unsettled, tracker.bytes_in_flight) == (0, 0)
    assert tracker.release(0) == 0


def test_a_release_touches_the_named_partition_alone():
    tracker = assigned(0)
    tracker.assign(1, 0)
    mine = register(tracker, 0, 0, partition=1)
    register(tracker, 10, 10)
    tracker.release(0)
    assert tracker.assigned == (1,)
    assert not mine.released
    assert tracker.settle(mine, 1, 100)
    assert tracker.commits() == [Commit(1, 1, 3)]


def test_more_cannot_be_settled_than_was_consumed():
    tracker = assigned()
    span = register(tracker, 10, 11)
    with pytest.raises(ValueError, match="more settled than consumed: 3 of 2"):
        tracker.settle(span, 3, 300)
    assert (tracker.unsettled, tracker.watermark(0)) == (2, 10)


def test_markers_at_the_end_are_followed():
    tracker = assigned()
    tracker.settle(register(tracker, 10, 10), 1, 100)
    tracker.advance(0, 13)
    assert tracker.commits() == [Commit(0, 13, -1)], "a marker may be of a later epoch"
    assert tracker.expected(0) == 13


def test_markers_are_not_followed_past_an_unsettled_record():
    tracker = assigned()
    register(tracker, 10, 10)
    tracker.advance(0, 13)
    assert tracker.watermark(0) == 10


def test_a_position_never_moves_the_watermark_back():
    tracker = assigned()
    tracker.advance(0, 5)
    tracker.advance(1, 99)
    assert tracker.watermark(0) == tracker.expected(0) == 10


def test_a_commit_of_a_released_partition_is_forgotten():
    tracker = assigned()
    tracker.settle(register(tracker, 10, 10), 1, 100)
    commits = tracker.commits()
    tracker.release(0)
    tracker.record_commits(commits)
    assert tracker.commits() == []


def test_the_oldest_span_is_a_head_and_the_one_consumed_first():
    tracker = assigned(0)
    tracker.assign(1, 0)
    assert tracker.oldest() is None
    head = register(tracker, 10, 10, now=5.0)
    register(tracker, 11, 11, now=1.0)
    assert tracker.oldest() is head
    other = register(tracker, 0, 0, partition=1, now=4.0)
    assert tracker.oldest() is other
    tracker.settle(other, 1, 100)
    assert tracker.oldest() is head


def test_bytes_and_records_in_flight_are_counted_by_partition():
    tracker = assigned(0)
    tracker.assign(1, 0)
    register(tracker, 10, 11)
    span = register(tracker, 0, 0, partition=1)
    assert (tracker.in_flight(0), tracker.in_flight(1)) == (200, 100)
    assert (tracker.in_flight_records(0), tracker.in_flight_records(1)) == (2, 1)
    tracker.settle(span, 1, 100)
    assert (tracker.in_flight(1), tracker.in_flight_records(1)) == (0, 0)


PARTITIONS = st.integers(0, 1)


class Model:
    """One partition of a log, and what became of each of its records."""

    def __init__(self):
        self.end = 0
        self.records = []
        self.committed = 0
        self.position = 0
        self.assigned = False
        self.settled = set()
        self.consumed = 0
        self.outcomes = 0
        self.released = 0
        self.in_flight = 0
        self.last_watermark = 0


class TrackerMachine(RuleBasedStateMachine):
    """Kafka and Elasticsearch in small: logs with gaps, chunks, answers in any order."""

    spans = Bundle("spans")

    @initialize()
    def begin(self):
        self.tracker = OffsetTracker()
        self.logs = {number: Model() for number in range(2)}
        self.clock = 0.0
        for number in self.logs:
            self.assign(number)
            self.write(number, [0] * 6)

    @rule(partition=PARTITIONS, gaps=st.lists(st.integers(0, 3), min_size=1, max_size=5))
    def write(self, partition, gaps):
        """Append records, each after some offsets that hold none."""
        log = self.logs[partition]
        for gap in gaps:
            log.records.append(log.end + gap)
            log.end += gap + 1

    @rule(partition=PARTITIONS, markers=st.integers(1, 3))
    def mark(self, partition, markers):
        self.logs[partition].end += markers

    @rule(partition=PARTITIONS)
    def assign(self, partition):
        log = self.logs[partition]
        if not log.assigned:
            self.tracker.assign(partition, log.committed)
            log.assigned, log.position, log.last_watermark = True, log.committed, log.committed
            # What was settled and not committed comes again, and has to be settled again.
            log.settled = {offset for offset in log.settled if offset < log.committed}

    @rule(partition=PARTITIONS, commit=st.booleans())
    def release(self, partition, commit):
        """Revoke with a last commit, or lose without one."""
        log = self.logs[partition]
        if commit:
            self.commit()
        gone = self.tracker.release(partition)
        assert gone == log.in_flight
        log.released += gone
        log.in_flight, log.assigned = 0, False

    @rule(target=spans, partition=PARTITIONS, most=st.integers(1, 4))
    def consume(self, partition, most):
        log = self.logs[partition]
        offsets = [offset for offset in log.records if offset >= log.position][:most]
        self.clock += 1.0
        if not offsets:
            return multiple()
        span = self.tracker.register(
            partition,
            offsets[0],
            offsets[-1],
            epoch=0,
            records=len(offsets),
            size=10 * len(offsets),
            now=self.clock,
        )
        assert (span is not None) == log.assigned
        if span is None:
            return multiple()
        log.position = offsets[-1] + 1
        log.consumed += len(offsets)
        log.in_flight += len(offsets)
        return span, list(offsets)

    @rule(target=spans, taken=consumes(spans), count=st.integers(1, 4))
    def settle(self, taken, count):
        """Answer for some of a span's records; what remains goes back for a later answer."""
        span, offsets = taken
        done, rest = offsets[:count], offsets[count:]
        late = span.released
        assert self.tracker.settle(span, len(done), 10 * len(done)) == (not late)
        log = self.logs[span.partition]
        if not late:
            log.settled.update(done)
            log.outcomes += len(done)
            log.in_flight -= len(done)
        return (span, rest) if rest else multiple()

    @rule(partition=PARTITIONS)
    def reach(self, partition):
        """The consumer's position: past markers, never past a record that it has not handed out."""
        log = self.logs[partition]
        if log.assigned:
            following = [offset for offset in log.records if offset >= log.position]
            log.position = following[0] if following else log.end
            self.tracker.advance(partition, log.position)

    @rule()
    def commit(self):
        commits = self.tracker.commits()
        for commit in commits:
            log = self.logs[commit.partition]
            assert commit.offset > log.committed, "a commit goes back"
            log.committed = commit.offset
        self.tracker.record_commits(commits)
        assert self.tracker.commits() == []

    @rule(partition=PARTITIONS)
    def redeliver(self, partition):
        """A record that was handed out before is refused."""
        log = self.logs[partition]
        before = [offset for offset in log.records if offset < log.position]
        if log.assigned and before:
            stale = self.tracker.register(
                partition, before[-1], before[-1], epoch=0, records=1, size=10, now=self.clock
            )
            assert stale is None

    @invariant()
    def never_past_an_unsettled_record(self):
        for number, log in self.logs.items():
            before = [offset for offset in log.records if offset < log.committed]
            assert log.settled.issuperset(before), "committed past an unsettled record"
            if log.assigned:
                watermark = self.tracker.watermark(number)
                before = [offset for offset in log.records if offset < watermark]
                assert log.settled.issuperset(before), "watermark past an unsettled record"
                assert log.last_watermark <= watermark <= log.position
                log.last_watermark = watermark

    @invariant()
    def consumed_is_settled_and_released_and_in_flight(self):
        for number, log in self.logs.items():
            assert log.consumed == log.outcomes + log.released + log.in_flight
            if log.assigned:
                assert self.tracker.in_flight_records(number) == log.in_flight
                assert self.tracker.in_flight(number) == 10 * log.in_flight
        assert self.tracker.unsettled == sum(log.in_flight for log in self.logs.values())
        assert self.tracker.bytes_in_flight == 10 * self.tracker.unsettled
        assert set(self.tracker.assigned) == {n for n, log in self.logs.items() if log.assigned}

    @invariant()
    def an_idle_partition_is_committed_to_its_last_record(self):
        for number, log in self.logs.items():
            if log.assigned and not log.in_flight:
                consumed = [offset for offset in log.records if offset < log.position]
                assert self.tracker.watermark(number) > max(consumed, default=-1)


TrackerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestAnyOrderOfAnswersAndRebalances = TrackerMachine.TestCase


@pytest.mark.parametrize("offset", [0, 9])
def test_a_commit_that_the_broker_refused_is_due_again(offset):
    tracker = assigned(start=offset)
    tracker.settle(register(tracker, offset, offset), 1, 100)
    tracker.record_commits(tracker.commits())
    assert tracker.commits() == []
    tracker.commit_failed([0, 7])
    assert tracker.commits() == [Commit(0, offset + 1, 3)]
