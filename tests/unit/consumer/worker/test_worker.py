"""The worker's order: register, settle, commit; rebalances, the drain, and the end of a task."""

import json
import threading

import pytest
from structlog.testing import capture_logs

from llmlog_common.errors import CircuitOpenError, KafkaUnreachable, PipelineError
from llmlog_consumer.kafka.gaps import Gap
from llmlog_consumer.kafka.places import Log
from llmlog_consumer.kafka.watch.standstill import Flaw, Standstills
from llmlog_consumer.outcomes import Outcome
from llmlog_consumer.worker.limits import Limits, Timing
from llmlog_consumer.worker.runs import OVERHEAD_BYTES
from llmlog_consumer.worker.task import Task
from support.fakes.delivery import FakeRecord
from support.fakes.worker import WorkerRig

VALUE = b"x" * 100
WEIGHT = len(VALUE) + OVERHEAD_BYTES


def records(*offsets, partition=0):
    return [FakeRecord(offset, VALUE, partition) for offset in offsets]


def rig_of(*offsets, partitions=(0,), **options):
    """Return a worker that is assigned partitions from offset 7 on, and gets these records."""
    rig = WorkerRig(**options)
    rig.consumer.assign = dict.fromkeys(partitions, 7)
    if offsets:
        rig.consumer.chunks = [records(*offsets)]
    return rig


# Register


def test_records_seen_before_are_left_out_of_a_run_and_the_others_are_kept():
    rig = rig_of(7, 8)
    rig.consumer.chunks.append(records(7, 8, 9, 10))
    seen = []

    def on_turn(turn):
        if turn == 2:
            seen.extend(rig.delivery.accepted)
            rig.delivery.settle_all()

    rig.run(2, on_turn)
    assert [[r.offset() for r in run] for _, run in seen] == [[7, 8], [9, 10]]
    assert rig.worker.counts["consumed"] == rig.worker.counts[Outcome.INDEXED] == 4
    assert rig.consumer.commits[-1] == {0: 11}


def test_a_run_of_records_seen_before_alone_is_left_out():
    rig = rig_of(7, 8)
    rig.consumer.chunks.append(records(7, 8))
    rig.delivery.settles = True
    rig.run(2)
    assert rig.worker.counts["consumed"] == 2


def test_records_of_a_partition_that_is_not_assigned_are_left_out():
    rig = rig_of()
    rig.consumer.chunks = [records(7, partition=3)]
    rig.run(1)
    assert rig.delivery.accepted == []
    assert rig.worker.counts["consumed"] == 0


def test_a_span_is_registered_before_its_records_are_worked_on():
    rig = rig_of(7)
    report = {}

    def accept(span, run):
        report.update(rig.worker.report(), unsettled=span.unsettled)

    rig.delivery.accept = accept
    rig.run(1)
    assert (report["in_flight"], report["unsettled"]) == (1, 1)


# Settle and commit


def test_an_answer_for_a_released_partition_is_late_and_not_an_outcome():
    rig = rig_of(7, 8, 9)

    def on_turn(turn):
        if turn == 1:
            rig.worker.on_lost([0])
            rig.delivery.settle_all()

    rig.run(2, on_turn)
    assert rig.worker.counts["late"] == 3
    assert rig.worker.counts[Outcome.INDEXED] == 0
    assert rig.worker.counts["released"] == 3
    assert not any(rig.consumer.commits)


def test_a_commit_waits_for_its_time_or_for_enough_records():
    rig = rig_of(
        7, timing=Timing(note_seconds=900), limits=Limits(commit_records=3), turn_seconds=0.01
    )
    rig.delivery.settles = True
    rig.consumer.chunks += [records(8), records(9), records(10)]
    commits = []

    def on_turn(turn):
        commits.append(len(rig.consumer.commits))

    rig.run(4, on_turn)
    assert commits == [0, 0, 0, 1, 1]
    assert rig.consumer.commits[0] == {0: 10}


