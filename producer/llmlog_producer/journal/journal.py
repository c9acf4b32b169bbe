"""Owns the journal's folder: appends events, hands out the unsent, takes over from dead processes.

    <folder>/<owner>.lock          held by flock(2) while the owner lives
    <folder>/<owner>.<n>.journal   its segments; one is deleted when all its events are settled

Several processes share a folder. The kernel drops a dead process's lock, and the process that
gets it next owns the segments.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import secrets
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from llmlog_producer.journal.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_common.settings import Settings

SEGMENT_BYTES: Final = 4 * 1024 * 1024
"""A segment is closed at this size: a crash sends no more than so many bytes twice."""

KEY_BYTES: Final = 20
"""A frame's body is the event id, then the value in single-object encoding."""


class Ref(NamedTuple):
    """Where an event lies."""

    segment: Segment
    number: int
    offset: int


class Recovered(NamedTuple):
    """The result of `adopt`.

    Attributes:
        events: events to be sent.
        truncated: files that ended within an event.
        damaged: places that cannot be read.
    """

    events: int
    truncated: int
    damaged: int


def folder_of(settings: Settings) -> Path:
    """Return the journal's folder: one for each topic, since its events go to that topic.

    Raises:
        RuntimeError: the user has no home folder, and none is set.
    """
    if settings.journal_dir is not None:
        return settings.journal_dir / settings.topic
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "llmlog-pipeline" / "journal" / settings.topic


