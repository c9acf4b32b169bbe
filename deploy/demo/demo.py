"""The whole way, on this machine: LiteLLM, Kafka, consumers, Elasticsearch, a dead letter.

    make demo           # ends by itself and leaves nothing running
    make demo KEEP=1    # leaves Kafka and Elasticsearch up, to look around
    make demo SECURE=1  # all of it over TLS, each process as a user of docs/permissions.md

Every printed number is checked against the HTTP answers; the exit code is 1 if one differs.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from rich.console import Console
from rich.text import Text

from access import Access
from commands import CommandFailedError
from gateway import ROOT, GatewayError
from llmlog_local.errors import LocalStackError
from steps import Demo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


FOLDER = ROOT / ".llmlog-demo"


def main() -> int:
    """Run the demo; return the exit code."""
    arguments = argparse.ArgumentParser(description="LiteLLM to Elasticsearch, the whole way.")
    arguments.add_argument(
        "--keep", action="store_true", help="leave Kafka and Elasticsearch running"
    )
    arguments.add_argument(
        "--secure", action="store_true", help="TLS, logins and access rights, and a Schema Registry"
    )
    asked = arguments.parse_args()
    keep: bool = asked.keep
    sys.stdout.reconfigure(line_buffering=True)  # in order with what the commands write
    # Piped, a line is as long as it needs to be, within reason.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    began = time.monotonic()
    with _lock(FOLDER):
        demo = Demo(console, FOLDER, Access(FOLDER, is_secure=asked.secure))
        kept = False
        try:
            demo.take_down()
            _clear(FOLDER)
            adds_up = demo.run()
            if keep and adds_up:
                demo.leave_running()
                kept = True
        except KeyboardInterrupt:
            console.print("\ninterrupted", style="red")
            return 128 + signal.SIGINT
        except (CommandFailedError, GatewayError, LocalStackError, httpx.HTTPError) as error:
            console.print(Text(f"error: {error}", style="red"), soft_wrap=True)
            return 1
        finally:
            if not kept:
                # An interrupt here would leave servers running.
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
                demo.take_down()
    verdict = "everything adds up" if adds_up else "something does NOT add up"
    console.print(f"\n{verdict}; {time.monotonic() - began:.0f} s", style="bold")
    return 0 if adds_up else 1


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock the folder, so that no other demo uses it."""
    folder.mkdir(exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"error: another demo runs in {folder}")
    else:
        yield
    finally:
        os.close(handle)


def _clear(folder: Path) -> None:
    """Remove the files of an earlier run, so that counts begin at zero."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


if __name__ == "__main__":
    sys.exit(main())
