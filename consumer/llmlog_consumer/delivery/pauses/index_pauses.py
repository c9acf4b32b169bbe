"""Owns the pauses of single indices: which documents wait for each, and for how long. Pure.

An index that is closed, blocked, full or without its shards keeps its own documents waiting. Those
of every other index go on.

taking ──hold──> paused ──take_probes──> probing ──end_probe──> taking
                   ^ │                      │
                   │ └── give_up: letters   │
                   └────── hold, keep_probe ┘
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from llmlog_consumer.backoff import Backoff
from llmlog_consumer.delivery.pauses.index_pause import GivenUp, Held, IndexPause, weigh
from llmlog_consumer.elasticsearch.batch import join
from llmlog_consumer.elasticsearch.index_names import is_before

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from llmlog_consumer.delivery.pauses.index_pause import Refusal
    from llmlog_consumer.elasticsearch.batch import Batch, Operation

_PROBE_BACKOFF: Final = Backoff(first_seconds=1.0, max_seconds=15.0)
_SHORT_BACKOFF: Final = Backoff(first_seconds=0.25, max_seconds=15.0)

PATIENCE_SECONDS: Final = 4.0
"""Age of a pause from which on it is said, where its answer may end by itself."""


@dataclass(frozen=True, slots=True)
class HoldLimits:
    """Bounds of what waits for indices that are not the newest.

    Attributes:
        wait_seconds: time after the first refusal of an index until its documents become letters.
        max_bytes: memory of all documents that wait.
        max_records_behind: records that the partition of a waiting one may be ahead of it.
        max_probes: probes under way at once.
        forget_seconds: time after the last refusal until an index for which nothing waits is
            forgotten.
    """

    wait_seconds: float = 300.0
    max_bytes: int = 8 * 1024 * 1024
    max_records_behind: int = 500_000
    max_probes: int = 2
    forget_seconds: float = 900.0


class IndexPauses:
    """The paused indices of one worker. The thread that runs the delivery owns it.

    Args:
        limits: bounds of what waits.
        on_released: called with each record that waits no more because its partition was released.

    Attributes:
        newest: name of the newest index; documents of it, and of later ones, never become letters
            here. Empty where it is unknown, which protects all of them.
    """

    def __init__(
        self,
        limits: HoldLimits | None = None,
        on_released: Callable[[Operation], None] = lambda _: None,
    ) -> None:
        self._limits = limits or HoldLimits()
        self._on_released = on_released
        self._pauses: dict[str, IndexPause] = {}
        # Of pauses that an earlier owner of a partition had: since when, and when we were told.
        self._earlier: dict[str, tuple[float, float]] = {}
        self.newest = ""

    def __bool__(self) -> bool:
        """Tell whether any index is paused."""
        return bool(self._pauses)

    @property
    def names(self) -> Mapping[str, object]:
        """The paused indices; a live view, for look-ups."""
        return self._pauses

    @property
    def held(self) -> int:
        """Documents that wait; probes are not among them."""
        return sum(len(pause.held) for pause in self._pauses.values())

    @property
    def probing(self) -> int:
        """Probes under way: an index without shards answers late, and the others do not wait."""
        return sum(pause.probe is not None for pause in self._pauses.values())

    @property
    def needs_person(self) -> bool:
        """Tell whether documents wait, and every one of them for a person."""
        refusals = [pause.refusal for pause in self._pauses.values() if pause.held]
        return bool(refusals) and all(refusal.needs_person for refusal in refusals)

    def reason(self, now: float) -> str:
        """Say which indices take no document, why, and what to do; empty where all do.

        An answer that ends by itself counts after a while.
        """
        waiting = {
            name: pause
            for name, pause in self._pauses.items()
            if (pause.held or pause.probe)
            and (pause.refusal.needs_person or now - pause.began >= PATIENCE_SECONDS)
        }
        if not waiting:
            return ""
        name = max(waiting)
        number = len(waiting[name].held) + (waiting[name].probe is not None)
        more = f" (and {len(waiting) - 1} more indices)" if len(waiting) > 1 else ""
        documents = "1 document waits" if number == 1 else f"{number} documents wait"
        return f"index {name}: {waiting[name].refusal.message}; {documents}{more}"

    def is_protected(self, index: str) -> bool:
        """Tell whether documents of this index never become letters here."""
        return not self.newest or not is_before(index, self.newest)

    def hold(self, batch: Batch, refusal: Refusal, now: float, *, probe: Batch) -> bool:
        """Hold documents of one index that it refused; True where this begins the pause.

        Args:
            batch: the refused documents.
            refusal: the answer.
            now: monotonic seconds.
            probe: the batch as it was sent. The wait for the next probe grows where this was the
                probe, and not by batches that were under way when the pause began.
        """
        (index,) = batch.indices
        pause = self._pauses.get(index)
        begins = pause is None
        if pause is None:
            pause = IndexPause(refusal, self._first_refused(index, now), now, now)
            self._pauses[index] = pause
        elif pause.probe is probe:
            pause.refusals += 1
            pause.probe = None
        pause.refusal, pause.refused_at = refusal, now
        backoff = _PROBE_BACKOFF if refusal.needs_person else _SHORT_BACKOFF
        pause.next_probe = now + backoff.delay(pause.refusals)
        self._keep(pause, batch)
        return begins

    def keep(self, batch: Batch) -> Batch | None:
        """Hold the documents of paused indices; return the others, None where there is none."""
        rest = []
        for operation in batch.operations:
            pause = self._pauses.get(operation.index_name)
            if pause is None:
                rest.append(operation)
            else:
                self._keep(pause, batch.part([operation]))
        return batch.part(rest) if rest else None

    def keep_probe(self, probe: Batch, remainder: Batch, not_before: float) -> bool:
        """Hold a probe that told nothing about its index; False where it was no probe."""
        pause = self._probed(probe)
        if pause is None:
            return False
        pause.probe, pause.next_probe = None, not_before
        self._keep(pause, remainder)
        return True

    def take_probes(self, now: float) -> list[Batch]:
        """Return the documents to send now as probes: the one that has waited for longest of each.

        A probe that is refused waits behind the others. So one document that its index always
        fails does not keep the index paused.
        """
        probing = self.probing
        due = [p for p in self._pauses.values() if p.probe is None and p.next_probe <= now]
        probes: list[Batch] = []
        for pause in sorted(due, key=lambda pause: pause.next_probe):
            if probing + len(probes) >= self._limits.max_probes:
                break
            self._drop_released(pause)
            if pause.held:
                pause.probe = pause.pop().batch
                probes.append(pause.probe)
        if due:
            self._forget(now)
        return probes

    def end_probe(self, batch: Batch) -> tuple[str, list[Batch]] | None:
        """End the pause whose probe this was, where it still is.

        Returns:
            The index, and what waited for it, in batches; None where this was no probe, or its
            document waits again.
        """
        if not self._pauses or (pause := self._probed(batch)) is None:
            return None
        (index,) = batch.indices
        del self._pauses[index]
        self._drop_released(pause)
        return index, list(join(held.batch for held in pause.held))

    def drop_probe(self, batch: Batch, now: float) -> None:
        """Forget that this batch is a probe: it waits elsewhere, and told nothing of its index."""
        if (pause := self._probed(batch)) is not None:
            pause.probe = None
            pause.next_probe = now + _SHORT_BACKOFF.delay(pause.refusals)

    def drop_released(self) -> None:
        """Drop the documents that a rebalance took away."""
        for pause in self._pauses.values():
            self._drop_released(pause)

    def give_up(self, now: float) -> Iterator[GivenUp]:
        """Yield the documents whose wait has reached a bound; they become letters.

        Of those that came later and were never sent, one waits to be the next probe: an index that
        takes documents again is found.
        """
        wait = self._limits.wait_seconds
        for index, pause in self._pauses.items():
            if self.is_protected(index):
                # The time of an index begins when it is the newest no more.
                pause.since = now if self.newest else pause.since
            elif pause.refusal.is_final:
                yield from self._give_up_all(pause, "")
            elif now - pause.since >= wait:
                yield from self._give_up_all(pause, f"the index took none for {wait:.0f} s")
        while (heaviest := self._too_heavy()) is not None:
            why = f"{self._limits.max_bytes} bytes wait for such indices"
            yield from self._give_up_one(heaviest, heaviest.pop(), why)

    def give_up_behind(self, next_offsets: Mapping[int, int]) -> Iterator[GivenUp]:
        """Yield the documents that hold their partition's watermark back for too long.

        Args:
            next_offsets: the next offset to consume, by partition.
        """
        limit = self._limits.max_records_behind
        why = f"{limit} later records of its partition are settled"
        for index, pause in self._pauses.items():
            if self.is_protected(index):
                continue
            behind = [_is_behind(held.batch, next_offsets, limit) for held in pause.held]
            for is_behind in behind if any(behind) else ():
                held = pause.pop()
                if is_behind:
                    yield from self._give_up_one(pause, held, why)
                else:
                    pause.keep(held)

    def operations(self) -> Iterator[Operation]:
        """Yield the documents that wait; probes are not among them."""
        for pause in self._pauses.values():
            for held in pause.held:
                yield from held.batch.operations

    def waiting(self) -> Counter[int]:
        """Return how many documents wait, by partition; probes are among them."""
        waiting = sum((pause.records for pause in self._pauses.values()), Counter[int]())
        for pause in self._pauses.values():
            for operation in pause.probe.operations if pause.probe is not None else ():
                waiting[operation.span.partition] += 1
        return waiting

    def waiting_bytes(self) -> Counter[int]:
        """Return what records weigh in flight that wait for unprotected indices, by partition."""
        unprotected = [p for index, p in self._pauses.items() if not self.is_protected(index)]
        return sum((pause.in_flight_bytes for pause in unprotected), Counter())

    def ages(self, now: float) -> dict[str, int]:
        """Return for how many seconds each unprotected index has been paused."""
        return {
            index: round(now - pause.since)
            for index, pause in self._pauses.items()
            if not self.is_protected(index) and (pause.held or pause.probe)
        }

    def remember(self, ages: Mapping[str, float], now: float) -> None:
        """Take over for how many seconds indices were paused where a partition was before."""
        for index, seconds in ages.items():
            since = now - seconds
            if (pause := self._pauses.get(index)) is not None:
                pause.since = min(pause.since, since)
            else:
                self._earlier[index] = min(self._earlier.get(index, (since, now))[0], since), now

    def _first_refused(self, index: str, now: float) -> float:
        """Return since when an index has been paused; earlier owners of a partition count."""
        since, told = self._earlier.pop(index, (now, now))
        # The document that waited is consumed again at once; a later pause has a time of its own.
        return since if now - told <= self._limits.wait_seconds else now

    def _keep(self, pause: IndexPause, batch: Batch) -> None:
        for operation in batch.operations:
            alone = batch.alone(operation)
            pause.keep(Held(alone, weigh(alone)))

    def _drop_released(self, pause: IndexPause) -> None:
        if not any(held.batch.operations[0].span.released for held in pause.held):
            return
        for _ in range(len(pause.held)):
            held = pause.pop()
            if held.batch.operations[0].span.released:
                self._on_released(held.batch.operations[0])
            else:
                pause.keep(held)

    def _probed(self, batch: Batch) -> IndexPause | None:
        return next((pause for pause in self._pauses.values() if pause.probe is batch), None)

    def _give_up_all(self, pause: IndexPause, why: str) -> Iterator[GivenUp]:
        next_probe: Held | None = None
        while pause.held:
            held = pause.pop()
            if pause.probe is None and next_probe is None and not held.batch.retry.attempts:
                next_probe = held
            else:
                yield from self._give_up_one(pause, held, why)
        if next_probe is not None:
            pause.keep(next_probe)

    def _give_up_one(self, pause: IndexPause, held: Held, why: str) -> Iterator[GivenUp]:
        (operation,) = held.batch.operations
        if operation.span.released:
            self._on_released(operation)
        else:
            yield GivenUp(held.batch, pause.refusal, why)

    def _too_heavy(self) -> IndexPause | None:
        """Return the pause that holds most, where all hold too much; one document may stay."""
        pauses = [p for i, p in self._pauses.items() if p.held and not self.is_protected(i)]
        total = sum(pause.held_bytes for pause in pauses)
        if total <= self._limits.max_bytes or sum(len(pause.held) for pause in pauses) == 1:
            return None
        return max(pauses, key=lambda pause: pause.held_bytes)

    def _forget(self, now: float) -> None:
        for index, pause in list(self._pauses.items()):
            idle = not pause.held and pause.probe is None
            if idle and now - pause.refused_at >= self._limits.forget_seconds:
                del self._pauses[index]


def _is_behind(batch: Batch, next_offsets: Mapping[int, int], limit: int) -> bool:
    operation = batch.operations[0]
    next_offset = next_offsets.get(operation.span.partition, 0)
    return next_offset - operation.record.offset() > limit
