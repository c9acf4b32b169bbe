"""The pauses of single indices: what waits, what is probed, and what becomes a letter."""

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from llmlog_consumer.delivery.pauses.index_pause import OVERHEAD_BYTES, Refusal, weigh
from llmlog_consumer.delivery.pauses.index_pauses import PATIENCE_SECONDS, HoldLimits, IndexPauses
from llmlog_consumer.elasticsearch.batch import BatchBuilder
from llmlog_consumer.offset_tracker import Span
from support.fakes.delivery import FakeRecord

CLOSED = Refusal("400 index_closed_exception: closed (open the index)", 400)
AWAY = Refusal("503 unavailable_shards_exception: not active", 503, needs_person=False)
DELETED = Refusal("404 index_not_found_exception: deleted", 404, is_final=True)
OLD, NEWEST, LATER = "logs-2026.01.01", "logs-2026.01.09", "logs-2026.01.10"
OF_ITS_WEEK = "logs-2026.w02"


def batch_of(*offsets, index=OLD, partition=0, span=None, document=b"{}"):
    builder = BatchBuilder()
    span = span or Span(partition, 0, offsets[0], offsets[-1], 0, len(offsets), 0.0)
    for offset in offsets:
        record = FakeRecord(offset, b"v" * 10, partition)
        builder.add(span, record, 10, index, f"id{offset}", document, 0.0)
    return builder.take()


def offsets_of(batches):
    return [op.record.offset() for batch in batches for op in batch.operations]


def hold(pauses, batch, refusal=CLOSED, now=0.0):
    batch.retry.record_sent()
    return pauses.hold(batch, refusal, now, probe=batch)


def give_up(pauses, now):
    return offsets_of(given_up.batch for given_up in pauses.give_up(now))


@pytest.fixture
def pauses():
    pauses = IndexPauses()
    pauses.newest = NEWEST
    return pauses


# Hold and resume


def test_the_first_refusal_begins_the_pause_and_later_ones_join_it(pauses):
    assert not pauses
    assert hold(pauses, batch_of(1, 2)) is True
    assert hold(pauses, batch_of(3)) is False
    assert pauses.held == 3
    assert OLD in pauses.names
    assert NEWEST not in pauses.names


def test_documents_of_paused_indices_are_kept_and_the_others_returned(pauses):
    hold(pauses, batch_of(1))
    assert offsets_of([pauses.keep(batch_of(2, 3, index=NEWEST))]) == [2, 3]
    assert pauses.keep(batch_of(4)) is None
    assert pauses.held == 2


def test_one_document_is_probed_once_the_wait_is_over(pauses):
    hold(pauses, batch_of(1, 2))
    assert pauses.take_probes(0.05) == []
    (probe,) = pauses.take_probes(1.0)
    assert offsets_of([probe]) == [1]
    assert pauses.take_probes(100.0) == [], "one at a time"
    assert pauses.held == 1


def test_a_probe_that_passes_ends_the_pause(pauses):
    hold(pauses, batch_of(1, 2, 3))
    (probe,) = pauses.take_probes(1.0)
    index, batches = pauses.end_probe(probe)
    assert index == OLD
    assert offsets_of(batches) == [2, 3]
    assert len(batches) == 1, "they are sent together"
    assert not pauses


def test_the_end_of_another_batch_ends_no_pause(pauses):
    hold(pauses, batch_of(1, 2))
    pauses.take_probes(1.0)
    assert pauses.end_probe(batch_of(1)) is None
    assert pauses


def test_a_refused_probe_waits_behind_the_others_and_for_longer(pauses):
    hold(pauses, batch_of(1, 2))
    waits, now = [], 0.0
    for expected in (1, 2, 1, 2, 1, 2):
        before = now
        while not (probes := pauses.take_probes(now)):
            now += 0.1
        waits.append(now - before)
        assert offsets_of(probes) == [expected]
        hold(pauses, probes[0], now=now)
        assert pauses.end_probe(probes[0]) is None
    assert max(waits) > 2.0
    assert max(waits) <= 15.1


def test_a_batch_that_was_under_way_does_not_make_the_next_probe_wait_longer(pauses):
    hold(pauses, batch_of(1))
    for offset in range(2, 20):
        hold(pauses, batch_of(offset))
    assert pauses.take_probes(1.0)


