"""Owns the form of a check of `pipeline doctor`, and how a table of them is gone through. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from llmlog_common.errors import PipelineError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


class Verdict(StrEnum):
    """What a check says, from the best to the worst."""

    GREEN = "green"
    SKIPPED = "skipped"
    """It could not be asked, or does not apply."""
    YELLOW = "yellow"
    """It works now, and may not for long, or not in a fault."""
    RED = "red"
    """It does not work, or loses events."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one check found.

    Attributes:
        verdict: of the check.
        text: what was seen, in one line.
        mend: the command that mends it, or what to do; empty for nothing.
    """

    verdict: Verdict
    text: str
    mend: str = ""


def green(text: str) -> Seen:
    """Return that all is well."""
    return Seen(Verdict.GREEN, text)


def yellow(text: str, mend: str) -> Seen:
    """Return that it works, and what to mend."""
    return Seen(Verdict.YELLOW, text, mend)


def red(text: str, mend: str) -> Seen:
    """Return that it does not work, and what mends it."""
    return Seen(Verdict.RED, text, mend)


def skipped(text: str) -> Seen:
    """Return why there is nothing to say."""
    return Seen(Verdict.SKIPPED, text)


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table.

    Attributes:
        name: `server.thing`, unique.
        asks: the question in a few words.
        needs: names of the facts that it judges, in the order of the arguments.
        judge: the facts to what they mean.
        mend: what to do where a fact cannot be had.
        after: names of checks before it; where one of them is red, this one is skipped.
    """

    name: str
    asks: str
    needs: tuple[str, ...]
    judge: Callable[..., Seen]
    mend: str = ""
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A check, and what it found."""

    check: Check
    seen: Seen

    def as_json(self) -> dict[str, Any]:
        """Return the row of `pipeline doctor --json`."""
        return {
            "check": self.check.name,
            "asks": self.check.asks,
            "verdict": self.seen.verdict,
            "seen": self.seen.text,
            "mend": self.seen.mend or None,
        }


def examine(
    checks: Iterable[Check], questions: Mapping[str, Callable[[], Any]]
) -> Iterator[Finding]:
    """Go through a table of checks.

    Args:
        checks: in their order.
        questions: return a fact, by name; each is called once at most. It may raise
            `PipelineError` or `Unreachable`: the fact cannot be had.
    """
    known: dict[str, Any] = {}
    failed: dict[str, str] = {}  # the check that has told it, by fact
    wrong: set[str] = set()  # names of checks that are red

    def find(check: Check) -> Seen:
        if (before := next(filter(wrong.__contains__, check.after), None)) is not None:
            return skipped(f"not asked: see {before}")
        for name in check.needs:
            if name in failed:
                return skipped(f"not asked: see {failed[name]}")
            if name not in known:
                try:
                    known[name] = questions[name]()
                except (PipelineError, Unreachable) as error:
                    failed[name] = check.name
                    return red(str(error), check.mend)
        return check.judge(*(known[name] for name in check.needs))

    for check in checks:
        seen = find(check)
        if seen.verdict is Verdict.RED:
            wrong.add(check.name)
        yield Finding(check, seen)


def worst(findings: Iterable[Finding]) -> Verdict:
    """Return the worst verdict; green for none."""
    order = list(Verdict)
    verdicts = [finding.seen.verdict for finding in findings]
    return max(verdicts, key=order.index, default=Verdict.GREEN)


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """Return what `pipeline doctor --json` prints."""
    verdict = worst(findings)
    return {
        "verdict": verdict,
        "ok": verdict is not Verdict.RED,
        "checks": [finding.as_json() for finding in findings],
    }
