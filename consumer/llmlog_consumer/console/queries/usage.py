"""Owns the questions about many calls: each panel's query, and the series in its answer. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.console.fields import DIMENSIONS, ERROR_CLASS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmlog_consumer.console.queries.period import Period

TOP: Final = 8
"""Groups that have a colour of their own; all others are one more."""
OTHERS: Final = "all others"
NOT_NAMED: Final = "(none)"
PERCENTS: Final = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of the page *Usage*.

    Attributes:
        title: for people.
        kind: `sum`, `count`, `percentiles`, `errors`.
        unit: `usd`, `count`, `seconds`.
        field: that is added up, or whose percentiles are shown; empty for a count.
        note: what a reader has to know.
    """

    title: str
    kind: str
    unit: str
    field: str = ""
    note: str = ""


PANELS: Final[dict[str, Panel]] = {
    "cost": Panel("Cost", "sum", "usd", "response_cost"),
    "calls": Panel("Calls", "count", "count"),
    "tokens": Panel("Tokens", "sum", "count", "total_tokens"),
    "savings": Panel("Saved by LiteLLM's cache", "sum", "usd", "saved_cache_cost"),
    "response_time": Panel(
        "Response time",
        "percentiles",
        "seconds",
        "response_time",
        "As LiteLLM has it: of a stream it is the time to the first token.",
    ),
    "first_token": Panel(
        "Time to the first token", "percentiles", "seconds", "time_to_first_token"
    ),
    "errors": Panel("Errors by class", "errors", "count", ERROR_CLASS),
}


def ask_panel(
    panel: Panel, period: Period, clauses: Sequence[dict[str, Any]], by: str
) -> dict[str, Any]:
    """Return a panel's search.

    Args:
        panel: of `PANELS`.
        period: in which the calls began.
        clauses: of the filter.
        by: the dimension that is stacked.
    """
    filters = [period.as_filter(), *clauses]
    over_time: dict[str, Any] = {
        "date_histogram": {
            "field": "@timestamp",
            "fixed_interval": f"{period.step_seconds}s",
            "min_doc_count": 0 if panel.kind == "percentiles" else 1,
        }
    }
    body: dict[str, Any] = {"size": 0, "track_total_hits": True}
    if panel.kind == "percentiles":
        over_time["aggs"] = {"p": _percentiles(panel.field)}
        aggs = {"time": over_time, "all": _percentiles(panel.field)}
        aggs["covered"] = {"filter": {"exists": {"field": panel.field}}}
    else:
        value = {"value": {"sum": {"field": panel.field}}} if panel.kind == "sum" else {}
        grouped = DIMENSIONS[by][1]
        if panel.kind == "errors":
            filters.append({"term": {"status": "failure"}})
            grouped = panel.field
        terms: dict[str, Any] = {"field": grouped, "size": TOP}
        if value:
            terms["order"] = {"value": "desc"}
            over_time["aggs"] = value
        aggs = {
            "groups": {"terms": terms, "aggs": {"time": over_time, **value}},
            "time": over_time,
            **value,
        }
        if panel.kind == "sum":
            aggs["covered"] = {"filter": {"exists": {"field": panel.field}}}
        # A call with several tags is in several groups.
        aggs["named"] = {"filter": {"exists": {"field": grouped}}}
    return {**body, "query": {"bool": {"filter": filters}}, "aggs": aggs}


def _percentiles(field: str) -> dict[str, Any]:
    return {"percentiles": {"field": field, "percents": list(PERCENTS)}}


@dataclass(frozen=True, slots=True)
class Series:
    """What a panel shows.

    Attributes:
        names: of the series, the largest first.
        times: epoch milliseconds of each bar.
        values: of each series, at each of these times; None where there is none.
        totals: of each series over the whole period.
        calls: that match.
        covered: calls that have a value; None where every call counts.
    """

    names: Sequence[str]
    times: Sequence[int]
    values: Sequence[Sequence[float | None]]
    totals: Sequence[float | None]
    calls: int
    covered: int | None = None

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to draw."""
        return not any(value for row in self.values for value in row)


def read_panel(panel: Panel, found: Mapping[str, Any], *, is_disjoint: bool = True) -> Series:
    """Return the series in an answer.

    Args:
        panel: that was asked about.
        found: the answer to its search.
        is_disjoint: each call is in one group at most, so that what is left can be told.
    """
    aggs = found["aggregations"]
    calls = int(found["hits"]["total"]["value"])
    buckets = aggs["time"]["buckets"]
    times = [int(bucket["key"]) for bucket in buckets]
    covered = int(aggs["covered"]["doc_count"]) if "covered" in aggs else None
    if panel.kind == "percentiles":
        names = [f"p{percent}" for percent in PERCENTS]
        keys = [f"{percent:.1f}" for percent in PERCENTS]
        values = [[bucket["p"]["values"].get(key) for bucket in buckets] for key in keys]
        totals = [aggs["all"]["values"].get(key) for key in keys]
        return Series(names, times, values, totals, calls, covered)

    def value_of(bucket: Mapping[str, Any]) -> float:
        return float(bucket["value"]["value"] if panel.kind == "sum" else bucket["doc_count"])

    whole = {int(bucket["key"]): value_of(bucket) for bucket in buckets}
    names, rows, totals = [], [], []
    for group in aggs["groups"]["buckets"]:
        of_group = {int(b["key"]): value_of(b) for b in group["time"]["buckets"]}
        names.append(str(group["key"]))
        rows.append([of_group.get(time, 0.0) for time in times])
        totals.append(value_of(group))
    total = float(aggs["value"]["value"]) if panel.kind == "sum" else float(calls)
    left = total - sum(filter(None, totals))
    if is_disjoint and left > max(1e-9, abs(total) * 1e-9):
        has_unnamed = int(aggs["named"]["doc_count"]) < calls
        is_named = bool(aggs["groups"].get("sum_other_doc_count"))
        names.append(OTHERS if is_named or not has_unnamed else NOT_NAMED)
        rows.append(
            [max(0.0, whole[time] - sum(row[at] for row in rows)) for at, time in enumerate(times)]
        )
        totals.append(left)
    return Series(names, times, rows, totals, calls, covered)