def test_a_refused_commit_is_handed_over_again():
    rig = rig_of(7, timing=Timing(note_seconds=900), turn_seconds=1.0)
    rig.delivery.settles = True
    handed_over = []

    def on_turn(turn):
        handed_over.append(rig.consumer.commits[-1] if rig.consumer.commits else None)
        if turn == 3:
            rig.worker.on_commit_failed([0])

    rig.run(5, on_turn)
    assert handed_over == [None, {0: 8}, {}, {}, {0: 8}, {}]


def test_a_note_beside_each_offset_tells_rate_and_what_is_wrong():
    rig = rig_of(7, 8, 9, partitions=(0, 1), turn_seconds=1.0)
    rig.delivery.unhealthy = "open the index"

    def on_turn(turn):
        rig.delivery.settles = turn == 1

    rig.run(5, on_turn)
    first, *_, second = (
        {p: json.loads(n) for p, n in notes.items()}
        for notes in rig.consumer.notes
        if "at" in notes[0]
    )
    assert first[0]["in_flight"] == 3
    assert second[0]["in_flight"] == second[1]["in_flight"] == 0
    assert (first[0]["rate"], second[0]["rate"]) == (0.0, 1.0)
    assert second[0]["unhealthy"] == "open the index"
    assert rig.consumer.commits[0] == {0: 7, 1: 7}, "with a note, every partition is committed"


def test_a_worker_that_becomes_unhealthy_or_healthy_again_notes_it_with_its_next_commit():
    rig = rig_of(7, partitions=(0, 1), timing=Timing(note_seconds=900), turn_seconds=1.0)

    def on_turn(turn):
        rig.consumer.unhealthy = "partition 1 has no leader" if turn in {2, 3} else ""

    rig.run(6, on_turn)
    committed = zip(rig.consumer.commits, rig.consumer.notes, strict=True)
    of_idle = [json.loads(notes[1]) for commit, notes in committed if 1 in commit and notes[1]]
    assert [note.get("unhealthy", "") for note in of_idle] == ["", "partition 1 has no leader", ""]


def test_every_commit_has_a_note_because_one_without_would_erase_the_note_before():
    rig = rig_of(7, 8, timing=Timing(note_seconds=900), turn_seconds=1.0)
    rig.delivery.settles = True
    rig.delivery.memories = {0: {"circuit": "0123456789ab"}}
    rig.run(3)
    notes = [json.loads(note[0]) for note in rig.consumer.notes if note]
    assert len(notes) >= 2
    assert {note["circuit"] for note in notes} == {"0123456789ab"}
    assert "at" not in notes[-1], "the last one is of a worker that has left"


def test_what_the_last_owner_noted_is_handed_to_the_delivery():
    rig = rig_of(7)
    rig.consumer.assigned_notes = {0: {"circuit": "0123456789ab"}}
    rig.run(1)
    assert rig.delivery.restored == {0: {"circuit": "0123456789ab"}}


def test_partitions_are_given_away_with_a_note_for_their_next_owner():
    rig = rig_of(7, partitions=(0, 1), turn_seconds=1.0)
    rig.delivery.memories = {0: {"circuit": "0123456789ab"}}

    def on_turn(turn):
        if turn == 1:
            rig.worker.on_revoked([0])

    rig.run(2, on_turn)
    given_away = [notes for notes in rig.consumer.notes if 0 in notes and "at" not in notes[0]]
    assert json.loads(given_away[0][0]) == {"circuit": "0123456789ab"}


def test_offsets_that_hold_no_record_are_committed_once_nothing_is_in_flight():
    rig = rig_of(7, timing=Timing(note_seconds=900), turn_seconds=1.0)
    rig.consumer.next_offsets = {0: 12}

    def on_turn(turn):
        if turn == 2:
            assert not any(rig.consumer.commits[1:]), "a record before them is in flight"
            rig.delivery.settle_all()

    rig.run(3, on_turn)
    assert {0: 12} in rig.consumer.commits


# The alarm


