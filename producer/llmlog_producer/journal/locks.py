"""Owns the locks of the journal: a file that its process holds locked for as long as it lives."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def is_locked(path: Path) -> bool:
    """Tell whether a process holds the lock of this file."""
    with suppress(OSError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def new_lock(path: Path) -> int:
    """Make a file and lock it, until the number that is returned is closed; OSError if refused."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        why = "" if is_locked(path) else "the file system grants the lock of a file twice"
    except OSError as error:
        why = f"the file system locks no files: {error.strerror}"
    if why:
        os.close(lock)
        path.unlink()
        raise OSError(errno.ENOLCK, why, str(path))
    return lock
