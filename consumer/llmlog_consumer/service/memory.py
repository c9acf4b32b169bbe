"""Owns the memory that a container may have, against what the processes need."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MEGABYTE: Final = 1_000_000

SUPERVISOR_BYTES: Final = 90 * MEGABYTE
WORKER_BYTES: Final = 200 * MEGABYTE
LARGE_RECORDS_WORKER_BYTES: Final = 400 * MEGABYTE
"""What each takes at most: docs/performance.md. The last one is for records of up to 8 MB."""

_NO_LIMIT_BYTES: Final = 1 << 60
"""At and above this, cgroup v1 means that there is no limit."""


def read_limit(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Return the bytes that this process's container may have; None where there is no limit.

    Args:
        root: where the kernel shows its control groups, of version 2 or 1.
        own: names the groups of this process.
    """
    limits = [_read(path) for path in _limit_files(root, own)]
    return min((limit for limit in limits if limit is not None), default=None)


def describe_shortage(workers: int, limit_bytes: int | None) -> str:
    """Say that the container may have less memory than these workers need; empty for enough."""
    needed = SUPERVISOR_BYTES + workers * WORKER_BYTES
    if limit_bytes is None or limit_bytes >= needed:
        return ""
    large = SUPERVISOR_BYTES + workers * LARGE_RECORDS_WORKER_BYTES
    return (
        f"the container's limit is {in_words(limit_bytes)}, {workers} workers need up to "
        f"{in_words(needed)} ({in_words(large)} with records of 8 MB): "
        "raise the limit, or start fewer workers"
    )


def in_words(size: int) -> str:
    """Return a size in megabytes."""
    return f"{size / MEGABYTE:.0f} MB"


def _limit_files(root: Path, own: Path) -> list[Path]:
    """Return the files that state a limit of this process's group, or of one above it."""
    files = [root / "memory.max", root / "memory" / "memory.limit_in_bytes"]
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return files
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        folders = [Path(path.strip("/")), *Path(path.strip("/")).parents]
        if not controllers:
            files += [root / folder / "memory.max" for folder in folders]
        elif "memory" in controllers.split(","):
            files += [root / "memory" / folder / "memory.limit_in_bytes" for folder in folders]
    return files


def _read(path: Path) -> int | None:
    try:
        limit = int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such file, or `max`
        return None
    return limit if limit < _NO_LIMIT_BYTES else None


def read_resident(path: Path = Path("/proc/self/statm")) -> int:
    """Return the bytes of memory that this process has now; 0 where the system does not tell.

    Args:
        path: where the kernel shows the pages of this process.
    """
    try:
        pages = int(path.read_text(encoding="utf-8").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