def test_a_record_that_is_unsettled_for_long_is_named_in_an_alarm_again_and_again():
    rig = rig_of(7, 8, turn_seconds=10.0)
    with capture_logs() as lines:
        rig.run(14)
    alarms = [line for line in lines if line["event"] == "record unsettled for long"]
    assert [line["record"] for line in alarms] == ["litellm-logs/0/7"] * 2
    assert [line["seconds"] for line in alarms] == [60, 120]
    assert alarms[0]["why"] == "Elasticsearch or the dead-letter topic does not take it"


def test_records_that_are_settled_in_time_raise_no_alarm():
    rig = rig_of(7, 8, turn_seconds=10.0)
    rig.delivery.settles = True
    with capture_logs() as lines:
        rig.run(14)
    assert "record unsettled for long" not in [line["event"] for line in lines]


# Rebalances


def test_a_drain_that_ended_unfinished_is_not_repeated_by_the_revoke_while_it_leaves():
    """The client revokes in a thread of its own and has 15 s for it; nothing waits that long."""
    rig = rig_of(7, task=Task(1, drain_seconds=0.1))
    rig.run(1)
    assert rig.consumer.closed
    assert rig.delivery.stepped_by == {threading.current_thread()}
    assert rig.consumer.commits[-2:] == [{0: 7}, {0: 7}], "at the end, and as the partition goes"
    assert rig.worker.counts["released"] == 1


def test_a_revoked_partition_is_drained_and_committed_before_it_goes():
    rig = rig_of(7, 8)

    def on_turn(turn):
        if turn == 1:
            rig.delivery.settles = True
            rig.worker.on_revoked([0])
            assert rig.consumer.commits[-1] == {0: 9}

    rig.run(1, on_turn)
    assert rig.delivery.flushed >= 1
    assert rig.worker.counts[Outcome.INDEXED] == 2
    assert rig.worker.counts["released"] == 0


def test_the_drain_of_a_revoked_partition_ends_at_its_deadline():
    rig = rig_of(7, timing=Timing(revoke_seconds=0.1), task=Task(1, drain_seconds=0.0))

    def on_turn(turn):
        if turn == 1:
            began = rig.clock.now
            rig.worker.on_revoked([0])
            assert 0.1 <= rig.clock.now - began < 0.2

    rig.run(1, on_turn)
    assert rig.worker.counts["released"] == 1


@pytest.mark.parametrize("kind", ["held", "waiting_for_time"])
def test_a_revoked_partition_leaves_at_once_what_waits(kind):
    """For its index, or for the next attempt: the next owner consumes it again."""
    rig = rig_of(7, 8)

    def on_turn(turn):
        if turn == 1:
            getattr(rig.delivery, kind)[0] = 2
            began = rig.clock.now
            rig.worker.on_revoked([0])
            assert rig.clock.now == began

    rig.run(1, on_turn)
    assert rig.delivery.flushed
    assert rig.worker.counts["released"] == 2


def test_a_revoked_partition_waits_for_what_is_under_way_beside_what_waits():
    rig = rig_of(7, 8)

    def on_turn(turn):
        if turn == 1:
            rig.delivery.held[0] = 1
            rig.worker.on_revoked([0])

    began = rig.clock.now
    rig.run(1, on_turn)
    assert rig.clock.now - began >= Timing().revoke_seconds == 2.0


def test_a_revoke_commits_the_revoked_partitions_alone():
    rig = rig_of(7, partitions=(0, 1))

    def on_turn(turn):
        if turn == 1:
            rig.delivery.settle_all()
            rig.worker.on_revoked([1])
            assert rig.consumer.commits[-1] == {1: 7}

    rig.run(1, on_turn)


def test_lost_partitions_are_not_committed():
    """They belong to another member already: a commit would move its offsets back."""
    rig = rig_of(7, 8)

    def on_turn(turn):
        if turn == 1:
            rig.delivery.settle_all()
            before = list(rig.consumer.commits)
            rig.worker.on_lost([0])
            assert rig.consumer.commits == before

    rig.run(1, on_turn)
    assert not any(0 in commit for commit in rig.consumer.commits)


def test_a_newly_assigned_partition_is_paused_while_the_deployment_is_wrong():
    rig = rig_of()
    rig.delivery.is_blocked = True
    assert rig.worker.on_assigned({0: 7, 1: 7}, {}) == {0, 1}


