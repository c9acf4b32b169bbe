"""The command `pipeline report`."""

from __future__ import annotations

from typing import Any

from llmlog_common.errors import ElasticsearchError
from llmlog_consumer.checks.report import Reporter
from llmlog_consumer.cli.options import (
    ConfigOption,
    JsonOption,
    SinceOption,
    load_settings,
    parse_when,
)
from llmlog_consumer.cli.output import complain, say, write_json, write_table
from llmlog_consumer.elasticsearch.patience import PatientElastic

_TIMEOUT_SECONDS = 30.0
_ERROR_CHARACTERS = 80


def report(
    since: SinceOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show cost by model, response times and recent errors.

    A report that leaves something out says so, and the exit code is 4.

    Example: pipeline report --since 24h
    """
    settings = load_settings(config)
    since_ms = None if since is None else parse_when(since)
    elastic = PatientElastic(settings, timeout=_TIMEOUT_SECONDS, announce=complain)
    result = Reporter(elastic, settings.index, complain).report(since_ms)
    if as_json:
        write_json(result)
    else:
        _print(result)
    if result["left_out"]:
        raise ElasticsearchError(f"not everything is counted: {'; '.join(result['left_out'])}")


def _print(result: dict[str, Any]) -> None:
    say(f"{result['events']} events\n\nCost by model (USD)")
    write_table(
        ("model", "events", "failures", "total_cost", "total_tokens", "avg_response_time"),
        [tuple(row.values()) for row in result["models"]],
    )
    say("\nResponse time (seconds)")
    write_table(tuple(result["response_time"]), [tuple(result["response_time"].values())])
    say("\nRecent errors")
    write_table(
        ("at", "model", "class", "error", "litellm_call_id"),
        [
            (
                e["at"],
                e["model"],
                e["error_class"],
                (e["error"] or "")[:_ERROR_CHARACTERS],
                e["litellm_call_id"],
            )
            for e in result["errors"]
        ],
    )
