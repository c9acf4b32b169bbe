"""Writes the tables in docs/metrics.md: `python -m support.metrics_page` writes the page."""

from __future__ import annotations

import re
from pathlib import Path

from llmlog_consumer.checks import verify_metrics
from llmlog_consumer.metric_list import METRICS
from llmlog_producer.counters import COUNTERS
from llmlog_producer.metrics import GAUGES, HOOK_SECONDS, HOOK_TEXT
from llmlog_producer.metrics import PREFIX as GATEWAY_PREFIX

PAGE = Path(__file__).parents[2] / "docs/metrics.md"


def consumer_rows() -> list[tuple[str, str, str]]:
    """Return name with labels, kind and meaning of each metric of the consumer."""
    return [
        (spec.full_name + (f"{{{','.join(spec.labels)}}}" if spec.labels else ""),
         str(spec.kind), spec.text)
        for spec in METRICS
    ]  # fmt: skip


def gateway_rows() -> list[tuple[str, str, str]]:
    """Return the same of the gateway."""
    counters = [
        (f"{GATEWAY_PREFIX}{name}_total", "counter", text) for name, text in COUNTERS.items()
    ]
    gauges = [(f"{GATEWAY_PREFIX}{name}", "gauge", text) for name, text in GAUGES.items()]
    return [*counters, *gauges, (f"{GATEWAY_PREFIX}{HOOK_SECONDS}", "histogram", HOOK_TEXT)]


def verify_rows() -> list[tuple[str, str, str]]:
    """Return the same of `pipeline verify`."""
    prefix = verify_metrics.PREFIX
    gauges = [(f"{prefix}{name}", "gauge", text) for name, text in verify_metrics.GAUGES.items()]
    counters = [
        (f"{prefix}{name}_total", "counter", text) for name, text in verify_metrics.COUNTERS.items()
    ]
    histograms = [
        (f"{prefix}{name}", "histogram", text) for name, text in verify_metrics.HISTOGRAMS.items()
    ]
    return [*gauges, *counters, *histograms]


ROWS = {"consumer": consumer_rows, "gateway": gateway_rows, "verify": verify_rows}


def page_with_tables(page: str) -> str:
    """Return the page with each marked table written again."""

    def written(match: re.Match[str]) -> str:
        name = match[1]
        rows = [f"| `{metric}` | {kind} | {text} |" for metric, kind, text in ROWS[name]()]
        head = ["| metric | kind | tells |", "|---|---|---|"]
        return "\n".join([f"<!-- metrics {name} -->", "", *head, *rows, "", "<!-- end -->"])

    return re.sub(r"<!-- metrics (\w+) -->.*?<!-- end -->", written, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text()))
