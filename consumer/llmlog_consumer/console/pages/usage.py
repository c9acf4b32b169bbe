"""Owns the page *Usage*: its panels, the query behind each, and each as CSV."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from llmlog_common.errors import PipelineError
from llmlog_consumer.console.access.roles import Role
from llmlog_consumer.console.charts import draw_series
from llmlog_consumer.console.csv_file import write_csv
from llmlog_consumer.console.fields import CONTENT_DIMENSIONS, DIMENSIONS
from llmlog_consumer.console.formats import write_label
from llmlog_consumer.console.queries import calls as call_queries
from llmlog_consumer.console.queries.period import SPANS, read_period
from llmlog_consumer.console.queries.usage import PANELS, Series, ask_panel, read_panel
from llmlog_consumer.console.views import render
from llmlog_consumer.times import iso

if TYPE_CHECKING:
    from starlette.requests import Request

    from llmlog_consumer.console.queries.usage import Panel

_WORD_FILTERS: Final = (*DIMENSIONS, "status")


class _NotAllowedError(PipelineError):
    """The address asks for what this person may not see."""


def show(request: Request) -> Response:
    """Return the page; its panels come right after it."""
    person, params = request.state.person, request.query_params
    by = params.get("by", "")
    period = read_period(params, int(request.app.state.console.clock() * 1000))
    return render(
        request,
        "usage.html",
        panels=PANELS,
        spans=SPANS,
        dimensions={n: d for n, d in DIMENSIONS.items() if _may_see(person, n)},
        by=by if by in DIMENSIONS else "team",
        params=params,
        period=period,
        filters={name: params.get(name, "") for name in _WORD_FILTERS},
        problems=[period.problem] if period.problem else [],
    )


def show_panel(request: Request) -> Response:
    """Return one panel: picture, numbers, query."""
    name = request.path_params["panel"]
    if name not in PANELS:
        return render(request, "trouble.html", 404, problem="there is no such panel", again=False)
    panel = PANELS[name]
    try:
        query, series, gap, by = _ask(request, panel)
    except _NotAllowedError as error:
        return render(request, "trouble.html", 403, problem=str(error), again=False)
    names = _labels(request, series)
    stacked = panel.kind != "percentiles"
    picture = draw_series(names, series.times, series.values, title=panel.title, stacked=stacked)
    return render(
        request,
        "panel.html",
        name=name,
        panel=panel,
        by=DIMENSIONS[by][0] if panel.kind in {"sum", "count"} else "",
        series=series,
        rows=list(zip(names, series.totals, strict=True)),
        picture=json.dumps(picture),
        query_text=json.dumps(query, indent=2),
        alias=request.app.state.console.searcher.alias,
        gap=gap,
        csv=f"/usage/{name}/csv?{urlencode(dict(request.query_params))}",
    )


def download(request: Request) -> Response:
    """Return one panel as CSV: a row for each bar, a column for each series."""
    name = request.path_params["panel"]
    if name not in PANELS:
        return render(request, "missing.html", 404)
    try:
        _, series, _, _ = _ask(request, PANELS[name])
    except _NotAllowedError as error:
        return render(request, "refused.html", 403, role=Role.CONTENTS, why=str(error))
    rows = [
        [iso(time), *(row[at] for row in series.values)] for at, time in enumerate(series.times)
    ]
    body = write_csv(["time (UTC)", *_labels(request, series)], rows)
    disposition = f'attachment; filename="{name}.csv"'
    return Response(body, 200, {"content-disposition": disposition}, "text/csv; charset=utf-8")


def _ask(request: Request, panel: Panel) -> tuple[dict[str, Any], Series, str, str]:
    """Return the panel's query, its answer, what that leaves out, and the dimension.

    Raises:
        _NotAllowedError: the dimension or a filter names people.
    """
    console, person, params = request.app.state.console, request.state.person, request.query_params
    by = params.get("by", "team")
    by = by if by in DIMENSIONS else "team"
    values = {name: params[name] for name in _WORD_FILTERS if params.get(name)}
    wanted = call_queries.read_filter(values)
    asks_for_people = wanted.needs_contents and not person.may(Role.CONTENTS)
    if asks_for_people or not _may_see(person, by):
        raise _NotAllowedError("users are shown to those who may see contents")
    period = read_period(params, int(console.clock() * 1000))
    query = ask_panel(panel, period, wanted.clauses(), by)
    found = console.searcher.search(query)
    is_disjoint = panel.kind == "errors" or by != "tag"
    return query, read_panel(panel, found.body, is_disjoint=is_disjoint), found.gap, by


def _may_see(person: Any, dimension: str) -> bool:
    return dimension not in CONTENT_DIMENSIONS or person.may(Role.CONTENTS)


def _labels(request: Request, series: Series) -> list[str]:
    shows = request.state.person.may(Role.CONTENTS)
    return [write_label(name, shows_contents=shows) for name in series.names]
