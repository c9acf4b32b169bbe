"""Owns `python -m llmlog_producer`: the commands for the machine of the gateway.

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
from llmlog_producer.check import KAFKA_SECONDS, Finding, check
from llmlog_producer.counters import Stats
from llmlog_producer.journal.inspect import inspect
from llmlog_producer.journal.journal import Journal, folder_of
from llmlog_producer.sending.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None, *, kafka_seconds: float = KAFKA_SECONDS) -> int:
    """Run one command; return its exit code.

    Args:
        arguments: of the command line; None: those of this process.
        kafka_seconds: how long `check` waits for each answer of Kafka.
    """
    given = _parser().parse_args(arguments)
    given.kafka_seconds = kafka_seconds
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
        description="The gateway's side: check what it needs, show and send the journal.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", type=Path, help="TOML file; default: pipeline.toml if it exists"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check_parser = commands.add_parser("check", help="check everything that the gateway needs")
    check_parser.add_argument(
        "--litellm-config", type=Path, metavar="FILE", help="the proxy's config.yaml"
    )
    check_parser.set_defaults(run=_run_check)
    journal = commands.add_parser("journal", help="the events that Kafka has not taken yet")
    actions = journal.add_subparsers(required=True, metavar="ACTION")
    show = actions.add_parser("show", help="print what is in the journal")
    show.add_argument("--json", action="store_true", help="one JSON document")
    show.set_defaults(run=_show_journal)
    send = actions.add_parser("send", help="send the events of processes that have ended")
    send.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds to wait for Kafka (60)"
    )
    send.set_defaults(run=_send_journal)
    return parser


def _run_check(given: argparse.Namespace, settings: Settings) -> None:
    wrong: list[Finding] = []
    for finding in check(settings, given.litellm_config, given.kafka_seconds):
        state = "WRONG" if finding.exit_code else "ok"
        print(f"{state:6} {finding.what}: {finding.message}", flush=True)  # noqa: T201
        if finding.exit_code:
            wrong.append(finding)
    if wrong:
        is_local = wrong[0].exit_code == ConfigurationError.exit_code
        error = ConfigurationError if is_local else KafkaError
        raise error(f"{len(wrong)} wrong: see above what to do")


def _show_journal(given: argparse.Namespace, settings: Settings) -> None:
    folder = _folder(settings)
    owners = inspect(folder)
    if given.json:
        document = {"folder": str(folder), "owners": [asdict(owner) for owner in owners]}
        print(json.dumps(document))  # noqa: T201 - data on stdout
        return
    print(f"{folder}: {sum(owner.events for owner in owners)} events")  # noqa: T201
    for owner in owners:
        oldest = _format_time(owner.oldest_ms)
        state = "running" if owner.alive else "ended"
        faults = ""
        if owner.truncated or owner.damaged:
            faults = f", {owner.truncated} truncated, {owner.damaged} damaged"
        print(  # noqa: T201
            f"{owner.owner}  {state:7}  {owner.events} events, {owner.bytes} bytes, "
            f"oldest {oldest}{faults}"
        )


def _send_journal(given: argparse.Namespace, settings: Settings) -> None:
    journal = Journal(_folder(settings), settings.journal_max_bytes)
    journal.open()  # an error says why it cannot
    journal.release()
    stats = Stats()
    publisher = Publisher(settings.model_copy(update={"journal": "spill"}), stats)
    left = publisher.flush(given.timeout, adopted=True)
    publisher.close(0)
    counters = stats.snapshot()
    print(f"{counters['delivered']} events sent to {settings.topic}", file=sys.stderr)  # noqa: T201
    if counters["failed"] or counters["journal_damaged"]:
        raise KafkaError(
            f"{counters['failed']} events were refused, {counters['journal_damaged']} places are "
            "damaged: the log says why"
        )
    if left:
        raise KafkaError(f"{left} events are still in the journal: Kafka did not take them in time")


def _folder(settings: Settings) -> Path:
    try:
        return folder_of(settings)
    except RuntimeError as error:
        raise ConfigurationError(f"{error} (LLMLOG_JOURNAL_DIR)") from None


def _format_time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "unknown"
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())