def test_an_answer_that_ends_by_itself_is_probed_soon(pauses):
    hold(pauses, batch_of(1), AWAY)
    assert pauses.take_probes(0.25)


def test_a_probe_without_an_answer_is_kept_and_the_pause_goes_on(pauses):
    hold(pauses, batch_of(1))
    (probe,) = pauses.take_probes(1.0)
    assert pauses.keep_probe(probe, probe, 7.0)
    assert pauses.end_probe(probe) is None
    assert pauses.take_probes(6.9) == []
    assert pauses.take_probes(7.0)
    assert not pauses.keep_probe(batch_of(2), batch_of(2), 7.0)


def test_a_probe_that_waits_elsewhere_does_not_block_the_next_one(pauses):
    hold(pauses, batch_of(1, 2))
    (probe,) = pauses.take_probes(1.0)
    pauses.drop_probe(probe, 1.0)
    assert pauses.end_probe(probe) is None
    assert OLD in pauses.names
    assert pauses.take_probes(1.0) == [], "not at full speed"
    assert offsets_of(pauses.take_probes(16.0)) == [2]


def test_only_so_many_probes_are_under_way(pauses):
    for day in range(1, 6):
        hold(pauses, batch_of(day, index=f"logs-2026.01.0{day}"))
    assert len(pauses.take_probes(1.0)) == 2
    assert pauses.take_probes(1.0) == []


def test_the_index_that_has_waited_for_longest_is_probed_first():
    pauses = IndexPauses(HoldLimits(max_probes=1))
    for day in (1, 2):
        hold(pauses, batch_of(day, index=f"logs-2026.01.0{day}"), now=float(day))
    (first,) = pauses.take_probes(50.0)
    hold(pauses, first, now=50.0)
    pauses.end_probe(first)
    assert offsets_of(pauses.take_probes(100.0)) == [2]


def test_documents_that_wait_share_no_body(pauses):
    batch = batch_of(1, 2, 3, document=b"{}" + b" " * 100)
    hold(pauses, batch.part(batch.operations[1:2]))
    (probe,) = pauses.take_probes(1.0)
    assert len(probe.source) == probe.size == batch.size / 3
    assert probe.body() == batch.part(batch.operations[1:2]).body()


def test_documents_of_released_partitions_are_dropped_and_reported():
    released = []
    pauses = IndexPauses(on_released=lambda op: released.append(op.record.offset()))
    span = Span(0, 0, 1, 2, 0, 2, 0.0)
    hold(pauses, batch_of(1, 2, span=span))
    hold(pauses, batch_of(9, partition=1))
    span.released = True
    assert offsets_of(pauses.take_probes(1.0)) == [9]
    assert released == [1, 2]
    assert pauses.held == 0


def test_documents_of_released_partitions_are_dropped_without_a_probe():
    released = []
    pauses = IndexPauses(on_released=lambda op: released.append(op.record.offset()))
    span = Span(0, 0, 1, 2, 0, 2, 0.0)
    hold(pauses, batch_of(1, 2, span=span))
    hold(pauses, batch_of(9, partition=1))
    span.released = True
    pauses.drop_released()
    assert released == [1, 2]
    assert pauses.waiting() == {1: 1}


def test_an_index_for_which_nothing_waits_is_forgotten_after_a_while(pauses):
    hold(pauses, batch_of(1), DELETED)
    assert give_up(pauses, 0.0) == [1]
    pauses.take_probes(899.0)
    assert OLD in pauses.names
    pauses.take_probes(900.0)
    assert OLD not in pauses.names


# Letters


def test_documents_wait_for_five_minutes_and_become_letters_then(pauses):
    hold(pauses, batch_of(1, 2), now=100.0)
    assert give_up(pauses, 399.9) == []
    (first, second) = pauses.give_up(400.0)
    assert offsets_of([first.batch, second.batch]) == [1, 2]
    assert first.refusal == CLOSED
    assert first.why == "the index took none for 300 s"
    assert pauses.held == 0


@pytest.mark.parametrize(
    "index", [NEWEST, LATER, f"{NEWEST}-pay", NEWEST[:-3], f"{NEWEST[:-3]}-pay", OF_ITS_WEEK]
)
def test_documents_of_the_newest_index_and_of_later_ones_never_become_letters(pauses, index):
    pauses = IndexPauses(HoldLimits(max_bytes=1, max_records_behind=1))
    pauses.newest = NEWEST
    hold(pauses, batch_of(1, 2, index=index))
    assert give_up(pauses, 1e9) == []
    assert list(pauses.give_up_behind({0: 10**9})) == []


