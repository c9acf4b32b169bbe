"""Owns one file of the journal: its frames, and which of them are sent and settled.

    frame = "LLJ1", length of the body, CRC-32 of the body (4 bytes each, big-endian), body

Frames are only ever appended, some at once by one write(2): what was written survives a kill -9 of
the process. Not thread-safe; `Journal` holds the lock.
"""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_MAGIC: Final = b"LLJ1"
_HEADER: Final = struct.Struct(">4sII")


class Frame(NamedTuple):
    """A frame that is whole."""

    offset: int
    body: bytes


class Damage(NamedTuple):
    """Bytes that are no frame.

    Attributes:
        torn: the file ends within a frame, as when its writer was killed; otherwise the bytes
            were changed after they were written.
    """

    torn: bool


class _State(IntEnum):
    UNSENT = 0
    TAKEN = 1
    SETTLED = 2


def frames(file: BinaryIO, offset: int = 0) -> Iterator[Frame | Damage]:
    """Read what is in a file from `offset` on; after damage goes on at the next whole frame."""
    while True:
        file.seek(offset)
        header = file.read(_HEADER.size)
        if not header:
            return
        body = _body(header, file)
        if body is not None:
            yield Frame(offset, body)
            offset += _HEADER.size + len(body)
            continue
        file.seek(offset)
        rest = file.read()
        found = _next_whole(rest)
        yield Damage(torn=found is None and _ends_within(rest))
        if found is None:
            return
        offset += found


def _body(header: bytes, file: BinaryIO) -> bytes | None:
    if len(header) < _HEADER.size:
        return None
    magic, length, checksum = _HEADER.unpack(header)
    if magic != _MAGIC:
        return None
    left = os.fstat(file.fileno()).st_size - file.tell()
    if length > left:  # never ask for gigabytes because a length is damaged
        return None
    body = file.read(length)
    return body if len(body) == length and zlib.crc32(body) == checksum else None


def _next_whole(data: bytes) -> int | None:
    at = data.find(_MAGIC, 1)
    while at >= 0:
        if at + _HEADER.size <= len(data):
            _, length, checksum = _HEADER.unpack_from(data, at)
            body = data[at + _HEADER.size : at + _HEADER.size + length]
            if len(body) == length and zlib.crc32(body) == checksum:
                return at
        at = data.find(_MAGIC, at + 1)
    return None


def _ends_within(data: bytes) -> bool:
    if len(data) < _HEADER.size:
        return _MAGIC.startswith(data[: len(_MAGIC)])
    magic, length, _ = _HEADER.unpack_from(data)
    return bool(magic == _MAGIC and _HEADER.size + length > len(data))


