"""Owns the form in which setup says and does each thing: one step, which may be carried out. Pure.

The steps of a dry run are the same, and are not carried out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CREATED, UPDATED, UNCHANGED, DIFFERS = "created", "updated", "unchanged", "differs"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that setup has looked at.

    Attributes:
        what: its kind and name.
        change: `created` or `updated` where it has to be written; `unchanged`; `differs` where it
            is left as it is, although it is not what setup would install.
        detail: more text of one line.
        differences: of what is there to what is written, a line each: `path: old -> new`.
        write: does it; returns what another setup did meanwhile, empty where it was this one.
    """

    what: str
    change: str
    detail: str = ""
    differences: tuple[str, ...] = ()
    write: Callable[[], str] | None = None

    def carry_out(self) -> Step:
        """Do what the step says; return it as it turned out.

        Raises:
            PipelineError, Unreachable: of the server that was asked to.
        """
        elsewhere = self.write() if self.write is not None else ""
        return replace(self, change=UNCHANGED, detail=elsewhere) if elsewhere else self