def test_nothing_becomes_a_letter_where_the_newest_index_is_unknown():
    pauses = IndexPauses(HoldLimits(max_bytes=1))
    hold(pauses, batch_of(1, 2))
    assert give_up(pauses, 1e9) == []


def test_the_time_of_an_index_begins_when_it_is_the_newest_no_more(pauses):
    hold(pauses, batch_of(1, index=NEWEST))
    assert give_up(pauses, 5_000.0) == []
    pauses.newest = LATER
    assert give_up(pauses, 5_299.0) == []
    assert give_up(pauses, 5_300.0) == [1]


def test_later_documents_of_an_index_that_waited_for_long_become_letters_but_for_a_probe(pauses):
    hold(pauses, batch_of(1))
    assert give_up(pauses, 300.0) == [1]
    pauses.keep(batch_of(2, 3))
    assert give_up(pauses, 300.1) == [3]
    (probe,) = pauses.take_probes(300.2)
    assert offsets_of([probe]) == [2]
    pauses.keep(batch_of(4))
    assert give_up(pauses, 300.3) == [4], "one probe at a time"
    hold(pauses, probe, now=301.0)
    assert give_up(pauses, 301.1) == [2]


def test_an_index_that_takes_documents_again_after_its_bound_is_found(pauses):
    hold(pauses, batch_of(1))
    assert give_up(pauses, 300.0) == [1]
    pauses.keep(batch_of(2))
    assert give_up(pauses, 400.0) == []
    (probe,) = pauses.take_probes(400.0)
    pauses.end_probe(probe)
    assert OLD not in pauses.names


def test_an_index_that_was_deleted_and_restored_is_found(pauses):
    hold(pauses, batch_of(1), DELETED)
    assert give_up(pauses, 0.0) == [1]
    pauses.keep(batch_of(2, 3))
    assert give_up(pauses, 0.1) == [3]
    assert offsets_of(pauses.take_probes(15.0)) == [2]


def test_an_index_that_took_documents_meanwhile_has_its_whole_time_again(pauses):
    hold(pauses, batch_of(1))
    (probe,) = pauses.take_probes(200.0)
    pauses.end_probe(probe)
    hold(pauses, batch_of(2), now=250.0)
    assert give_up(pauses, 549.0) == []
    assert give_up(pauses, 550.0) == [2]


def test_documents_of_a_deleted_index_do_not_wait(pauses):
    hold(pauses, batch_of(1), DELETED)
    (given_up,) = pauses.give_up(0.0)
    assert given_up.why == ""
    assert given_up.refusal is DELETED


def test_the_oldest_documents_become_letters_where_too_many_bytes_wait():
    one = OVERHEAD_BYTES + 10 + len(batch_of(1).source)
    pauses = IndexPauses(HoldLimits(max_bytes=3 * one))
    pauses.newest = NEWEST
    hold(pauses, batch_of(1, 2, 3))
    assert give_up(pauses, 1.0) == []
    pauses.keep(batch_of(4))
    assert give_up(pauses, 1.0) == [1]


def test_one_document_may_wait_however_large_it_is():
    pauses = IndexPauses(HoldLimits(max_bytes=1))
    pauses.newest = NEWEST
    hold(pauses, batch_of(1, 2))
    assert give_up(pauses, 1.0) == [1]
    assert pauses.held == 1


def test_what_a_record_carries_beside_its_value_weighs_too():
    class Heavy(FakeRecord):
        def key(self):
            return b"k" * 1000

        def headers(self):
            return [("h", b"x" * 1000), ("empty", None)]

    pauses = IndexPauses(HoldLimits(max_bytes=2000))
    pauses.newest = NEWEST
    builder = BatchBuilder()
    for offset in (1, 2):
        builder.add(Span(0, 0, 1, 2, 0, 2, 0.0), Heavy(offset, b"v"), 1, OLD, "id", b"{}", 0.0)
    hold(pauses, builder.take())
    assert give_up(pauses, 1.0) == [1]


