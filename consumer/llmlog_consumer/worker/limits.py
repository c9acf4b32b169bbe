"""Owns what bounds a worker: its intervals and deadlines, counts and bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmlog_consumer.delivery.limits import DeliveryLimits
from llmlog_consumer.worker.flow_control import MAX_IN_FLIGHT_BYTES, MAX_PARTITION_BYTES


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals, waits and deadlines of a worker, in seconds.

    Attributes:
        commit_seconds: between two commits.
        note_seconds: between two commits of every partition with a note on the worker's state.
        gap_seconds: between two searches for accepted gaps, while a partition stands still.
        unsettled_seconds: age at which an unsettled record raises the alarm.
        revoke_seconds: to finish requests, letters and the commit of all revoked partitions.
        leave_seconds: for the last commit, and again to leave the group, at least.
        idle_poll_seconds: wait for records while nothing is in flight.
        busy_poll_seconds: the same while something is.
        step_seconds: wait for an answer while no record may be consumed.
        restarted_seconds: after a start, in which the end of the last process is said.
        end_seconds: between two checks whether the task's end is reached.
    """

    commit_seconds: float = 1.0
    note_seconds: float = 3.0
    gap_seconds: float = 5.0
    unsettled_seconds: float = 60.0
    revoke_seconds: float = 2.0
    leave_seconds: float = 2.0
    idle_poll_seconds: float = 0.1
    busy_poll_seconds: float = 0.005
    step_seconds: float = 0.02
    restarted_seconds: float = 60.0
    end_seconds: float = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """Counts and bytes that bound a worker.

    Attributes:
        commit_records: records settled after which a commit does not wait for its time.
        in_flight_bytes: what records weigh that are consumed and not settled, over all partitions.
        partition_bytes: the same, of one partition.
        delivery: bounds of batches and of requests.
    """

    commit_records: int = 10_000
    in_flight_bytes: int = MAX_IN_FLIGHT_BYTES
    partition_bytes: int = MAX_PARTITION_BYTES
    delivery: DeliveryLimits = field(default_factory=DeliveryLimits)