# Indices that take nothing


def test_the_newest_index_is_known_before_records_are_taken_in():
    rig = rig_of(7)
    for record in rig.consumer.chunks[0]:
        record.timestamp_ms = 1_767_225_600_000
    seen = []
    accept = rig.delivery.accept
    rig.delivery.accept = lambda *run: (seen.append(rig.delivery.newest), accept(*run))
    rig.run(1)
    assert seen == ["litellm-logs-2026.01.01"]


def test_what_waits_for_another_index_does_not_stop_the_intake():
    rig = rig_of(7, limits=Limits(in_flight_bytes=WEIGHT, partition_bytes=WEIGHT - 1))
    rig.delivery.held_bytes[0] = WEIGHT
    rig.consumer.chunks.append(records(8))
    rig.run(2)
    assert rig.worker.counts["consumed"] == 2


def test_the_intake_stops_where_records_in_flight_are_under_way():
    rig = rig_of(7, limits=Limits(in_flight_bytes=WEIGHT, partition_bytes=WEIGHT - 1))
    rig.consumer.chunks.append(records(8))
    rig.run(2)
    assert rig.worker.counts["consumed"] == 1


def test_a_partition_that_is_far_ahead_of_what_waits_is_told():
    rig = rig_of(7, 8, 9)
    rig.run(4)
    assert rig.delivery.next_offsets == {0: 10}


# The drain at the end


def test_a_worker_that_is_told_to_stop_settles_and_commits_what_it_has():
    rig = rig_of(7, 8)

    def on_turn(turn):
        rig.delivery.settles = turn == 1  # the last call: it is told to stop

    rig.run(1, on_turn)
    assert rig.delivery.flushed == 1
    assert rig.worker.counts[Outcome.INDEXED] == 2
    assert rig.worker.counts["released"] == 0
    assert {0: 9} in rig.consumer.commits
    assert rig.delivery.closed
    assert rig.consumer.closed


def test_the_drain_at_the_end_stops_where_only_a_person_can_help():
    rig = rig_of(7)
    rig.delivery.is_stuck = True
    began = rig.clock.now
    rig.run(1)
    assert rig.clock.now - began < 5.0
    assert rig.worker.counts["released"] == 1


def test_the_drain_at_the_end_leaves_what_waits_for_an_index_and_not_what_is_tried_again():
    held, tried_again = rig_of(7), rig_of(7)
    held.delivery.held[0] = 1
    tried_again.delivery.waiting_for_time[0] = 1
    took = []
    for rig in (held, tried_again):
        began = rig.clock.now
        rig.run(1)
        took.append(rig.clock.now - began)
    assert took[0] < 2.0
    assert took[1] > 19.0


def test_while_it_leaves_every_partition_is_paused():
    rig = rig_of(7, partitions=(0, 1), task=Task(1, drain_seconds=0.0))
    rig.run(1)
    assert rig.consumer.paused == {0, 1}


# The end of a task


def until(ends):
    return Task(1, until=ends, drain_seconds=0.1)


def test_a_worker_ends_when_its_own_and_all_other_partitions_are_committed():
    rig = rig_of(7, 8, task=until({0: 9, 1: 50}))
    rig.delivery.settles = True

    def on_turn(turn):
        if turn == 10:
            rig.consumer.group_offsets[1] = 49
        if turn == 20:
            rig.consumer.group_offsets[1] = 50

    assert rig.run(50, on_turn) == 21, "it waits until the group's other members have committed"


def test_a_worker_does_not_end_before_its_own_partitions_are_settled():
    rig = rig_of(7, 8, task=until({0: 10}))
    rig.delivery.settles = True

    def on_turn(turn):
        if turn == 20:
            rig.consumer.chunks = [records(9)]

    assert rig.run(50, on_turn) == 22


def test_a_worker_does_not_end_before_the_broker_has_its_own_commit():
    rig = rig_of(7, 8, task=until({0: 9}))
    rig.delivery.settles = rig.consumer.refuses_commits = True

    def on_turn(turn):
        if turn == 20:
            rig.consumer.refuses_commits = False
            rig.worker.on_commit_failed([0])

    assert rig.run(50, on_turn) == 21