def test_a_document_that_waits_weighs_its_request_its_record_and_itself():
    record = FakeRecord(1, b"v" * 10, key=b"k" * 3, headers=[("ab", b"x" * 7), ("c", None)])
    builder = BatchBuilder()
    builder.add(Span(0, 0, 1, 2, 0, 2, 0.0), record, 10, OLD, "id", b"{}", 0.0)
    batch = builder.take()
    assert weigh(batch) == OVERHEAD_BYTES + len(batch.body()) + 10 + 3 + 2 + 7 + 1


def test_documents_far_behind_their_partition_become_letters(pauses):
    hold(pauses, batch_of(1, 600_000))
    hold(pauses, batch_of(2, partition=1))
    given_up = list(pauses.give_up_behind({0: 500_002, 1: 500_002}))
    assert offsets_of(one.batch for one in given_up) == [1]
    assert given_up[0].why == "500000 later records of its partition are settled"
    assert pauses.held == 2
    assert list(pauses.give_up_behind({1: 500_003}))


# What the next owner knows


def test_the_next_owner_of_a_partition_goes_on_with_the_time_of_the_last(pauses):
    hold(pauses, batch_of(1))
    ages = pauses.ages(200.0)
    assert ages == {OLD: 200}
    other = IndexPauses()
    other.newest = NEWEST
    other.remember(ages, 5_000.0)
    hold(other, batch_of(1), now=5_010.0)
    assert give_up(other, 5_099.0) == []
    assert give_up(other, 5_100.0) == [1]


def test_a_pause_takes_the_earlier_time_of_two_owners(pauses):
    hold(pauses, batch_of(1), now=1_000.0)
    pauses.remember({OLD: 250}, 1_000.0)
    assert give_up(pauses, 1_050.0) == [1]


def test_what_an_earlier_owner_noted_does_not_count_for_a_pause_long_after(pauses):
    pauses.remember({OLD: 250}, 0.0)
    hold(pauses, batch_of(1), now=301.0)
    assert give_up(pauses, 600.0) == []


def test_ages_name_only_indices_whose_documents_may_become_letters(pauses):
    hold(pauses, batch_of(1, index=NEWEST))
    assert pauses.ages(10.0) == {}


def test_the_age_of_an_index_is_noted_while_its_only_document_is_the_probe(pauses):
    hold(pauses, batch_of(1))
    pauses.take_probes(20.0)
    assert pauses.ages(30.0) == {OLD: 30}


# Words and numbers


def test_a_pause_names_its_index_the_answer_and_what_waits(pauses):
    hold(pauses, batch_of(1))
    assert pauses.reason(0.0) == f"index {OLD}: {CLOSED.message}; 1 document waits"
    hold(pauses, batch_of(2, 3, index=NEWEST), AWAY)
    assert pauses.reason(PATIENCE_SECONDS) == (
        f"index {NEWEST}: {AWAY.message}; 2 documents wait (and 1 more indices)"
    )


def test_an_answer_that_ends_by_itself_is_said_only_after_a_while(pauses):
    hold(pauses, batch_of(1), AWAY)
    assert pauses.reason(PATIENCE_SECONDS - 0.1) == ""
    assert pauses.reason(PATIENCE_SECONDS)
    assert not pauses.needs_person


def test_a_person_is_needed_where_all_that_waits_needs_one(pauses):
    assert not pauses.needs_person
    hold(pauses, batch_of(1))
    assert pauses.needs_person
    hold(pauses, batch_of(2, index=NEWEST), AWAY)
    assert not pauses.needs_person


def test_what_waits_is_counted_by_partition(pauses):
    hold(pauses, batch_of(1, 2))
    hold(pauses, batch_of(3, partition=1, index=NEWEST))
    assert pauses.waiting() == {0: 2, 1: 1}
    assert pauses.waiting_bytes() == {0: 20}, "of those that have a bound of their own"


def test_documents_that_wait_count_as_they_do_in_flight():
    pauses = IndexPauses()
    pauses.newest = NEWEST
    hold(pauses, batch_of(1, span=Span(0, 0, 1, 1, 0, 1, 0.0, beside_bytes=700)))
    assert pauses.waiting_bytes() == {0: 710}