class Journal:
    """The journal of one process; every method may be called from any thread.

    Args:
        folder: made if it is not there, for its user alone: prompts lie in it.
        max_bytes: of all files in the folder; past it, events are refused. Other processes'
            files count as `adopt` saw them last.
        segment_bytes: for tests.

    Attributes:
        problem: why the last event was refused.
        lost: events that were written and cannot be read any more.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, max_bytes: int, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        self.folder = folder
        self.problem = ""
        self.lost = 0
        self._max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max(1, max_bytes // 4))
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._name = ""
        self._locks: dict[str, int] = {}
        self._segments: list[Segment] = []
        self._active: Segment | None = None
        self._held = 0
        self._elsewhere = 0

    @property
    def waiting(self) -> int:
        """Events that are not settled."""
        with self._lock:
            return sum(segment.waiting for segment in self._segments)

    @property
    def unsent(self) -> int:
        """Events that are not on their way to Kafka."""
        with self._lock:
            return sum(segment.unsent for segment in self._segments)

    def has_room(self, number: int) -> bool:
        """Tell whether the bound leaves room for so many bytes."""
        with self._lock:
            return self._has_room(number)

    def append_all(self, bodies: Sequence[bytes], *, taken: bool) -> list[Ref]:
        """Write events by one write(2), for which other threads are let in once.

        Args:
            bodies: event id and value of each.
            taken: the caller sends them; otherwise `take` hands them out.

        Returns:
            Where the first of them lie; the others are not written: the bound is reached, or the
            disk refuses.
        """
        with self._lock:
            refs = self._appended(bodies, taken=taken)
            if not refs and len(bodies) > 1:  # there may be room for some of them
                for body in bodies:
                    if not (one := self._appended([body], taken=taken)):
                        break
                    refs += one
            return refs

    def take(self, max_events: int, max_bytes: int) -> list[tuple[Ref, bytes]]:
        """Hand out unsent events, oldest first; what cannot be read any more is `lost`."""
        with self._lock:
            for segment in [segment for segment in self._segments if segment.unsent]:
                try:
                    found = segment.take(max_events, max_bytes)
                except FileNotFoundError as error:
                    self._give_up(segment, f"{error.strerror}")
                except OSError as error:  # too many open files, or a disk that is away for a while
                    self.problem = f"{segment.path.name}: {error.strerror or error}"
                else:
                    if found:
                        return [(Ref(segment, number, at), body) for number, at, body in found]
                    self._give_up(segment, "no event where there was one")
            return []

    def _give_up(self, segment: Segment, why: str) -> None:
        self.problem = f"{segment.path.name}: {why}"
        self.lost += segment.give_up()
        if segment is self._active:
            self._seal()
        if not segment.waiting:
            self._remove(segment)

    def give_back(self, ref: Ref) -> None:
        """Make an event that was taken unsent again."""
        with self._lock:
            ref.segment.give_back(ref.number, ref.offset)

    def settle(self, ref: Ref) -> None:
        """Mark an event as acknowledged; a segment without any other goes."""
        with self._lock:
            segment = ref.segment
            segment.settle(ref.number)
            if segment.waiting or segment not in self._segments:
                return
            if segment is self._active:
                # Emptied at once: what stays in a file, the next process sends again.
                with suppress(OSError):
                    self._active = segment.truncate()
                    self._held -= segment.size
                    self._segments[self._segments.index(segment)] = self._active
            else:
                self._remove(segment)

    def adopt(self) -> Recovered:
        """Take over the segments of processes that have died, and count what others hold."""
        with self._lock:
            elsewhere = self._bytes_of("", ".damaged")
            gained = []
            others = {name.split(".", 1)[0] for name in self._listed()} - self._locks.keys()
            for owner in sorted(others):
                if self._gains(owner):
                    gained.append(owner)
                else:
                    elsewhere += self._bytes_of(owner, ".journal")
            self._elsewhere = elsewhere
        # Without the lock: hooks do not wait until a gigabyte of a dead process is read.
        read = {owner: self._read(owner) for owner in gained}
        with self._lock:
            found = [one for owner in gained if owner in self._locks for one in read[owner]]
            for segment in found:
                if segment.waiting:
                    self._segments.append(segment)
                    self._held += segment.size
                else:
                    segment.remove()
            for owner in gained:
                self._let_go_if_empty(owner)
            return Recovered(
                sum(segment.waiting for segment in found),
                sum(segment.torn for segment in found),
                sum(segment.damaged for segment in found),
            )

    def release(self) -> None:
        """End: what is not settled stays, for the next process to take over."""
        with self._lock:
            self._seal()
            for segment in [s for s in self._segments if not s.waiting]:
                self._remove(segment)
            for owner in list(self._locks):
                self._let_go_if_empty(owner)
            self._close()

    def abandon(self) -> None:
        """Close this process's copies of the files, in a forked child; the parent has its own."""
        self._close()

    def _close(self) -> None:
        for segment in self._segments:
            segment.seal()
        for lock in self._locks.values():
            os.close(lock)
        self._locks.clear()
        self._segments.clear()
        self._held = 0
        self._active = None
        self._name = ""

    def _appended(self, bodies: Sequence[bytes], *, taken: bool) -> list[Ref]:
        """Write all or none."""
        size = sum(map(Segment.size_of, bodies))
        if not self._has_room(size):
            self.problem = f"it holds {self._max_bytes} bytes (LLMLOG_JOURNAL_MAX_BYTES)"
            return []
        try:
            segment = self._writable()
            places = segment.append(bodies, taken=taken)
        except OSError as error:
            self.problem = f"{error.strerror or error}"
            if self._active is not None and self._active.sealed:
                self._active = None
            return []
        self._held += size
        if segment.size >= self._segment_bytes:
            self._seal()
        return [Ref(segment, number, offset) for number, offset in places]

    def _has_room(self, number: int) -> bool:
        return self._held + self._elsewhere + number <= self._max_bytes

    def _writable(self) -> Segment:
        if self._active is not None and (
            self._active.deleted or not os.fstat(self._locks[self._name]).st_nlink
        ):
            # The files were deleted from outside. Without its lock's file, a segment would be taken
            # over by another process.
            self._seal()
            self._name = ""
        if self._active is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            while not self._name:
                name = secrets.token_hex(8)
                if self._lock_of(name):
                    self._name = name
            path = self.folder / f"{self._name}.{next(self._numbers):06d}.journal"
            self._active = Segment.created(path, self._name)
            self._segments.append(self._active)
        return self._active

    def _seal(self) -> None:
        if self._active is not None:
            self._active.seal()
            self._active = None

    def _remove(self, segment: Segment) -> None:
        segment.remove()
        self._segments.remove(segment)
        self._held -= segment.size
        if segment.owner != self._name:
            self._let_go_if_empty(segment.owner)

    def _gains(self, owner: str) -> bool:
        try:
            return self._lock_of(owner)
        except OSError as error:
            self.problem = f"{owner}: {error.strerror or error}"
            return False

    def _lock_of(self, owner: str) -> bool:
        """Try to get an owner's lock; one whose file was deleted meanwhile is none.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self.folder / f"{owner}.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = path.stat().st_ino == os.fstat(lock).st_ino
        except OSError:
            same = False
        if same:
            self._locks[owner] = lock
        else:
            os.close(lock)
        return same

    def _read(self, owner: str) -> list[Segment]:
        found = []
        for name in sorted(self._listed(owner)):
            if name.endswith(".journal"):
                try:
                    found.append(Segment.found(self.folder / name, owner))
                except OSError as error:
                    self.problem = f"{name}: {error.strerror or error}"
        return found

    def _let_go_if_empty(self, owner: str) -> None:
        if any(segment.owner == owner for segment in self._segments):
            return
        lock = self._locks.pop(owner, None)
        if lock is not None:
            with suppress(OSError):
                if not any(name.endswith(".journal") for name in self._listed(owner)):
                    (self.folder / f"{owner}.lock").unlink()
            os.close(lock)

    def _listed(self, owner: str = "") -> list[str]:
        with suppress(OSError):
            return [
                path.name
                for path in self.folder.iterdir()
                if path.name.startswith(owner) and path.suffix in {".journal", ".lock"}
            ]
        return []

    def state_of_folder(self) -> tuple[int, float]:
        """Return the bytes in the folder, and seconds since the oldest file was written to.

        Of all processes that share it; 0 where nothing waits.
        """
        total, oldest = 0, time.time()
        with suppress(OSError):
            for path in self.folder.iterdir():
                with suppress(OSError):
                    if path.suffix == ".journal" and (found := path.stat()).st_size:
                        total, oldest = total + found.st_size, min(oldest, found.st_mtime)
        return total, max(0.0, time.time() - oldest) if total else 0.0

    def _bytes_of(self, owner: str, suffix: str) -> int:
        total = 0
        with suppress(OSError):
            for path in self.folder.iterdir():
                if path.name.startswith(owner) and path.suffix == suffix:
                    with suppress(OSError):
                        total += path.stat().st_size
        return total
