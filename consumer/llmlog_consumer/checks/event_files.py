"""The events of a topic on disk, in groups that fit into memory."""

from __future__ import annotations

import base64
import struct
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUPS: Final = 64
"""Files; one file's events are in memory at a time."""

_ENTRY: Final = struct.Struct("<15sIQ?")
"""The 15 bytes of an event id, partition, offset, and whether the record has a dead letter."""


@dataclass(slots=True)
class SeenEvent:
    """One event as the topic has it.

    Attributes:
        places: partition and offset of each of its records.
        has_letter: whether one of them has a dead letter.
    """

    places: list[tuple[int, int]] = field(default_factory=list)
    has_letter: bool = False


class EventFiles:
    """Event ids with their places, sorted into files by the last byte of the id.

    All records of one event are in one file. Use as a context manager: `add` every record, then
    iterate over `read` once. The files are deleted at the end of the block.

    Args:
        folder: in which the files' own folder is made; by default the system's for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        folder = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="llmlog-verify-", dir=self._folder)
        )
        self._paths = [Path(folder) / str(number) for number in range(GROUPS)]
        self._files = [self._stack.enter_context(path.open("wb")) for path in self._paths]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, event_id: str, partition: int, offset: int, *, has_letter: bool) -> None:
        """Write one record's event and place.

        Args:
            event_id: well-formed, see `llmlog_schemas.event.EVENT_ID`.
            partition: of the record.
            offset: of the record.
            has_letter: whether the record has a dead letter.
        """
        raw = base64.urlsafe_b64decode(event_id)
        self._files[raw[-1] % GROUPS].write(_ENTRY.pack(raw, partition, offset, has_letter))

    def read(self) -> Iterator[dict[str, SeenEvent]]:
        """Yield `GROUPS` groups of events by their ids; no event is in two of them."""
        for file in self._files:
            file.close()
        for path in self._paths:
            events: dict[str, SeenEvent] = {}
            for raw, partition, offset, has_letter in _ENTRY.iter_unpack(path.read_bytes()):
                event_id = base64.urlsafe_b64encode(raw).decode()
                event = events.get(event_id)
                if event is None:
                    event = events[event_id] = SeenEvent()
                event.places.append((partition, offset))
                event.has_letter |= has_letter
            path.unlink()
            yield events