class IndexPausesMachine(RuleBasedStateMachine):
    """Documents of three indices that are held, kept, probed, refused, given up and released."""

    @initialize(max_bytes=st.sampled_from([1, 2_000, 10**9]))
    def begin(self, max_bytes):
        self.released = []
        self.pauses = IndexPauses(
            HoldLimits(max_bytes=max_bytes, max_records_behind=50),
            lambda op: self.released.append(op.record.offset()),
        )
        self.now, self.number = 0.0, 0
        self.waiting, self.probes, self.ended = set(), {}, []
        self.spans = {p: Span(p, 0, 0, 10**6, 0, 10**6, 0.0) for p in (0, 1)}

    def new_batch(self, index, partition, size):
        offsets = range(self.number, self.number + size)
        self.number += size
        return batch_of(*offsets, index=index, partition=partition, span=self.spans[partition])

    indices = st.sampled_from([OLD, NEWEST, LATER])

    @rule(seconds=st.floats(0.0, 400.0))
    def wait(self, seconds):
        self.now += seconds

    @rule(index=st.sampled_from(["", OLD, NEWEST, LATER]))
    def set_newest(self, index):
        self.pauses.newest = index

    @rule(
        index=indices,
        partition=st.sampled_from([0, 1]),
        size=st.integers(1, 3),
        refusal=st.sampled_from([CLOSED, AWAY, DELETED]),
    )
    def refuse(self, index, partition, size, refusal):
        batch = self.new_batch(index, partition, size)
        hold(self.pauses, batch, refusal, self.now)
        self.waiting |= set(offsets_of([batch]))

    @rule(index=indices, partition=st.sampled_from([0, 1]), size=st.integers(1, 3))
    def arrive(self, index, partition, size):
        batch = self.new_batch(index, partition, size)
        is_paused = index in self.pauses.names
        rest = self.pauses.keep(batch)
        assert (rest is None) == is_paused
        if is_paused:
            self.waiting |= set(offsets_of([batch]))

    @rule()
    def probe(self):
        for probe in self.pauses.take_probes(self.now):
            (offset,) = offsets_of([probe])
            assert offset in self.waiting
            self.waiting.remove(offset)
            self.probes[offset] = probe
        self._forget_released()

    @precondition(lambda self: self.probes)
    @rule(data=st.data(), end=st.sampled_from(["passed", "refused", "unanswered", "elsewhere"]))
    def answer(self, data, end):
        offset = data.draw(st.sampled_from(sorted(self.probes)))
        probe = self.probes.pop(offset)
        if end == "refused":
            hold(self.pauses, probe, CLOSED, self.now)
            self.waiting.add(offset)
        elif end == "unanswered":
            assert self.pauses.keep_probe(probe, probe, self.now + 1.0)
            self.waiting.add(offset)
        else:
            self.ended.append(offset)
        if end == "elsewhere":
            self.pauses.drop_probe(probe, self.now)
        resumed = self.pauses.end_probe(probe)
        assert (resumed is not None) == (end == "passed")
        if resumed:
            self._end(offsets_of(resumed[1]))
        self._forget_released()

    @rule()
    def overdue(self):
        for given_up in self.pauses.give_up(self.now):
            index = given_up.batch.operations[0].index_name
            assert self.pauses.newest
            assert index < self.pauses.newest
            assert not given_up.batch.operations[0].span.released
            self._end(offsets_of([given_up.batch]))
        self._forget_released()

    @rule(partition=st.sampled_from([0, 1]))
    def far_behind(self, partition):
        for given_up in self.pauses.give_up_behind({partition: self.number}):
            (offset,) = offsets_of([given_up.batch])
            assert self.number - offset > 50
            self._end([offset])
        self._forget_released()

    @rule(partition=st.sampled_from([0, 1]))
    def release(self, partition):
        self.spans[partition].released = True
        self.spans[partition] = Span(partition, 1, 0, 10**6, 0, 10**6, 0.0)

    def _end(self, offsets):
        for offset in offsets:
            self.waiting.remove(offset)
            self.ended.append(offset)

    def _forget_released(self):
        self.waiting -= set(self.released)

    @invariant()
    def each_document_waits_once_or_has_ended_once(self):
        if not hasattr(self, "pauses"):
            return
        assert self.pauses.held == len(self.waiting)
        assert sum(self.pauses.waiting().values()) == len(self.waiting) + len(self.probes)
        assert all(number >= 0 for number in self.pauses.waiting().values())
        assert max(Counter(self.ended + self.released).values(), default=1) == 1
        assert not set(self.ended) & self.waiting


TestIndexPausesMachine = IndexPausesMachine.TestCase