class Segment:
    """One file, and one byte of memory for each of its frames.

    Attributes:
        owner: the process's name in the folder; its lock guards the file.
        size: bytes of the file.
        waiting: frames that are not settled.
        unsent: frames that are not on their way to Kafka.
        torn: 1 where the file ended within a frame.
        damaged: places in the file that are no frames.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self.path = path
        self.owner = owner
        self.size = 0
        self.waiting = 0
        self.unsent = 0
        self.torn = 0
        self.damaged = 0
        self._fd = -1
        self._states = bytearray()
        # Where the search for unsent frames begins: no earlier frame is unsent.
        self._next = (0, 0)

    @classmethod
    def created(cls, path: Path, owner: str) -> Segment:
        """Make a new file, to be written.

        Raises:
            OSError: it cannot be made.
        """
        segment = cls(path, owner)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        segment._fd = os.open(path, flags, 0o600)
        return segment

    @classmethod
    def found(cls, path: Path, owner: str) -> Segment:
        """Read what a dead process has left; all of it is unsent.

        Raises:
            OSError: it cannot be read.
        """
        segment = cls(path, owner)
        with path.open("rb") as file:
            for item in frames(file):
                if isinstance(item, Frame):
                    segment._states.append(_State.UNSENT)
                elif item.torn:
                    segment.torn += 1
                else:
                    segment.damaged += 1
            segment.size = os.fstat(file.fileno()).st_size
        segment.waiting = segment.unsent = len(segment._states)
        return segment

    @property
    def sealed(self) -> bool:
        """Tell whether nothing is written to it any more."""
        return self._fd < 0

    @property
    def deleted(self) -> bool:
        """Whether the file that is written was deleted: no process would ever read it."""
        return not os.fstat(self._fd).st_nlink

    @staticmethod
    def size_of(body: bytes) -> int:
        """Return the bytes that a body takes in the file."""
        return _HEADER.size + len(body)

    def append(self, bodies: Sequence[bytes], *, taken: bool) -> list[tuple[int, int]]:
        """Write frames, all at once; return number and offset of each.

        Raises:
            OSError: none is written. The file is as it was before; where that cannot be had it is
                sealed, and the bytes at its end are never read.
        """
        written = b"".join(
            part
            for body in bodies
            for part in (_HEADER.pack(_MAGIC, len(body), zlib.crc32(body)), body)
        )
        try:
            done = os.write(self._fd, written)
            while done < len(written):  # a full disk takes a part, then refuses the rest
                done += os.write(self._fd, written[done:])
        except OSError:
            try:
                os.ftruncate(self._fd, self.size)
            except OSError:
                self.seal()
            raise
        places = []
        for body in bodies:
            places.append((len(self._states), self.size))
            self._states.append(_State.TAKEN if taken else _State.UNSENT)
            self.size += self.size_of(body)
        self.waiting += len(bodies)
        if not taken:
            self.unsent += len(bodies)
        return places

    def take(self, max_events: int, max_bytes: int) -> list[tuple[int, int, bytes]]:
        """Read the next unsent frames (at least one, if there is any) and mark them taken.

        Returns:
            Number, offset and body of each.

        Raises:
            OSError: the file cannot be read.
        """
        found: list[tuple[int, int, bytes]] = []
        number, offset = self._next
        try:
            with self.path.open("rb") as file:
                for item in frames(file, offset):
                    full = len(found) >= max_events or max_bytes <= 0
                    if full or not self.unsent or number == len(self._states):
                        break
                    if isinstance(item, Damage):
                        continue
                    if self._states[number] == _State.UNSENT:
                        self._states[number] = _State.TAKEN
                        self.unsent -= 1
                        max_bytes -= len(item.body)
                        found.append((number, item.offset, item.body))
                    number += 1
                    self._next = (number, item.offset + self.size_of(item.body))
        except OSError:
            if not found:
                raise
        return found

    def give_up(self) -> int:
        """Settle what is unsent because it can be read no more; return how many they are."""
        lost = self.unsent
        for number, state in enumerate(self._states):
            if state == _State.UNSENT:
                self.settle(number)
        self.damaged += 1
        return lost

    def give_back(self, number: int, offset: int) -> None:
        """Make a taken frame unsent again."""
        if self._states[number] == _State.TAKEN:
            self._states[number] = _State.UNSENT
            self.unsent += 1
            self._next = min(self._next, (number, offset))

    def settle(self, number: int) -> None:
        """Mark a frame as never to be sent again."""
        if self._states[number] != _State.SETTLED:
            self.unsent -= self._states[number] == _State.UNSENT
            self._states[number] = _State.SETTLED
            self.waiting -= 1

    def truncate(self) -> Segment:
        """Truncate the file to nothing; return a new segment that writes it and has no frames.

        Raises:
            OSError: the disk refuses.
        """
        os.ftruncate(self._fd, 0)
        segment = Segment(self.path, self.owner)
        segment._fd, self._fd = self._fd, -1
        return segment

    def seal(self) -> None:
        """End the writing."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with suppress(OSError):
                os.close(fd)

    def remove(self) -> None:
        """Delete the file; one with damage in it is kept aside, as `….damaged`."""
        self.seal()
        with suppress(OSError):
            if self.damaged:
                self.path.rename(self.path.with_suffix(".damaged"))
            else:
                self.path.unlink()
