"""Owns the page *Dead letters*: causes, the letters of a cause, and one letter."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.console.access.roles import Role
from llmlog_consumer.console.charts import draw_series
from llmlog_consumer.console.queries.letters import MAX_ROWS
from llmlog_consumer.console.queries.orders import read_filter, read_since_ms, read_span, span_of
from llmlog_consumer.console.queries.period import SPANS
from llmlog_consumer.console.runbook import STAGES, advise
from llmlog_consumer.console.views import is_fragment, render
from llmlog_consumer.dead_letters.mending.changes import TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from llmlog_consumer.dead_letters.filters import Filter

_MAX_HOURS: Final = 720
"""Bars of the histogram: the newest month that has any."""
CHANGES: Final = ("set", "drop", "coerce")


def show(request: Request) -> Response:
    """Return the page; the causes come right after it, once the topic is read."""
    span = read_span(request.query_params)
    return render(request, "letters.html", span=span, spans=SPANS)


def show_causes(request: Request) -> Response:
    """Return the causes: how far the reading is, or its result."""
    console, person = request.app.state.console, request.state.person
    span = read_span(request.query_params)
    since_ms = read_since_ms(request.query_params, console.clock())
    job = console.jobs.start(
        f"causes {span}", person.name, lambda job: console.desk.count_causes(job, since_ms)
    ).look()
    result: Mapping[str, Any] | None = job.result
    picture = ""
    if result and result["hours"]:
        hours = [row for row in result["hours"] if row["hour"]][-_MAX_HOURS:]
        times = [int(datetime.fromisoformat(row["hour"]).timestamp() * 1000) for row in hours]
        counts = [row["count"] for row in hours]
        title = "Dead letters an hour"
        picture = json.dumps(draw_series([title], times, [counts], title=title, stacked=True))
    return render(
        request,
        "causes.html",
        job=job,
        result=result,
        picture=picture,
        span=span,
        may_see=person.may(Role.CONTENTS),
        may_replay=person.may(Role.REPLAY),
    )


def show_list(request: Request) -> Response:
    """Return the newest letters of one cause."""
    console, person = request.app.state.console, request.state.person
    wanted = _read_filter(request)
    if wanted is None:
        return _show_no_cause(request)
    job = console.jobs.start(
        f"list {read_span(request.query_params)} {wanted.fingerprint}",
        person.name,
        lambda job: console.desk.list_letters(job, wanted),
    ).look()
    return render(
        request,
        "letter_list.html",
        job=job,
        rows=job.result,
        most=MAX_ROWS,
        fingerprint=wanted.fingerprint,
        span=read_span(request.query_params),
        may_see=person.may(Role.CONTENTS),
    )


def show_letter(request: Request) -> Response:
    """Return one letter without its values."""
    coordinates = _coordinates(request)
    row = request.app.state.console.desk.read(coordinates, show_content=False)
    person = request.state.person
    es = row.get("es") or {}
    advice = advise(row["stage"] or "", es.get("type"), es.get("reason"), row["exception"])
    if not person.may(Role.CONTENTS):
        # A reason quotes the document; what is left of it after redaction may still name people.
        row = {**row, "exception": None, "key": None}
        if row.get("es"):
            row["es"] = {**row["es"], "reason": None, "caused_by": None}
        row.pop("decode_error", None)
        row.pop("headers", None)
    template = "letter.html" if is_fragment(request) else "letter_page.html"
    return render(
        request,
        template,
        row=row,
        coordinates=coordinates,
        advice=advice,
        part=STAGES.get(row["stage"] or "", ""),
        may_see=person.may(Role.CONTENTS),
        may_replay=person.may(Role.REPLAY),
        span=span_of(row["last_failed_at"], request.app.state.console.clock()),
        kinds=CHANGES,
        types=TYPES,
    )


def show_value(request: Request) -> Response:
    """Return what a letter holds. It is written down who has opened it, before it is shown."""
    console, coordinates = request.app.state.console, _coordinates(request)
    console.audit.write(request.state.person.name, "contents", coordinates)
    row = console.desk.read(coordinates, show_content=True)
    text = json.dumps(row, ensure_ascii=False, indent=2, default=str)
    return render(request, "letter_value.html", row=row, text=text[:2_000_000], size=len(text))


def _read_filter(request: Request) -> Filter | None:
    return read_filter(request.query_params, request.app.state.console.clock())


def _show_no_cause(request: Request) -> Response:
    return render(request, "trouble.html", 400, problem="the address names no cause", again=False)


def _coordinates(request: Request) -> str:
    params = request.path_params
    return f"{params['topic']}/{params['partition']}/{params['offset']}"
