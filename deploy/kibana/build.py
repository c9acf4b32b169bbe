"""Builds the saved objects for Kibana: `make docs` writes llmlog.ndjson beside this file.

A data view, a Lens panel for each row of `PANELS`, a list of failures, and three dashboards.
`search_of` says a panel's question as Elasticsearch has it: the tests run it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE: Final = Path(__file__).with_name("llmlog.ndjson")
ALIAS: Final = "litellm-logs"
DATA_VIEW: Final = "llmlog-data-view"
TIME_FIELD: Final = "startTime"
KIBANA: Final = "8.9.0"
"""The oldest Kibana of this form; a later one migrates the objects as it imports them."""

FAILED: Final = {"term": {"status": "failure"}}
SUCCEEDED: Final = {"term": {"status": "success"}}
NOT_CACHED: Final = {"bool": {"must_not": [{"term": {"cache_hit": True}}]}}
STREAMED: Final = {"term": {"stream": True}}
_LAYER: Final = "layer"
_WIDTH, _HEIGHT = 24, 12
_COLUMNS: Final = (
    "model", "team_alias", "end_user", "error_class", "error_code", "error_str", "litellm_call_id",
)  # fmt: skip


class Metric(NamedTuple):
    """One number of a panel.

    Attributes:
        title: as people read it.
        operation: of Lens: `sum`, `average`, `count`, `percentile`.
        field: None for `count`.
        percentile: of a `percentile`.
    """

    title: str
    operation: str
    field: str | None = None
    percentile: int | None = None


class Panel(NamedTuple):
    """One panel.

    Attributes:
        name: its id, without the prefix.
        title: as people read it.
        metrics: its numbers.
        by: a keyword whose most frequent values it is split by.
        over_time: whether it is a chart over time, or a table.
        filter: a query that documents have to match.
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    by: str | None = None
    over_time: bool = True
    filter: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """Its id in Kibana."""
        return f"llmlog-{self.name}"


_COST: Final = Metric("USD", "sum", "response_cost")
_CALLS: Final = Metric("Calls", "count")


def _percentiles(field: str) -> tuple[Metric, ...]:
    return tuple(Metric(f"{n}%", "percentile", field, n) for n in (50, 95, 99))


DASHBOARDS: Final[dict[str, tuple[str, tuple[Panel, ...]]]] = {
    "costs": ("LiteLLM: costs", (
        Panel("cost-by-model", "Cost by model", (_COST,), by="model"),
        Panel("cost-by-team", "Cost by team", (_COST,), by="team_alias"),
        Panel("tokens-by-model", "Tokens by model", (Metric("Tokens", "sum", "total_tokens"),),
              by="model"),
        Panel("cached-tokens", "Prompt tokens, and those of them from a cache",
              (Metric("Prompt", "sum", "prompt_tokens"), Metric("Cached", "sum", "cached_tokens"))),
        Panel("cost-by-key", "Cost by key",
              (_COST, _CALLS, Metric("Tokens", "sum", "total_tokens")), by="key_alias",
              over_time=False),
        Panel("cost-by-user", "Cost by end user", (_COST, _CALLS), by="end_user", over_time=False),
    )),
    "latency": ("LiteLLM: latency", (
        Panel("latency", "Response time, seconds", _percentiles("response_time"),
              filter={"bool": {"filter": [SUCCEEDED, NOT_CACHED]}}),
        Panel("latency-by-model", "Average response time by model, seconds",
              (Metric("Seconds", "average", "response_time"),), by="model",
              filter={"bool": {"filter": [SUCCEEDED, NOT_CACHED]}}),
        Panel("first-token", "Time to the first token, seconds",
              _percentiles("time_to_first_token"), filter=STREAMED),
        Panel("tokens-per-second", "Tokens a second by model",
              (Metric("Tokens a second", "average", "tokens_per_second"),), by="model"),
        Panel("overhead", "Overhead of the gateway, milliseconds", _percentiles("overhead")),
        Panel("latency-table", "Response time by model",
              (_CALLS, *_percentiles("response_time")), by="model", over_time=False,
              filter=SUCCEEDED),
    )),
    "errors": ("LiteLLM: errors", (
        Panel("errors-by-class", "Failures by class", (_CALLS,), by="error_class", filter=FAILED),
        Panel("errors-by-model", "Failures by model", (_CALLS,), by="model", filter=FAILED),
        Panel("calls-by-status", "Calls by status", (_CALLS,), by="status"),
        Panel("errors-by-code", "Failures by code", (_CALLS,), by="error_code", over_time=False,
              filter=FAILED),
    )),
}  # fmt: skip
"""Title and panels of each dashboard."""

