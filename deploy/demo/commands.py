"""Runs the demo's commands and prints them; none of them outlives the demo."""

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
    from collections.abc import Iterator, Mapping

    from rich.console import Console

PIPELINE = Path(sys.executable).with_name("pipeline")
_END_TIMEOUT_SECONDS = 30.0


class CommandFailedError(Exception):
    """A command ended with another exit code than 0."""


class Commands:
    """Echoes and runs `pipeline …` in one folder.

    Attributes:
        folder: where they run.
        environment: of the commands: the caller's without `LLMLOG_…`, and the settings of
            whoever is signed in.
    """

    def __init__(self, console: Console, folder: Path) -> None:
        self._console = console
        self.folder = folder
        self._outer = {
            name: value for name, value in os.environ.items() if not name.startswith("LLMLOG_")
        }
        self.environment = dict(self._outer)

    def use(self, settings: Mapping[str, str]) -> None:
        """Run the commands that follow with these settings, and with no others."""
        self.environment = {**self._outer, **settings}

    def echo(self, line: str) -> None:
        """Print a command as one would type it."""
        self._console.print(Text(f"$ {line}", style="bold cyan"), soft_wrap=True)

    def run(self, *arguments: str) -> None:
        """Run `pipeline ARGUMENTS`; it writes where this process does."""
        self.echo(_line(arguments))
        with self._start(arguments) as process:
            process.wait()

    def ask(self, *arguments: str, echo_as: str | None = None) -> str:
        """Run `pipeline ARGUMENTS` and return what it prints.

        Args:
            arguments: of the command.
            echo_as: printed instead of the command.
        """
        self.echo(echo_as or _line(arguments))
        with self._start(arguments, stdout=subprocess.PIPE) as process:
            return process.communicate()[0]

    def run_logged(self, *arguments: str) -> list[str]:
        """Run `pipeline ARGUMENTS`; show the lines of its log as they come and return them."""
        self.echo(_line(arguments))
        lines = []
        with self._start(arguments, stderr=subprocess.PIPE) as process:
            for line in process.stderr or ():
                lines.append(line.rstrip())
                self._console.print(Text(lines[-1], style="dim"), soft_wrap=True)
        return lines

    @contextmanager
    def _start(self, arguments: tuple[str, ...], **streams: int) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [PIPELINE, *arguments], cwd=self.folder, env=self.environment, text=True, **streams
        )
        try:
            yield process
            process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(_END_TIMEOUT_SECONDS)
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
