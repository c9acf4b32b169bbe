"""Runs the demo's commands where the reader sees them; none of them outlives the demo."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

PIPELINE = Path(sys.executable).with_name("pipeline")
_END_PATIENCE_S = 30.0


class CommandFailedError(Exception):
    """A command ended with another exit code than 0."""


class Commands:
    """Echoes and runs `pipeline …` in one folder.

    Attributes:
        folder: where they run.
        environment: what they start with: the caller's, without settings that point to other
            servers; the demo adds those of its own.
    """

    def __init__(self, console: Console, folder: Path) -> None:
        self._console = console
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("LLMLOG_")
        }

    def echo(self, line: str) -> None:
        """Print a command as one would type it."""
        self._console.print(Text(f"$ {line}", style="bold cyan"), soft_wrap=True)

    def run(self, *arguments: str) -> None:
        """Run `pipeline ARGUMENTS`; it writes where this process does."""
        self.echo(_line(arguments))
        with self._started(arguments) as process:
            process.wait()

    def ask(self, *arguments: str, shown: str | None = None) -> str:
        """Run `pipeline ARGUMENTS` and return what it prints.

        Args:
            arguments: of the command.
            shown: what is echoed in its place.
        """
        self.echo(shown or _line(arguments))
        with self._started(arguments, stdout=subprocess.PIPE) as process:
            return process.communicate()[0]

    def run_logged(self, *arguments: str) -> list[str]:
        """Run `pipeline ARGUMENTS`; show the lines of its log as they come and return them."""
        self.echo(_line(arguments))
        lines = []
        with self._started(arguments, stderr=subprocess.PIPE) as process:
            for line in process.stderr or ():
                lines.append(line.rstrip())
                self._console.print(Text(lines[-1], style="dim"), soft_wrap=True)
        return lines

    @contextmanager
    def _started(
        self, arguments: tuple[str, ...], **streams: int
    ) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [PIPELINE, *arguments], cwd=self.folder, env=self.environment, text=True, **streams
        )
        try:
            yield process
            process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(_END_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
        finally:
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        if process.returncode:
            raise CommandFailedError(
                f"`{_line(arguments)}` ended with exit code {process.returncode}"
            )


def _line(arguments: tuple[str, ...]) -> str:
    return f"pipeline {shlex.join(arguments)}"
