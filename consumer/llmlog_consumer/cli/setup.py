"""`pipeline setup`."""

from __future__ import annotations

from typing import Annotated

import typer

from llmlog_common.settings import load
from llmlog_consumer import provision
from llmlog_consumer.cli.options import ConfigOption, say
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.kafka.admin import KafkaAdmin

_SIGNS = {"created": "+", "updated": "~", "unchanged": "=", "differs": "!"}


def setup(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Install topics, index template, lifecycle policy and today's index.

    Idempotent: what is there and right is left alone, and nothing is ever destroyed.

    Example: pipeline setup --dry-run
    """
    settings = load(config=config)
    elastic = Elastic(settings, timeout=30)
    for step in (
        *provision.topics(settings, KafkaAdmin(settings), dry_run=dry_run),
        *provision.indices(settings, elastic, dry_run=dry_run),
    ):
        change = (
            f"would be {step.change}"
            if dry_run and step.change[-1] == "d" and (step.change != "unchanged")
            else step.change
        )
        first, *more = step.detail.splitlines() or [""]
        diff = "\n".join(f"    {line}" for line in ([first, *more] if more else []))
        tail = f" ({first})" if first and not more else ""
        say(f"{_SIGNS[step.change]} {step.what}: {change}{tail}" + (f"\n{diff}" if diff else ""))
