"""Owns one file of the journal, and the frames in it. For one thread alone.

Frames are only ever appended, some at once by one write(2): what was written survives a kill -9 of
the process.
"""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_HEADER: Final = struct.Struct(">12sII")
_MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""A larger file is none of ours: a segment is sealed at 4 MiB, and an event has 8 MiB at most."""


class Scan(NamedTuple):
    """What is in a file.

    Attributes:
        bodies: of the whole frames.
        torn: the file ends within a frame, as when its writer was killed.
        damaged: places that are no frames, because bytes were changed after they were written.
    """

    bodies: list[bytes]
    torn: bool = False
    damaged: int = 0


def scan(path: Path) -> Scan:
    """Read a file; after damage go on at the next frame.

    Raises:
        OSError: it cannot be read.
    """
    if path.stat().st_size > _MAX_FILE_BYTES or not path.is_file():
        return Scan([], damaged=1)
    return scan_bytes(path.read_bytes(), marker_of(path.name))


def marker_of(name: str) -> bytes:
    """Return what each frame of a file begins with."""
    return b"LLJ2" + blake2b(name.split(".")[1].encode(), digest_size=8).digest()


def scan_bytes(data: bytes, marker: bytes) -> Scan:
    """Find the frames in bytes; each byte is in one search and in one checksum."""
    bodies, torn, damaged, at = [], False, 0, 0
    following = data.find(marker)
    while at < len(data):
        if following == at:
            following = data.find(marker, at + 1)
        end = len(data) if following < 0 else following
        body = _body_of(data[at:end], marker)
        if body is not None:
            bodies.append(body)
            at += _HEADER.size + len(body)
            continue
        torn = following < 0 and _ends_within(data[at:], marker)
        damaged += not torn
        at = end
    return Scan(bodies, torn, damaged)


def _body_of(data: bytes, marker: bytes) -> bytes | None:
    """Return the body of the frame that bytes begin with; None if they do not."""
    if len(data) < _HEADER.size or not data.startswith(marker):
        return None
    _, length, checksum = _HEADER.unpack_from(data)
    body = data[_HEADER.size : _HEADER.size + length]
    return body if len(body) == length and zlib.crc32(body) == checksum else None


def _ends_within(data: bytes, marker: bytes) -> bool:
    if len(data) < _HEADER.size:
        return marker.startswith(data[: len(marker)])
    return data.startswith(marker) and _HEADER.unpack_from(data)[1] > len(data) - _HEADER.size


class Segment:
    """One file.

    Args:
        path: `<owner>.<id>.journal`.
        is_unsent: memory does not have its events.

    Attributes:
        size: bytes of the file.
        waiting: events in it that are not settled.
        is_damaged: it holds what cannot be read.
    """

    def __init__(self, path: Path, *, is_unsent: bool) -> None:
        self.path = path
        self.is_unsent = is_unsent
        self.size = self.waiting = 0
        self.is_damaged = False
        self._marker = marker_of(path.name)
        self._fd = -1

    def create(self) -> None:
        """Make the file, to be written; OSError where it cannot be made."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o600)

    @property
    def is_sealed(self) -> bool:
        """Tell whether nothing is written to it any more."""
        return self._fd < 0

    @property
    def is_deleted(self) -> bool:
        """Whether the file that is written was deleted: no process would ever read it."""
        return not self.is_sealed and not os.fstat(self._fd).st_nlink

    @staticmethod
    def size_of(body: bytes) -> int:
        """Return the bytes that a body takes in the file."""
        return _HEADER.size + len(body)

    def append(self, bodies: Sequence[bytes]) -> None:
        """Write frames, all at once.

        Raises:
            OSError: none is written. The file is as it was before; where that cannot be had it is
                sealed, and the bytes at its end are never read by this process.
        """
        left = memoryview(
            b"".join(
                part
                for body in bodies
                for part in (_HEADER.pack(self._marker, len(body), zlib.crc32(body)), body)
            )
        )
        size = self.size + len(left)
        try:
            while left:  # a full disk takes a part, then refuses the rest
                left = left[os.write(self._fd, left) :]
        except OSError:
            try:
                os.ftruncate(self._fd, self.size)
            except OSError:
                self.seal()
            raise
        self.size = size
        self.waiting += len(bodies)

    def read(self) -> Scan:
        """Read what this process has written; OSError where the file cannot be read."""
        if not self.is_sealed:  # also where its folder was deleted or renamed meanwhile
            return scan_bytes(os.pread(self._fd, self.size, 0), self._marker)
        with self.path.open("rb") as file:
            return scan_bytes(file.read(self.size), self._marker)

    def truncate(self) -> None:
        """Truncate the file to nothing: all of it is settled; OSError where the disk refuses."""
        os.ftruncate(self._fd, 0)
        self.size = 0

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
            if self.is_damaged:
                self.path.rename(self.path.with_suffix(".damaged"))
            else:
                self.path.unlink()
