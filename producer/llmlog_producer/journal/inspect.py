"""Owns the view of a journal folder from outside: it takes nothing over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmlog_producer.journal.journal import KEY_BYTES
from llmlog_producer.journal.locks import is_locked
from llmlog_producer.journal.segment import scan
from llmlog_schemas.event import EVENT_ID, event_time_ms

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Owner:
    """The files of one process in the folder.

    Attributes:
        owner: the process's name in the folder.
        alive: it runs, and sends these events itself.
        files: their number.
        bytes: size of their events.
        events: number of their events.
        oldest_ms: start of the oldest event, epoch milliseconds; None where there is none.
        truncated: files that end within an event.
        damaged: places that are no events.
    """

    owner: str
    alive: bool
    files: int = 0
    bytes: int = 0
    events: int = 0
    oldest_ms: int | None = None
    truncated: int = 0
    damaged: int = 0

    def read(self, path: Path) -> None:
        """Add one file."""
        found = scan(path)
        self.files += 1
        self.truncated += found.torn
        self.damaged += found.damaged
        self.events += len(found.bodies)
        for body in found.bodies:
            self.bytes += len(body)
            key = body[:KEY_BYTES].decode("ascii", "replace")
            if EVENT_ID.fullmatch(key):
                started = event_time_ms(key)
                self.oldest_ms = min(started, self.oldest_ms or started)


def inspect(folder: Path) -> list[Owner]:
    """Return the owners of the files in a folder; none where there is no folder.

    Raises:
        OSError: it may not be read.
    """
    owners: dict[str, Owner] = {}
    if not folder.is_dir():
        return []
    for path in sorted(folder.glob("*.journal")):
        name = path.name.split(".", 1)[0]
        if name not in owners:
            owners[name] = Owner(name, alive=is_locked(folder / f"{name}.lock"))
        try:
            owners[name].read(path)
        except FileNotFoundError:  # settled meanwhile
            continue
    return list(owners.values())
