"""The events of a topic on disk, in groups that fit into memory."""

from __future__ import annotations

import base64
import struct
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from llmlog_common.groups import MAX_PLACE_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUPS: Final = 64
"""Files; one file's events are in memory at a time."""

_ENTRY: Final = struct.Struct("<15sBIQqI")
"""The 15 bytes of an event id, the kind of entry, partition, offset, hash of the document, number
of its place."""

_RECORD, _RECORD_WITH_LETTER, _LETTER = range(3)


@dataclass(slots=True)
class SeenEvent:
    """One event as the topic has it.

    Attributes:
        places: partition and offset of each of its records.
        has_letter: whether it has a dead letter.
        document: hash of the document of its first record.
        is_conflict: whether another of its records has another document.
        place: period and group of its document's index, of its first record.
    """

    places: list[tuple[int, int]] = field(default_factory=list)
    has_letter: bool = False
    document: int = 0
    is_conflict: bool = False
    place: str = ""

    def add(self, place: tuple[int, int], document: int, *, has_letter: bool) -> None:
        """Take a record in.

        Args:
            place: its partition and offset.
            document: hash of its document.
            has_letter: whether it has a dead letter.
        """
        if not self.places:
            self.document = document
        self.is_conflict |= document != self.document
        self.places.append(place)
        self.has_letter |= has_letter


class EventFiles:
    """Event ids with their places, sorted into files by the last byte of the id.

    All records and letters of one event are in one file. Use as a context manager: `add` every
    record, `add_letter` every letter, then iterate over `read` once. The files are deleted at the
    end of the block.

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
        self._places: dict[str, int] = {"": 0}
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(
        self,
        event_id: str,
        partition: int,
        offset: int,
        document: bytes,
        *,
        has_letter: bool,
        place: str = "",
    ) -> None:
        """Write one record's event and place.

        Args:
            event_id: well-formed, see `llmlog_schemas.event.EVENT_ID`.
            partition: of the record.
            offset: of the record.
            document: of the event.
            has_letter: whether the record has a dead letter that names no event.
            place: of the event.
        """
        kind = _RECORD_WITH_LETTER if has_letter else _RECORD
        place = place[: MAX_PLACE_CHARACTERS + 1]  # one that is longer is none, and stays none
        number = self._places.setdefault(place, len(self._places))
        self._write(event_id, kind, partition, offset, hash(document), number)

    def add_letter(self, event_id: str) -> None:
        """Write that an event has a dead letter."""
        self._write(event_id, _LETTER, 0, 0, 0, 0)

    def read(self) -> Iterator[dict[str, SeenEvent]]:
        """Yield `GROUPS` groups of events by their ids; no event is in two of them."""
        for file in self._files:
            file.close()
        places = list(self._places)
        for path in self._paths:
            events: dict[bytes, SeenEvent] = {}
            letters: set[bytes] = set()
            for raw, kind, partition, offset, document, place in _ENTRY.iter_unpack(
                path.read_bytes()
            ):
                if kind == _LETTER:
                    letters.add(raw)
                    continue
                event = events.get(raw)
                if event is None:
                    event = events[raw] = SeenEvent(place=places[place])
                event.add((partition, offset), document, has_letter=kind == _RECORD_WITH_LETTER)
            for raw in letters & events.keys():
                events[raw].has_letter = True
            path.unlink()
            yield {base64.urlsafe_b64encode(raw).decode(): event for raw, event in events.items()}

    def _write(self, event_id: str, *entry: int) -> None:
        raw = base64.urlsafe_b64decode(event_id)
        self._files[raw[-1] % GROUPS].write(_ENTRY.pack(raw, *entry))