PANELS: Final = tuple(panel for _, panels in DASHBOARDS.values() for panel in panels)


def fields() -> dict[str, set[str]]:
    """Return each field that an object names, with what it is used for."""
    used: dict[str, set[str]] = {TIME_FIELD: {"date_histogram"}}
    for panel in PANELS:
        for metric in panel.metrics:
            if metric.field:
                used.setdefault(metric.field, set()).add(metric.operation)
        if panel.by:
            used.setdefault(panel.by, set()).add("terms")
    for name in _COLUMNS:
        used.setdefault(name, set()).add("column")
    for name in ("status", "stream", "cache_hit"):
        used.setdefault(name, set()).add("filter")
    return used


def filters() -> list[dict[str, Any]]:
    """Return the query of each filter."""
    return [FAILED, *(panel.filter for panel in PANELS if panel.filter)]


def search_of(panel: Panel) -> dict[str, Any]:
    """Return a panel's question as the body of a search."""
    numbers = {
        f"number{n}": {
            "percentiles": {"field": metric.field, "percents": [metric.percentile]}
        } if metric.percentile else {_AGGREGATIONS[metric.operation]: {"field": metric.field}}
        for n, metric in enumerate(panel.metrics) if metric.field
    }  # fmt: skip
    aggregations: dict[str, Any] = numbers
    if panel.by:
        aggregations = {"split": {"terms": {"field": panel.by}, "aggs": numbers}}
    if panel.over_time:
        histogram = {"field": TIME_FIELD, "fixed_interval": "1h", "min_doc_count": 1}
        aggregations = {"time": {"date_histogram": histogram, "aggs": aggregations}}
    return {"size": 0, "query": panel.filter or {"match_all": {}}, "aggs": aggregations}


_AGGREGATIONS: Final = {"sum": "sum", "average": "avg"}


def _reference(name: str) -> dict[str, str]:
    return {"type": "index-pattern", "id": DATA_VIEW, "name": name}


def _object(kind: str, name: str, attributes: dict[str, Any], references: list[Any]) -> Any:
    return {
        "type": kind, "id": name, "attributes": attributes, "references": references,
        "coreMigrationVersion": KIBANA, "managed": False,
    }  # fmt: skip


def _data_view() -> Any:
    attributes = {"title": ALIAS, "name": "LiteLLM calls", "timeFieldName": TIME_FIELD}
    return _object("index-pattern", DATA_VIEW, attributes, [])


def _columns(panel: Panel) -> dict[str, Any]:
    """Return Lens' columns, in their order: time, split, numbers."""
    columns: dict[str, Any] = {}
    numbers = {f"number{n}": metric for n, metric in enumerate(panel.metrics)}
    if panel.over_time:
        columns["time"] = {
            "label": TIME_FIELD, "dataType": "date", "operationType": "date_histogram",
            "sourceField": TIME_FIELD, "isBucketed": True, "scale": "interval",
            "params": {"interval": "auto", "includeEmptyRows": True, "dropPartials": False},
        }  # fmt: skip
    if panel.by:
        columns["split"] = {
            "label": panel.by, "dataType": "string", "operationType": "terms",
            "sourceField": panel.by, "isBucketed": True, "scale": "ordinal",
            "params": {
                "size": 10, "orderBy": {"type": "column", "columnId": "number0"},
                "orderDirection": "desc", "otherBucket": True, "missingBucket": False,
            },
        }  # fmt: skip
    for name, metric in numbers.items():
        columns[name] = {
            "label": metric.title, "customLabel": True, "dataType": "number",
            "operationType": metric.operation, "isBucketed": False, "scale": "ratio",
            "sourceField": metric.field or "___records___",
            "params": {"percentile": metric.percentile} if metric.percentile else {},
        }  # fmt: skip
    return columns


