"""`python -m llmlog_producer`: what an operator can run where the gateway runs.

Exit codes are those of `pipeline`: 0 done, 2 configuration, 3 Kafka.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from llmlog_common.errors import ConfigurationError, KafkaError, PipelineError
from llmlog_common.settings import Settings, load
from llmlog_producer.check import Finding, check
from llmlog_producer.counters import Stats
from llmlog_producer.journal.inspect import inspect
from llmlog_producer.journal.journal import Journal, folder_of
from llmlog_producer.sending.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        given.run(given, load(config=given.config))
    except PipelineError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command's one line
        return error.exit_code
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command's one line
        return ConfigurationError.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llmlog_producer",
        description="The gateway's side: see whether all is in order, look after the journal.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", type=Path, help="TOML file; default: pipeline.toml if it exists"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    look = commands.add_parser("check", help="look at everything that the gateway needs")
    look.add_argument("--litellm-config", type=Path, metavar="FILE", help="the proxy's config.yaml")
    look.set_defaults(run=_check)
    journal = commands.add_parser("journal", help="what Kafka did not take yet")
    actions = journal.add_subparsers(required=True, metavar="ACTION")
    show = actions.add_parser("show", help="print what lies in the journal")
    show.add_argument("--json", action="store_true", help="one JSON document")
    show.set_defaults(run=_show)
    send = actions.add_parser("send", help="send what processes that have ended left there")
    send.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds to wait for Kafka (60)"
    )
    send.set_defaults(run=_send)
    return parser


def _check(given: argparse.Namespace, settings: Settings) -> None:
    wrong: list[Finding] = []
    for finding in check(settings, given.litellm_config):
        state = "WRONG" if finding.exit_code else "ok"
        print(f"{state:6} {finding.what}: {finding.said}", flush=True)  # noqa: T201
        wrong += [finding] * bool(finding.exit_code)
    if wrong:
        kind = (
            ConfigurationError if wrong[0].exit_code == ConfigurationError.exit_code else KafkaError
        )
        raise kind(f"{len(wrong)} to be put right")


def _show(given: argparse.Namespace, settings: Settings) -> None:
    folder = _folder(settings)
    owners = inspect(folder)
    if given.json:
        found = {"folder": str(folder), "owners": [asdict(owner) for owner in owners]}
        print(json.dumps(found))  # noqa: T201 - data on stdout
        return
    print(f"{folder}: {sum(owner.events for owner in owners)} events")  # noqa: T201
    for owner in owners:
        since = _spelt(owner.oldest_ms)
        state = "running" if owner.alive else "ended"
        broken = f", {owner.torn} torn, {owner.damaged} damaged" * bool(owner.torn + owner.damaged)
        print(  # noqa: T201
            f"{owner.owner}  {state:7}  {owner.events} events, {owner.bytes} bytes, "
            f"oldest {since}{broken}"
        )


def _send(given: argparse.Namespace, settings: Settings) -> None:
    Journal(_folder(settings), settings.journal_max_bytes).release()  # or it says why not
    stats = Stats()
    publisher = Publisher(settings.model_copy(update={"journal": "spill"}), stats)
    left = publisher.recover(given.timeout)
    publisher.close(0)
    counted = stats.snapshot()
    print(f"{counted['delivered']} events sent to {settings.topic}", file=sys.stderr)  # noqa: T201
    if counted["failed"] or counted["journal_damaged"]:
        raise KafkaError(
            f"{counted['failed']} events were refused, {counted['journal_damaged']} places are "
            "damaged: the log says why"
        )
    if left:
        raise KafkaError(f"{left} events are still in the journal: Kafka did not take them in time")


def _folder(settings: Settings) -> Path:
    try:
        return folder_of(settings)
    except RuntimeError as error:
        raise ConfigurationError(f"{error} (LLMLOG_JOURNAL_DIR)") from None


def _spelt(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "unknown"
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())
