"""Builds the Grafana dashboard: `make docs` writes llmlog.json beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode, LegendDisplayMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef

FILE: Final = Path(__file__).with_name("llmlog.json")

_C: Final = "llmlog_consumer_"
_G: Final = "llmlog_gateway_"
_V: Final = "llmlog_verify_"
_WHERE: Final = '{job=~"$job"}'
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="$datasource")


def _rate(name: str, by: str = "", labels: str = "") -> str:
    """Return the sum of a counter's rate, by some labels."""
    where = '{job=~"$job"' + (f",{labels}" if labels else "") + "}"
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped}(rate({name}{where}[$__rate_interval]))"


def _quantile(share: float, name: str) -> str:
    return f"histogram_quantile({share}, {_rate(f'{name}_bucket', 'le')})"


def _quantile_of_all(share: float, name: str) -> str:
    """Return the same over all jobs: `pipeline verify` is not scraped as a consumer."""
    return f"histogram_quantile({share}, sum by (le) (rate({name}_bucket[$__rate_interval])))"


Query = tuple[str, str]
"""An expression, and its legend."""

NOW: Final[tuple[tuple[str, str, str], ...]] = (
    ("Ready", f"min({_C}ready{_WHERE})", "bool_yes_no"),
    ("Workers", f"sum({_C}workers{_WHERE})", "short"),
    ("Unhealthy workers", f"sum({_C}unhealthy_workers{_WHERE})", "short"),
    ("Oldest waiting record", f"max({_C}lag_seconds{_WHERE})", "s"),
    ("Waiting records",
     f"sum(max by (topic, partition) ({_C}lag_records{_WHERE}))", "short"),
    ("Dead letters today",
     f'sum(increase({_C}records_total{{job=~"$job",outcome="dead"}}[24h]))', "short"),
    ("Certificates end in",
     f"min({_C}certificate_expiry_timestamp_seconds{_WHERE}) - time()", "s"),
    ("Gateway events waiting", f"sum({_G}pending)", "short"),
)  # fmt: skip
"""Title, expression and unit of each number in the first row."""