def _lens(panel: Panel) -> Any:
    columns = _columns(panel)
    numbers = [name for name in columns if name.startswith("number")]
    if panel.over_time:
        layer = {
            "layerId": _LAYER, "layerType": "data", "seriesType": "line", "xAccessor": "time",
            "accessors": numbers, **({"splitAccessor": "split"} if panel.by else {}),
        }  # fmt: skip
        kind, chart = "lnsXY", {
            "preferredSeriesType": "line", "layers": [layer],
            "legend": {"isVisible": True, "position": "right"}, "valueLabels": "hide",
        }  # fmt: skip
    else:
        kind, chart = "lnsDatatable", {
            "layerId": _LAYER, "layerType": "data",
            "columns": [{"columnId": name} for name in columns],
        }  # fmt: skip
    state = {
        "datasourceStates": {
            "formBased": {
                "layers": {
                    _LAYER: {
                        "columnOrder": list(columns), "columns": columns,
                        "incompleteColumns": {}, "sampling": 1,
                    }
                }
            }
        },
        "visualization": chart,
        "query": {"language": "kuery", "query": ""},
        "filters": [] if panel.filter is None else [_filter(panel.filter)],
        "internalReferences": [],
        "adHocDataViews": {},
    }  # fmt: skip
    attributes = {"title": panel.title, "visualizationType": kind, "state": state}
    references = [_reference(f"indexpattern-datasource-layer-{_LAYER}")]
    if panel.filter is not None:
        references.append(_reference("filter-0"))
    return _object("lens", panel.id, attributes, references)


def _filter(query: dict[str, Any]) -> dict[str, Any]:
    meta = {
        "alias": None,
        "disabled": False,
        "negate": False,
        "type": "custom",
        "index": "filter-0",
    }
    return {"meta": meta, "query": query, "$state": {"store": "appState"}}


def _source(filters_of_it: list[Any], reference: str | None = None) -> dict[str, str]:
    source: dict[str, Any] = {"query": {"language": "kuery", "query": ""}, "filter": filters_of_it}
    if reference:
        source["indexRefName"] = reference
    return {"searchSourceJSON": json.dumps(source)}


def _failures() -> Any:
    """Return the list of failures, as Discover shows it."""
    reference = "kibanaSavedObjectMeta.searchSourceJSON.index"
    of_filter = _filter(FAILED)
    of_filter["meta"].pop("index")
    of_filter["meta"]["indexRefName"] = "filter-0"
    attributes = {
        "title": "LiteLLM: failures", "columns": list(_COLUMNS), "sort": [[TIME_FIELD, "desc"]],
        "kibanaSavedObjectMeta": _source([of_filter], reference),
    }  # fmt: skip
    references = [_reference(reference), _reference("filter-0")]
    return _object("search", "llmlog-failures", attributes, references)


def _dashboard(name: str, title: str, panels: tuple[Panel, ...]) -> Any:
    shown: list[tuple[str, str]] = [("lens", panel.id) for panel in panels]
    if name == "errors":
        shown.append(("search", "llmlog-failures"))
    grid, references = [], []
    for n, (kind, known_as) in enumerate(shown):
        place = {"x": n % 2 * _WIDTH, "y": n // 2 * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
        if kind == "search":
            place |= {"x": 0, "y": (n + 1) // 2 * _HEIGHT, "w": 2 * _WIDTH}
        grid.append({
            "type": kind, "panelIndex": f"p{n}", "panelRefName": f"panel_p{n}",
            "gridData": {**place, "i": f"p{n}"}, "embeddableConfig": {"enhancements": {}},
        })  # fmt: skip
        references.append({"type": kind, "id": known_as, "name": f"p{n}:panel_p{n}"})
    attributes = {
        "title": title, "description": "", "panelsJSON": json.dumps(grid),
        "optionsJSON": json.dumps({"useMargins": True, "syncColors": True}),
        "timeRestore": True, "timeFrom": "now-24h", "timeTo": "now",
        "kibanaSavedObjectMeta": _source([]),
    }  # fmt: skip
    return _object("dashboard", f"llmlog-{name}", attributes, references)


def build() -> str:
    """Return the objects, a line of JSON each."""
    dashboards = [_dashboard(name, *of_it) for name, of_it in DASHBOARDS.items()]
    objects = [_data_view(), *map(_lens, PANELS), _failures(), *dashboards]
    return "".join(f"{json.dumps(one, sort_keys=True)}\n" for one in objects)


if __name__ == "__main__":
    FILE.write_text(build(), encoding="utf-8")
