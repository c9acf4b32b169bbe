"""Owns the question whose fault a refused request is: its own, or that of all requests. Pure.

A control is an operation whose document exists. It is sent alone, the way every request is sent,
and Elasticsearch answers 409: so the way is open, and what was refused before is itself at fault.

    refused ──wait──> waiting ──take──> asked ──409────────────> passed: halved, or sent once more
                                              └─refused too────> failed: the deployment is wrong
                                              └─anything else──> forgotten, and wait again
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

MAX_LETTERS: Final = 20
LETTERS_SECONDS: Final = 60.0
"""Letters that the evidence of controls is good for in so many seconds. Where more documents are
refused, the deployment is wrong."""
MAX_UNPROVEN: Final = 16
"""Requests that are halved, and documents that wait, while no request passes and no control is
known."""
MAX_CONTROLS: Final = 16
SMALL_CONTROL_BYTES: Final = 64 * 1024
"""A larger operation is a control only as long as there is no other."""

T = TypeVar("T")
C = TypeVar("C")


@dataclass(slots=True)
class Controls(Generic[T, C]):
    """The known controls, and the refused requests that wait for the answer of one.

    A control's answer is evidence about what was refused before it was sent, and about nothing
    else. So there is one under way for each index, and what is refused meanwhile waits for the
    next. The thread that runs the delivery owns it; the caller passes the time, in monotonic
    seconds.
    """

    _known: dict[str, tuple[C, int]] = field(default_factory=dict)
    _waiting: dict[str, list[T]] = field(default_factory=dict)
    _asked: dict[str, list[T]] = field(default_factory=dict)
    _unproven: int = 0
    _letters: deque[float] = field(default_factory=deque)

    def wants(self, index: str) -> bool:
        """Tell whether a control of this index is missing, or only a large one is known."""
        known = self._known.get(index)
        return known is None or known[1] > SMALL_CONTROL_BYTES

    def remember(self, index: str, control: C, size: int) -> None:
        """Take an operation whose document exists as the control of its index.

        Args:
            index: that the document is in.
            control: the operation.
            size: its bytes.
        """
        if size > SMALL_CONTROL_BYTES and self._known:
            return
        self._known[index] = control, size
        idle = sorted(self._known.keys() - self._waiting.keys() - {index})
        too_large = [name for name in idle if self._known[name][1] > SMALL_CONTROL_BYTES]
        too_many = idle[: max(0, len(self._known) - MAX_CONTROLS)]  # names end in a day: the oldest
        for name in {*too_large, *too_many}:
            del self._known[name]

    def record_passed(self) -> None:
        """Count an answer of Elasticsearch's own: not every request is refused."""
        self._unproven = 0

    def may_go_unproven(self) -> bool:
        """Tell whether a refused request may be halved, or wait by itself, without a control."""
        self._unproven += 1
        return self._unproven <= MAX_UNPROVEN

    def wait(self, refused: T, index: str, *, same_index: bool) -> bool:
        """Let a refused request wait for a control; False where none is known.

        Args:
            refused: the request.
            index: that it writes to.
            same_index: no control of another index tells about it.
        """
        name = index
        if name not in self._known:
            if same_index or not self._known:
                return False
            name = max(self._known)
        self._waiting.setdefault(name, []).append(refused)
        return True

    def take(self) -> list[tuple[str, C]]:
        """Return the controls to send now, each with the name of its index."""
        due = [name for name in self._waiting if name not in self._asked]
        for name in due:
            self._asked[name] = self._waiting.pop(name)
        return [(name, self._known[name][0]) for name in due]

    def end(self, name: str) -> list[T]:
        """Return the requests that were refused before this control was sent."""
        return self._asked.pop(name)

    def forget(self, name: str) -> list[T]:
        """Drop a control that is none: its document is gone. Return what waited for it."""
        self._known.pop(name, None)
        return self._asked.pop(name) + self._waiting.pop(name, [])

    def may_write_letter(self, now: float) -> bool:
        """Tell whether another letter may be written in this minute, and count it."""
        while self._letters and self._letters[0] <= now - LETTERS_SECONDS:
            self._letters.popleft()
        if len(self._letters) >= MAX_LETTERS:
            return False
        self._letters.append(now)
        return True