GRAPHS: Final[tuple[tuple[str, tuple[tuple[str, str, tuple[Query, ...]], ...]], ...]] = (
    ("Records", (
        ("Records by outcome", "cps", ((_rate(f"{_C}records_total", "outcome"), "{{outcome}}"),
                                       (_rate(f"{_C}consumed_total"), "consumed"))),
        ("Dead letters by cause", "cps",
         ((_rate(f"{_C}dead_letters_total", "fingerprint, stage"), "{{fingerprint}} {{stage}}"),)),
        ("Lag by partition", "short",
         ((f"max by (topic, partition) ({_C}lag_records{_WHERE})", "{{topic}}/{{partition}}"),)),
        ("Age of the oldest waiting record", "s",
         ((f"max by (topic, partition) ({_C}lag_seconds{_WHERE})", "{{topic}}/{{partition}}"),)),
    )),
    ("Latency", (
        ("From Kafka to the document", "s",
         tuple((_quantile(share, f"{_C}event_to_indexed_seconds"), f"{share:.0%}")
               for share in (0.5, 0.95, 0.99))),
        ("From Kafka to a search that finds it", "s",
         tuple((_quantile_of_all(share, f"{_V}event_to_searchable_seconds"), f"{share:.0%}")
               for share in (0.5, 0.95, 0.99))),
        ("Bulk requests", "s",
         tuple((_quantile(share, f"{_C}bulk_request_seconds"), f"{share:.0%}")
               for share in (0.5, 0.95, 0.99))),
    )),
    ("Elasticsearch", (
        ("Requests", "short", ((f"sum({_C}requests_under_way{_WHERE})", "under way"),
                               (f"sum({_C}concurrency_limit{_WHERE})", "limit"))),
        ("Push-backs and retries", "cps", ((_rate(f"{_C}pushbacks_total"), "push-backs"),
                                           (_rate(f"{_C}retries_total"), "retries"))),
        ("Size of requests", "bytes", ((_quantile(0.5, f"{_C}bulk_request_bytes"), "50%"),
                                       (_quantile(0.99, f"{_C}bulk_request_bytes"), "99%"))),
        ("Attempts of requests", "short",
         ((_quantile(0.99, f"{_C}bulk_request_attempts"), "99%"),)),
    )),
    ("What waits", (
        ("Paused", "short", ((f"sum by (kind) ({_C}paused_scopes{_WHERE})", "{{kind}}"),)),
        ("In flight", "bytes", ((f"sum({_C}in_flight_bytes{_WHERE})", "memory"),)),
        ("Age of commits, and of the oldest record in flight", "s",
         ((f"max({_C}commit_age_seconds{_WHERE})", "commit"),
          (f"max({_C}oldest_unsettled_seconds{_WHERE})", "record"))),
    )),
    ("Processes", (
        ("CPU", "percentunit",
         ((_rate(f"{_C}process_cpu_seconds_total", "instance, process"),
           "{{instance}} {{process}}"),)),
        ("Memory", "bytes",
         ((f"sum by (instance, process) ({_C}process_resident_memory_bytes{_WHERE})",
           "{{instance}} {{process}}"),)),
        ("Restarts of workers", "short",
         ((f"sum by (instance) (increase({_C}worker_restarts_total{_WHERE}[1h]))",
           "{{instance}}"),)),
    )),
    ("Gateway", (
        ("Events", "cps", tuple(
            (f"sum(rate({_G}{name}_total[$__rate_interval]))", name)
            for name in ("accepted", "delivered", "journaled"))),
        ("Lost", "cps", tuple(
            (f"sum(rate({_G}{name}_total[$__rate_interval]))", name)
            for name in ("failed", "dropped_queue_full", "dropped_unreadable",
                         "dropped_disabled", "stuck"))),
    )),
)  # fmt: skip
"""Of each row: its title, and title, unit and queries of each graph."""


def expressions() -> list[str]:
    """Return every query of the dashboard."""
    of_graphs = [q for _, graphs in GRAPHS for *_, queries in graphs for q, _ in queries]
    return [*(expression for _, expression, _ in NOW), *of_graphs]


def _query(expression: str, legend: str = "") -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expression).legend_format(legend)


def _stat(title: str, expression: str, unit: str) -> stat.Panel:
    return (
        stat.Panel()
        .title(title)
        .datasource(_SOURCE)
        .unit(unit)
        .span(24 // len(NOW))
        .height(4)
        .color_mode(BigValueColorMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query(expression).ref_id("A"))
    )


def _graph(title: str, unit: str, queries: tuple[Query, ...], span: int) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(True)  # noqa: FBT003
    panel = timeseries.Panel().title(title).datasource(_SOURCE).unit(unit).min(0)
    panel = panel.span(span).height(8).fill_opacity(10).legend(legend)
    for number, (expression, name) in enumerate(queries):
        panel = panel.with_target(_query(expression, name).ref_id(chr(ord("A") + number)))
    return panel


def build() -> str:
    """Return the dashboard as JSON."""
    board = (
        dashboard.Dashboard("LLM log pipeline")
        .uid("llmlog-pipeline")
        .tags(["llmlog"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
        .with_variable(
            dashboard.QueryVariable("job")
            .label("Job of pipeline consume")
            .datasource(_SOURCE)
            .query(f"label_values({_C}build_info, job)")
            .multi(True)  # noqa: FBT003
            .include_all(True)  # noqa: FBT003
        )
        .with_row(dashboard.Row("Now"))
    )
    for title, expression, unit in NOW:
        board = board.with_panel(_stat(title, expression, unit))
    for title, graphs in GRAPHS:
        board = board.with_row(dashboard.Row(title))
        for of_graph in graphs:
            board = board.with_panel(_graph(*of_graph, span=24 // min(len(graphs), 3)))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


if __name__ == "__main__":
    FILE.write_text(build(), encoding="utf-8")
