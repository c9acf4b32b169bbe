"""Owns the times and the bounds of sending, each with its default. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Timing:
    """Seconds.

    Attributes:
        max_idle_seconds: the longest wait of the sending thread. An event waits so long at most; by
            then the events sent before it are acknowledged, or overdue.
        poll_seconds: the wait where Kafka's answers are awaited, or where there is a backlog.
        max_busy_seconds: work of one step, one conversion or two; then the other threads have the
            interpreter. It would be taken from them at each of their requests, for 5 ms each.
        give_way_seconds: the pause after such a step. In a tenth of a millisecond they get nothing
            done, and 99% of a proxy's requests took up to 1.4 of what they take without us.
        housekeeping_seconds: interval of what is done once in a while; the shortest idle wait.
        refusal_pause_seconds: pause after Kafka has refused an event for the cluster's reasons.
        rebuild_seconds: shortest time between two replacements of the Kafka client.
        certificate_seconds: between two looks at the files of certificates.
        stuck_seconds: time for the conversion of one payload that may run foreign code; then its
            event is made without the content. `overdue_seconds` where the process may end.
        move_seconds: age at which events of a partition that does not answer are sent to others.
        overdue_seconds: age at which an event goes to the journal: it is there before memory alone
            has held it for 2 seconds. Events half as old go with it.
        adopt_seconds: interval of the search for journals of dead processes.
        topic_retry_seconds: interval of the lookups until the topic is found.
        topic_refresh_seconds: interval of the lookups afterwards; the Kafka client's own default
            of `topic.metadata.refresh.interval.ms`.
        thread_retry_seconds: pause after the system has refused to start the sending thread.
        signal_poll_seconds: interval at which a signal handler looks whether all is saved.
        hook_seconds: the longest wait of a hook for its event to be in the journal; then the event
            stays in memory. Only with `LLMLOG_JOURNAL=always`, and after a SIGTERM.
        release_seconds: the longest wait at the end for the journal's thread, and for log lines.
        flush_poll_seconds: interval at which `flush` looks whether all is settled. It is bounded
            because a signal handler may wait for the thread that notifies.
    """

    max_idle_seconds: float = 0.9
    poll_seconds: float = 0.05
    max_busy_seconds: float = 0.0003
    give_way_seconds: float = 0.0005
    housekeeping_seconds: float = 0.25
    refusal_pause_seconds: float = 2.0
    rebuild_seconds: float = 5.0
    certificate_seconds: float = 5.0
    move_seconds: float = 30.0
    stuck_seconds: float = 5.0
    overdue_seconds: float = 0.8
    adopt_seconds: float = 30.0
    topic_retry_seconds: float = 2.0
    topic_refresh_seconds: float = 300.0
    thread_retry_seconds: float = 1.0
    signal_poll_seconds: float = 0.005
    hook_seconds: float = 0.005
    release_seconds: float = 1.0
    flush_poll_seconds: float = 0.05


@dataclass(frozen=True)
class Limits:
    """Counts and bytes.

    Attributes:
        in_flight_events: events that Kafka has not answered yet.
        taken_events: events that the sending thread takes from the queue at once.
        backlog_events: events in flight up to which the journal's old events are sent: new events
            do not wait for them.
        write_events: events that one call writes to the journal.
        write_bytes: bytes after which the journal's thread is given no further event at once.
    """

    in_flight_events: int = 10_000
    taken_events: int = 32
    backlog_events: int = 500
    write_events: int = 32
    write_bytes: int = 1024 * 1024


TIMING: Final = Timing()
LIMITS: Final = Limits()
