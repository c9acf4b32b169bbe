"""Owns the journal's folder: writes events, hands them out, takes over from dead processes."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llmlog_producer.journal.locks import new_lock
from llmlog_producer.journal.segment import Scan, Segment, scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_common.settings import Settings
    from llmlog_common.throttled_log import ThrottledLog

SEGMENT_BYTES: Final = 4 * 1024 * 1024
"""A segment is closed at this size: a crash sends no more than so many bytes twice."""

KEY_BYTES: Final = 20
"""A frame's body is the event id, then the value in single-object encoding."""


def folder_of(settings: Settings) -> Path:
    """Return the journal's folder: one for each topic, since its events go to that topic.

    Raises:
        RuntimeError: the user has no home folder, and none is set.
    """
    if settings.journal_dir is not None:
        return settings.journal_dir / settings.topic
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "llmlog-pipeline" / "journal" / settings.topic


def open_journal(settings: Settings, log: ThrottledLog) -> Journal | None:
    """Return this process's journal; None where it is off, or, with one line, where it cannot be.

    The journal's thread opens it, with the first job.
    """
    if settings.journal == "off":
        return None
    try:
        return Journal(folder_of(settings), settings.journal_max_bytes)
    except RuntimeError as error:
        text = f"no journal, events are kept in memory alone: {error} (LLMLOG_JOURNAL_DIR)"
        log(logging.ERROR, "spool", text)
        return None


_TIME_DIGITS: Final = 14
"""Hexadecimal digits of a segment's name that are the microseconds at which it was created."""


def _began(path: Path) -> float:
    """Return when a segment was created, in epoch seconds; infinite for a foreign name."""
    with suppress(ValueError, IndexError):
        return int(path.name.split(".")[1][:_TIME_DIGITS], 16) / 1_000_000
    return math.inf