@pytest.mark.parametrize(
    "log",
    [
        Log(
            0, 6, 6
        ),  # it ends before the group's offset: truncated, or the offset is from elsewhere
        Log(8, 900, 900),  # retention has deleted what the group reads next
        None,  # no leader tells
    ],
)
def test_an_offset_that_the_log_does_not_have_is_no_end(log):
    rig = rig_of(task=until({0: 5}))
    rig.logs = {0: log}

    def on_turn(turn):
        if turn == 20:
            rig.logs = {}

    assert rig.run(50, on_turn) == 21


def test_the_end_of_a_partition_is_learned_when_it_has_a_leader_again():
    rig = rig_of(7, 8, task=until({0: None}))
    rig.logs, rig.delivery.settles = {0: None}, True

    def on_turn(turn):
        if turn == 10:
            rig.logs = {0: Log(0, 11, 11)}
        if turn == 20:
            rig.logs = {0: Log(0, 90, 90)}  # what comes later is not of this task
            rig.consumer.chunks = [records(9, 10)]

    assert rig.run(50, on_turn) == 22


@pytest.mark.parametrize("error", [KafkaUnreachable("away"), PipelineError("refused")])
def test_a_broker_that_does_not_tell_the_groups_offsets_is_no_end(error):
    rig = rig_of(task=until({0: 7}))

    def refuse(_partitions):
        raise error

    rig.find_places = refuse
    assert rig.run(30) == 30


def test_a_worker_does_not_end_while_a_record_is_unsettled():
    rig = rig_of(7, 8, task=until({0: 7}))
    assert rig.run(30) == 30


def test_a_worker_does_not_end_before_it_has_joined_the_group():
    rig = rig_of(task=until({}))
    rig.consumer.joined = False
    assert rig.run(30) == 30
    assert rig_of(task=until({})).run(30) == 1


def test_a_worker_with_an_end_stops_with_an_error_when_the_circuit_opens():
    rig = rig_of(7, task=until({0: 8}))
    turns = []

    def on_turn(turn):
        turns.append(turn)
        rig.delivery.circuit_open = "nearly every record fails" if turn >= 2 else ""

    with pytest.raises(CircuitOpenError, match="nearly every record fails"):
        rig.run(10, on_turn)
    assert turns == [0, 1, 2]
    assert rig.delivery.closed


def test_a_worker_with_an_end_waits_for_the_probe_of_an_open_circuit():
    rig = rig_of(7, task=until({0: 8}))

    def on_turn(turn):
        rig.delivery.circuit_open = "nearly every record fails" if turn < 5 else ""
        rig.delivery.is_probing = turn < 5
        rig.delivery.settles = turn == 5

    assert rig.run(10, on_turn) < 10
    assert rig.worker.counts[Outcome.INDEXED] == 1


def test_a_worker_consumes_no_more_than_its_delivery_has_room_for():
    rig = rig_of(7)

    def on_turn(turn):
        rig.delivery.room = 100 - turn if turn else None

    rig.run(3, on_turn)
    assert rig.consumer.asked_for == [None, 99, 98]


def test_partitions_that_bring_an_open_circuit_are_paused_until_the_bound_is_told():
    rig = rig_of()
    rig.delivery.room = 100
    assert set(rig.worker.on_assigned({0: 7, 1: 7}, {})) == {0, 1}


def test_a_drain_does_not_wait_for_records_that_are_held_for_their_own_sake():
    rig = rig_of(7, 8)
    rig.delivery.held[0] = 2
    rig.run(2)
    assert rig.clock.now < 1_010.0
    assert rig.consumer.closed


def test_a_partition_of_which_enough_is_held_is_paused_and_the_others_are_not():
    rig = rig_of(7, partitions=(0, 1))
    rig.delivery.settles = True

    def on_turn(turn):
        rig.delivery.full_partitions = frozenset({1, 9} if turn else ())
        if turn == 2:
            assert rig.consumer.paused == {1}

    rig.run(2, on_turn)


