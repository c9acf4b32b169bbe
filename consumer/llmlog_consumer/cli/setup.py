"""The command `pipeline setup`."""

from __future__ import annotations

from typing import Annotated

import typer

from llmlog_common.settings import load
from llmlog_consumer import provision
from llmlog_consumer.cli.options import ConfigOption
from llmlog_consumer.cli.output import complain, say
from llmlog_consumer.elasticsearch.patience import PatientElastic
from llmlog_consumer.kafka.admin import KafkaAdmin

_SIGNS = {"created": "+", "updated": "~", "unchanged": "=", "differs": "!"}
_CHANGES = ("created", "updated")


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
    elastic = PatientElastic(settings, timeout=30, announce=complain)
    for step in (
        *provision.topics(settings, KafkaAdmin(settings), dry_run=dry_run),
        *provision.indices(settings, elastic, dry_run=dry_run),
    ):
        is_pending = dry_run and step.change in _CHANGES
        change = f"would be {step.change}" if is_pending else step.change
        say(f"{_SIGNS[step.change]} {step.what}: {change}{_format_detail(step.detail)}")


def _format_detail(detail: str) -> str:
    """Return one line in brackets; several lines below each other, indented."""
    lines = detail.splitlines()
    if len(lines) > 1:
        return "".join(f"\n    {line}" for line in lines)
    return f" ({detail})" if detail else ""
