"""Owns the readings of the dead-letter topic, with a bound, and the replay: the CLI's own code."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ConfigurationError, ElasticsearchError, Unreachable
from llmlog_consumer.dead_letters.contents import Contents
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.reader import DeadLetters, read_letter_at
from llmlog_consumer.dead_letters.recovered import find_recovered
from llmlog_consumer.dead_letters.stats import Stats
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.elasticsearch.lookup import DocumentLookup
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.offsets import KafkaOffsets
from llmlog_consumer.provision.requirements import require_template
from llmlog_consumer.replay.replay import ReplayRun
from llmlog_consumer.replay.scan import ReplayScan
from llmlog_consumer.replay.wiring import new_dry_run, new_policy, new_replay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llmlog_common.settings import Settings
    from llmlog_consumer.console.jobs import Job
    from llmlog_consumer.dead_letters.mending.changes import Change

MAX_LETTERS: Final = 200_000
"""Letters that one reading goes through, the newest of each partition; the page says so."""
MAX_ROWS: Final = 200
TIMEOUT_SECONDS: Final = 8.0
KAFKA_SECONDS: Final = 4.0
"""Time for a first answer of any broker: a person waits for it."""
Ranges = dict[int, tuple[int, int]]


def bound_ranges(ranges: Mapping[int, tuple[int, int]], most: int) -> tuple[Ranges, int]:
    """Return the newest part of what is to be read, and how many letters are left out. Pure.

    Args:
        ranges: first and next-after-last offset of each partition.
        most: letters at most.
    """
    sizes = {p: max(0, end - start) for p, (start, end) in ranges.items()}
    if sum(sizes.values()) <= most:
        return dict(ranges), 0
    # As evenly as the partitions allow: a small one leaves its share to the others.
    left, shares = most, {}
    for number, p in enumerate(sorted(sizes, key=lambda one: sizes[one])):
        shares[p] = min(sizes[p], left // (len(sizes) - number))
        left -= shares[p]
    bounded = {p: (end - shares[p], end) for p, (_, end) in ranges.items()}
    return bounded, sum(sizes.values()) - sum(shares.values())


class LetterDesk:
    """What the page *Dead letters* reads and does. Any thread may call it.

    Args:
        settings: of the deployment.
        max_letters: that one reading goes through.
    """

    def __init__(self, settings: Settings, *, max_letters: int = MAX_LETTERS) -> None:
        self._settings = settings
        self._max_letters = max_letters

    def count_causes(self, job: Job, since_ms: int | None) -> dict[str, Any]:
        """Return what `pipeline dlq stats --json` prints, and how many letters were left out."""
        letters, left_out = self._open(job, since_ms)
        counts = Stats(Filter(since_ms=since_ms), groups=letters.groups)
        lookup: DocumentLookup | None = self._new_lookup()
        for chunk in letters.read_all():
            recovered = None
            if lookup is not None:
                try:
                    found = find_recovered(
                        lookup, (read_letter(record, content=False) for record in chunk)
                    )
                    recovered = found.ids
                except (ElasticsearchError, Unreachable):
                    lookup = None  # then it is not known, and the page says so
            counts.add(chunk, recovered)
        return counts.as_json() | {"left_out": left_out, "topic": letters.topic}

    def list_letters(self, job: Job, wanted: Filter) -> list[dict[str, Any]]:
        """Return the newest letters of a cause, as `pipeline dlq list --json` prints them."""
        letters, _ = self._open(job, wanted.since_ms)
        newest = list(letters.read_newest_first(wanted, MAX_ROWS))
        recovered = None
        with suppress(ElasticsearchError, Unreachable):
            recovered = find_recovered(self._new_lookup(), newest)
        return [
            letter.as_json(recovered=None if recovered is None else recovered.tell(letter.event_id))
            for letter in newest
        ]

    def read(self, coordinates: str, *, show_content: bool) -> dict[str, Any]:
        """Return one letter, as `pipeline dlq show --json` prints it.

        Raises:
            ConfigurationError: no letter has these coordinates.
        """
        letter = read_letter_at(self._settings, coordinates)
        recovered = None
        with suppress(ElasticsearchError, Unreachable):
            recovered = find_recovered(self._new_lookup(), [letter]).tell(letter.event_id)
        row = letter.as_json(recovered=recovered, show_content=show_content)
        return row | Contents(self._settings, show=show_content).describe(letter)

    def dry_run(self, job: Job, wanted: Filter, changes: Sequence[Change] = ()) -> dict[str, Any]:
        """Return what `pipeline dlq replay --dry-run --json` prints, with values of an example."""
        letters = self._open_whole(job, wanted.since_ms)
        policy = new_policy(self._settings, changes)
        plan = new_dry_run(policy, Elastic(self._settings, timeout=TIMEOUT_SECONDS))
        rows = plan.report(letters.read_newest(wanted, content=True))
        return {"fingerprints": rows, "mending": plan.report_changes(show_content=True)}

    def replay(
        self, job: Job, wanted: Filter, changes: Sequence[Change] = (), *, by: str = ""
    ) -> dict[str, int]:
        """Replay the letters into the index, and return them by outcome.

        Args:
            job: that is told how far it is.
            wanted: which letters.
            changes: that mend them.
            by: who mends.
        """
        letters = self._open_whole(job, wanted.since_ms)
        require_template(Elastic(self._settings, timeout=TIMEOUT_SECONDS), self._settings.index)
        scan = ReplayScan(self._settings, letters, wanted)
        if scan.topic_warning:
            raise ConfigurationError(scan.topic_warning)
        scan.stopping = job.is_stopping

        def show(done: int) -> None:
            job.step, job.done, job.total = "replaying", done, 0

        policy = new_policy(self._settings, changes, by=by)
        run = ReplayRun(policy, job.is_stopping, progress=show)
        finished = new_replay(self._settings, run).run(scan)
        counts = {str(name): count for name, count in run.counts.items() if count}
        return counts if finished else {**counts, "stopped": 1}

    def _open(self, job: Job, since_ms: int | None) -> tuple[DeadLetters, int]:
        offsets = KafkaOffsets(KafkaAdmin(self._settings, patience_seconds=KAFKA_SECONDS))
        ranges = offsets.ranges_since(self._settings.dlq_topic, since_ms)
        bounded, left_out = bound_ranges(ranges, self._max_letters)
        report: Callable[[str, int, int], None] = job.report
        return DeadLetters(self._settings, ranges=bounded, progress=report), left_out

    def _open_whole(self, job: Job, since_ms: int | None) -> DeadLetters:
        letters, left_out = self._open(job, since_ms)
        if left_out:
            raise ConfigurationError(
                f"{left_out} letters are more than the console reads: use `pipeline dlq replay`"
            )
        return letters

    def _new_lookup(self) -> DocumentLookup:
        elastic = Elastic(self._settings, timeout=TIMEOUT_SECONDS)
        return DocumentLookup(elastic, self._settings.index)