def test_what_a_rebalance_takes_away_is_dropped_from_what_is_held():
    rig = rig_of()
    rig.run(1)
    before = rig.delivery.dropped
    rig.worker.on_lost([0])
    assert rig.delivery.dropped == before + 1


def test_a_worker_without_a_partition_forgets_an_open_circuit():
    rig = rig_of(partitions=(0, 1))
    rig.run(1)
    before = rig.delivery.forgotten
    rig.worker.on_assigned({0: 7, 1: 7}, {})
    rig.worker.on_lost([0])
    assert rig.delivery.forgotten == before
    rig.worker.on_lost([1])
    assert rig.delivery.forgotten == before + 1


def test_a_worker_without_an_end_goes_on_while_the_circuit_is_open():
    rig = rig_of(7)
    rig.delivery.circuit_open = "nearly every record fails"
    assert rig.run(10) == 10


# Partitions that stand still


def stand_still(rig, turn, flaw=Flaw.GONE):
    if turn == 0:
        rig.consumer.standstills.record(0, flaw, 7, "why")


def test_a_partition_that_stands_still_moves_on_over_an_accepted_gap():
    rig = rig_of(turn_seconds=1.0)
    rig.gaps = {0: [Gap(3, 9, 0), Gap(7, 40, 0)], 1: [Gap(7, 99, 0)]}
    rig.run(1, lambda turn: stand_still(rig, turn))
    assert rig.consumer.skipped == [(0, 40)]
    assert rig.consumer.commits[-1] == {0: 40}


def test_a_partition_that_stands_still_elsewhere_does_not_move():
    rig = rig_of(turn_seconds=1.0)
    rig.gaps = {0: [Gap(6, 40, 0), Gap(8, 40, 0)]}
    rig.run(10, lambda turn: stand_still(rig, turn))
    assert rig.consumer.skipped == []


def test_a_partition_with_unsettled_records_does_not_move_yet():
    rig = rig_of(7, turn_seconds=1.0)
    rig.gaps = {0: [Gap(8, 40, 0)]}
    moved = []

    def on_turn(turn):
        stand_still(rig, turn)
        moved.append(list(rig.consumer.skipped))
        rig.delivery.settles = turn == 8

    rig.run(20, on_turn)
    assert moved[8] == []
    assert rig.consumer.skipped == [(0, 40)]


def test_a_damaged_partition_is_read_again_from_the_offset_that_it_expects():
    rig = rig_of(7, 8, turn_seconds=1.0)
    rig.delivery.settles = True
    rig.consumer.standstills = Standstills("t", 60.0, rig.clock)
    rig.run(50, lambda turn: stand_still(rig, turn, Flaw.DAMAGED))
    assert rig.consumer.read_from == []
    rig = rig_of(7, 8, turn_seconds=1.0)
    rig.consumer.standstills = Standstills("t", 60.0, rig.clock)
    rig.run(80, lambda turn: stand_still(rig, turn, Flaw.DAMAGED))
    assert rig.consumer.read_from == [(0, 9)]


def test_a_damaged_partition_is_read_again_although_the_gaps_cannot_be_read():
    rig = rig_of(turn_seconds=1.0)

    def find_gaps():
        raise KafkaUnreachable("no broker")

    rig.find_gaps = find_gaps
    rig.consumer.standstills = Standstills("t", 5.0, rig.clock)
    rig.run(20, lambda turn: stand_still(rig, turn, Flaw.DAMAGED))
    assert rig.consumer.read_from == [(0, 7)]


def test_partitions_with_nothing_in_flight_are_watched_for_their_silence():
    rig = rig_of(7, partitions=(0, 1), turn_seconds=1.0)
    rig.run(2)
    assert rig.consumer.watched == {1: 7}


def test_kafka_that_does_not_answer_does_not_end_the_search_for_gaps():
    rig = rig_of(turn_seconds=1.0)
    answers = [KafkaUnreachable("no broker"), {0: [Gap(7, 40, 0)]}]

    def find_gaps():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    rig.find_gaps = find_gaps
    rig.run(10, lambda turn: stand_still(rig, turn))
    assert rig.consumer.skipped == [(0, 40)]