class Journal:
    """The journal of one process, for one thread alone; `open` it first.

    Args:
        folder: made if it is not there, for its user alone: prompts lie in it.
        max_bytes: of all files in the folder; past it, events are refused. What others hold is
            counted by `adopt`, and whenever a segment is created.
        segment_bytes: for tests.

    Attributes:
        is_usable: false once the folder, or a lock in it, was refused.
        problem: why the last event was refused.
        waiting: events that are not settled.
        unsent: events that are not on their way to Kafka.
        lost: events that were written and cannot be read any more.
    """

    def __init__(self, folder: Path, max_bytes: int, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.is_usable = True
        self.problem = ""
        self.waiting = self.unsent = self.lost = 0
        self._max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max(1, max_bytes // 4))
        self._name = ""
        self._lock = -1
        self._segments: list[Segment] = []
        self._open: dict[bool, Segment] = {}  # by whether the events are sent by the caller
        self._adopted: list[Path] = []  # not read yet
        self._held = self._elsewhere = 0  # bytes of the segments, and of all other files
        self._oldest_elsewhere = math.inf  # epoch seconds at which the oldest of these began

    @property
    def is_open(self) -> bool:
        """Whether it has its own lock."""
        return self._lock >= 0

    def open(self) -> None:
        """Take a name that is new, and lock it.

        Raises:
            OSError: the folder cannot be written, or its file system has no locks. Nothing is left
                in it, and `is_usable` is false.
        """
        self._name = secrets.token_hex(8)
        path = self.folder / f"{self._name}.lock"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = new_lock(path)
        except OSError:
            self.is_usable = False
            raise

    def append(self, bodies: Sequence[bytes], *, taken: bool) -> list[Segment]:
        """Write events by one write(2).

        Args:
            bodies: event id and value of each.
            taken: the caller sends them; otherwise `take` hands them out.

        Returns:
            Where the first of them lie; the others are not written: the bound is reached, or the
            disk refuses.
        """
        refs = self._append(bodies, taken=taken)
        if not refs and len(bodies) > 1:  # there may be room for some of them
            for body in bodies:
                if not (one := self._append([body], taken=taken)):
                    break
                refs += one
        return refs

    def take(self) -> list[tuple[Segment, bytes]]:
        """Hand out the events of the oldest unsent segment; what cannot be read is `lost`."""
        for segment in [segment for segment in self._segments if segment.is_unsent]:
            try:
                found = segment.read()
            except FileNotFoundError:
                found = Scan([])
            except OSError as error:  # too many open files, or a disk that is away for a while
                self.problem = f"{segment.path.name}: {error.strerror or error}"
                continue
            finally:
                segment.seal()
            segment.is_unsent = False
            self.unsent -= segment.waiting
            if lost := segment.waiting - len(found.bodies):
                self.problem = f"{segment.path.name}: {lost} events are deleted or damaged"
                segment.is_damaged = True
                self.lost += lost
                self.waiting -= lost
                segment.waiting -= lost
            if found.bodies:
                return [(segment, body) for body in found.bodies]
            self._remove(segment)
        return []

    def settle(self, segment: Segment) -> None:
        """Forget one event of a segment: it is acknowledged. A segment without any other goes."""
        if segment not in self._segments:  # let go of: another process sends what is in it
            return
        segment.waiting -= 1
        self.waiting -= 1
        if segment.waiting:
            return
        if segment.is_sealed:
            self._remove(segment)
            return
        # Emptied at once: what stays in a file, the next process sends again.
        size = segment.size
        with suppress(OSError):
            segment.truncate()
            self._held -= size

    def adopt(self) -> None:
        """Take over the files of processes that have died; `read_adopted` reads them."""
        paths = [path for path in self._paths() if path.suffix != ".damaged"]
        for owner in sorted({path.name.split(".", 1)[0] for path in paths} - {self._name}):
            try:
                self._adopt(owner, paths)
            except OSError as error:
                self.problem = f"{owner}: {error.strerror or error}"
        self._count_elsewhere()

    def read_adopted(self) -> Scan | None:
        """Read one adopted file, whose events are unsent; None where there is none."""
        if not self._adopted:
            return None
        segment = Segment(self._adopted[0], is_unsent=True)
        try:
            found = scan(segment.path)
            segment.size = segment.path.stat().st_size
        except OSError as error:  # tried again with the next ones
            self.problem = f"{segment.path.name}: {error.strerror or error}"
            return None
        del self._adopted[0]
        segment.waiting = len(found.bodies)
        segment.is_damaged = found.damaged > 0
        self._segments.append(segment)
        self._held += segment.size
        self._elsewhere -= segment.size
        self.waiting += segment.waiting
        self.unsent += segment.waiting
        if not found.bodies:
            self._remove(segment)
        return found

    def release(self) -> None:
        """End: what is not settled stays, for the next process to take over."""
        for segment in [segment for segment in self._segments if not segment.waiting]:
            self._remove(segment)
        if self.is_open and not self._segments and not self._adopted:
            with suppress(OSError):
                (self.folder / f"{self._name}.lock").unlink()
        self.abandon()

    def abandon(self) -> None:
        """Close this process's copies of the files, in a forked child; the parent has its own."""
        self._close()
        for segment in self._segments:
            segment.seal()
        self._segments.clear()
        self._adopted.clear()
        self.waiting = self.unsent = self._held = 0

    def measure(self) -> tuple[int, float]:
        """Return the bytes in the folder, and the age in seconds of its oldest file with events.

        As far as it is known: no disk is asked, which may hang, so that any thread may call this.
        """
        own = (_began(one.path) for one in tuple(self._segments) if one.waiting)
        oldest = min((self._oldest_elsewhere, *own))
        return self._held + self._elsewhere, max(0.0, time.time() - oldest)

    def _close(self) -> None:
        self._open.clear()
        if self.is_open:
            os.close(self._lock)
            self._lock = -1

    def _append(self, bodies: Sequence[bytes], *, taken: bool) -> list[Segment]:
        """Write all or none."""
        size = sum(map(Segment.size_of, bodies))
        try:
            segment = self._writable(taken=taken)
            if self._held + self._elsewhere + size > self._max_bytes:
                self.problem = f"it holds {self._max_bytes} bytes (LLMLOG_JOURNAL_MAX_BYTES)"
                return []
            segment.append(bodies)
        except OSError as error:
            self.problem = f"{error.strerror or error}"
            return []
        self._held += size
        self.waiting += len(bodies)
        self.unsent += 0 if taken else len(bodies)
        return [segment] * len(bodies)

    def _writable(self, *, taken: bool) -> Segment:
        """Return an open segment; OSError where none can be made."""
        is_gone = not os.fstat(self._lock).st_nlink
        if is_gone or any(segment.is_deleted for segment in self._open.values()):
            # The files were deleted from outside. Without its lock's file, a segment would be taken
            # over by another process. Those that were written stay open: `take` reads them.
            self._close()
            self.open()
        segment = self._open.get(taken)
        if segment is None or segment.is_sealed or segment.size >= self._segment_bytes:
            if segment is not None:
                segment.seal()
            self._count_elsewhere()
            identity = f"{time.time_ns() // 1_000:0{_TIME_DIGITS}x}{secrets.token_hex(5)}"
            path = self.folder / f"{self._name}.{identity}.journal"
            segment = Segment(path, is_unsent=not taken)
            segment.create()
            self._open[taken] = segment
            self._segments.append(segment)
        return segment

    def _remove(self, segment: Segment) -> None:
        segment.remove()
        self._segments.remove(segment)
        self._held -= segment.size

    def _adopt(self, owner: str, paths: Sequence[Path]) -> None:
        """Rename a dead owner's files to ours; its lock is tried once."""
        path = self.folder / f"{owner}.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino != os.fstat(lock).st_ino:  # deleted meanwhile
                return
            for theirs in paths:
                name, _, rest = theirs.name.partition(".")
                ours = self.folder / f"{self._name}.{rest}"
                if name == owner and theirs.suffix == ".journal" and not ours.exists():
                    theirs.rename(ours)
                    self._adopted.append(ours)
            path.unlink()
        except BlockingIOError:  # its owner lives
            return
        finally:
            os.close(lock)

    def _count_elsewhere(self) -> None:
        """Count what is not in our segments; damaged files beyond a quarter of the bound go."""
        total = damaged = 0
        oldest = math.inf
        for path in reversed(self._paths()):  # the newest first
            with suppress(OSError):
                size = path.stat().st_size
                if path.suffix == ".damaged":
                    damaged += size
                    if damaged > self._max_bytes // 4:
                        path.unlink()
                        continue
                total += size
                if size and path.suffix == ".journal" and not path.name.startswith(self._name):
                    oldest = _began(path)
        self._elsewhere, self._oldest_elsewhere = total - self._held, oldest

    def _paths(self) -> list[Path]:
        """Return our kinds of files, by their ids: the oldest first."""
        with suppress(OSError):
            kinds = {".journal", ".lock", ".damaged"}
            paths = [path for path in self.folder.iterdir() if path.suffix in kinds]
            return sorted(paths, key=lambda path: path.name.partition(".")[2])
        return []