# Flow and state


def test_a_worker_with_enough_in_flight_does_not_poll():
    rig = rig_of(
        7, 8, limits=Limits(in_flight_bytes=2 * WEIGHT - 1, partition_bytes=9999), turn_seconds=0.01
    )
    rig.consumer.chunks += [records(9), records(10)]
    left = []
    rig.run(5, lambda turn: left.append(len(rig.consumer.chunks)))
    assert left == [3, 2, 2, 2, 2, 2]
    rig.delivery.settle_all()


def test_records_without_values_fill_a_worker_too():
    limits = Limits(in_flight_bytes=2 * OVERHEAD_BYTES - 1, partition_bytes=9999)
    rig = rig_of(limits=limits, turn_seconds=0.01)
    rig.consumer.chunks = [[FakeRecord(7, None), FakeRecord(8, None)], [FakeRecord(9, None)]]
    rig.run(5)
    assert rig.worker.counts["consumed"] == 2


def test_a_worker_that_gets_heavy_headers_pauses_at_once():
    """The client fetches on while nothing is polled, and does not count headers."""
    limits = Limits(in_flight_bytes=100_000, partition_bytes=100_000)
    rig = rig_of(limits=limits, turn_seconds=0.01)
    rig.consumer.chunks = [[FakeRecord(7, headers=[("h", b"x" * 100_000)])], []]
    paused = []
    rig.run(2, lambda _: paused.append(set(rig.consumer.paused)))
    assert paused[1] == {0}


def test_letters_on_their_way_fill_a_worker():
    rig = rig_of(7, limits=Limits(partition_bytes=9999), turn_seconds=0.01)
    rig.delivery.letter_bytes = Limits().in_flight_bytes
    rig.consumer.chunks += [records(8)]
    rig.run(5)
    assert rig.worker.counts["consumed"] == 1


def test_a_refusal_of_kafka_makes_the_worker_unhealthy():
    rig = rig_of()
    assert rig.worker.unhealthy == ""
    rig.consumer.unhealthy = "Kafka: no"
    assert rig.worker.report()["unhealthy"] == "Kafka: no"


def test_what_kafka_does_not_give_comes_before_what_elasticsearch_does_not_take():
    rig = rig_of()
    rig.delivery.unhealthy = "Elasticsearch: no"
    assert rig.worker.unhealthy == "Elasticsearch: no"
    rig.consumer.unhealthy = "partition 3 stands still"
    assert rig.worker.unhealthy.startswith("partition 3 stands still")


def test_a_worker_says_for_a_minute_why_its_last_process_ended():
    rig = rig_of(task=Task(1, last_end="killed with signal 9"))
    rig.clock.now += 12.0
    assert rig.worker.unhealthy == "started again 12 s ago; before that: killed with signal 9"
    rig.delivery.unhealthy = "Elasticsearch: no"
    assert rig.worker.unhealthy == "Elasticsearch: no", "what is wrong now comes first"
    rig.delivery.unhealthy = ""
    rig.process_unhealthy = "stderr takes no line"
    rig.elastic.silence = "no answer of Elasticsearch"
    assert rig.worker.unhealthy == "no answer of Elasticsearch"
    rig.elastic.silence = ""
    rig.elastic.notice = "node http://b: refused"
    assert rig.worker.unhealthy == "node http://b: refused"
    rig.elastic.notice = ""
    assert rig.worker.unhealthy == "stderr takes no line"
    rig.process_unhealthy = ""
    rig.clock.now += 48.0
    assert rig.worker.unhealthy == ""


def test_the_report_has_the_counts_of_worker_and_delivery():
    rig = rig_of(7, 8)
    rig.delivery.counts["retries"] = 4
    rig.delivery.dead_letters["f", "index"] = 2
    report = {}
    rig.run(1, lambda turn: report.update(rig.worker.report()))
    assert (report["consumed"], report["retries"], report["in_flight"]) == (2, 4, 2)
    assert report["dead_letters"] == {("f", "index"): 2}
