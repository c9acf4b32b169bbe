"""Owns the page *Calls*: the search, the endless table, and one call with all that it has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from llmlog_consumer.console.access.roles import Role
from llmlog_consumer.console.charts import draw_waterfall
from llmlog_consumer.console.conversation import read_conversation
from llmlog_consumer.console.fields import describe_call, read_field
from llmlog_consumer.console.formats import write_label
from llmlog_consumer.console.queries import calls as queries
from llmlog_consumer.console.queries.period import SPANS, read_period
from llmlog_consumer.console.views import is_fragment, render
from llmlog_consumer.times import iso
from llmlog_schemas.event import EVENT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from llmlog_consumer.console.access.roles import Person
    from llmlog_consumer.console.queries.calls import CallFilter
    from llmlog_consumer.console.queries.period import Period

MAX_ROWS: Final = 1000
"""Rows that one page holds; then a link goes on, so that a browser never holds millions."""
_DEAD: Final = "DEAD"
MAX_RAW_CHARACTERS: Final = 2_000_000
"""Characters of raw JSON that are shown; all of it can be downloaded."""


def show(request: Request) -> Response:
    """Return the page; its rows come right after it."""
    period, wanted = _read_address(request)
    shown = {name: request.query_params.get(name, "") for name in queries.FILTERS}
    return render(
        request,
        "calls.html",
        filters=shown,
        spans=SPANS,
        params=request.query_params,
        period=period,
        problems=[*wanted.problems, *filter(None, [period.problem])],
        may_see=request.state.person.may(Role.CONTENTS),
    )


def show_rows(request: Request) -> Response:
    """Return a page of rows, and behind them what loads the next."""
    console, person = request.app.state.console, request.state.person
    period, wanted = _read_address(request)
    if wanted.needs_contents:
        if not person.may(Role.CONTENTS):
            return render(request, "refused_rows.html", 403)
        sought = {name: wanted.values[name] for name in sorted(wanted.values)}
        console.audit.write(person.name, "search", json.dumps(sought))
    after = queries.read_cursor(request.query_params.get("after", ""))
    found = console.searcher.search(queries.list_calls(wanted, period, after))
    rows = [_row(hit, person) for hit in found.hits]
    shown = _read_number(request.query_params.get("shown", "")) + len(rows)
    is_full = len(rows) == queries.PAGE_CALLS
    # A page that is loaded further stays about the same moments, whatever the time is meanwhile.
    following = {name: value for name, value in request.query_params.items() if name != "zone"}
    following |= {
        "period": "custom",
        "since": _iso(period.since_ms),
        "until": _iso(period.until_ms),
    }
    if is_full:
        following["after"] = queries.write_cursor(found.hits[-1]["sort"])
    return render(
        request,
        "call_rows.html",
        rows=rows,
        total=found.body["hits"].get("total") if after is None else None,
        gap=found.gap,
        is_first=after is None,
        next_rows=urlencode({**following, "shown": str(shown)}) if is_full else "",
        next_page=urlencode({k: v for k, v in following.items() if k != "shown"}),
        is_last_here=shown >= MAX_ROWS,
    )


def show_call(request: Request) -> Response:
    """Return what may be seen of a call without its contents."""
    person = request.state.person
    hit = _find(request, with_contents=False)
    if hit is None:
        return _show_missing(request)
    source = hit["_source"]
    groups = describe_call(source, shows_contents=person.may(Role.CONTENTS))
    template = "call.html" if is_fragment(request) else "call_page.html"
    return render(
        request,
        template,
        event_id=hit["_id"],
        index=hit["_index"],
        source=source,
        groups=groups,
        waterfall=json.dumps(draw_waterfall(_timing(source), title="Timing")),
        may_see=person.may(Role.CONTENTS),
        has_trace=bool(source.get("trace_id")),
    )


def show_legs(request: Request) -> Response:
    """Return the calls of the same trace, and when each ran."""
    console = request.app.state.console
    hit = _find(request, with_contents=False)
    if hit is None:
        return _show_missing(request)
    source = hit["_source"]
    trace_id = source.get("trace_id")
    if not trace_id:
        return render(request, "legs.html", legs=[], waterfall="", total=0, event_id=hit["_id"])
    found = console.searcher.search(queries.list_legs(str(trace_id), int(source["@timestamp"])))
    begin = min((_begin(one["_source"]) for one in found.hits), default=0)
    legs = [_leg(one["_source"], begin) for one in found.hits]
    return render(
        request,
        "legs.html",
        legs=[_row(one, request.state.person) for one in found.hits],
        waterfall=json.dumps(draw_waterfall(legs, title="The calls of this trace")),
        total=found.body["hits"]["total"]["value"],
        event_id=hit["_id"],
    )


def show_way(request: Request) -> Response:
    """Return where the call's event is in Kafka: a job that reads the topics."""
    console, person = request.app.state.console, request.state.person
    event_id = _event_id(request)
    if event_id is None:
        return _show_missing(request)
    job = console.jobs.start(
        f"way {event_id}", person.name, lambda job: console.trace(event_id, job.report)
    ).look()
    may_see = person.may(Role.CONTENTS)
    verdict = str(job.result["verdict"]) if job.result else ""
    # What follows a dead letter's first word is its reason.
    if verdict.startswith(_DEAD) and not may_see:
        verdict = _DEAD
    return render(request, "way.html", job=job, event_id=event_id, verdict=verdict, may_see=may_see)


def show_contents(request: Request) -> Response:
    """Return the conversation. It is written down who has opened it, before it is shown."""
    console, person = request.app.state.console, request.state.person
    event_id = _event_id(request)
    if event_id is None:
        return _show_missing(request)
    console.audit.write(person.name, "contents", event_id)
    hit = _find(request, with_contents=True)
    if hit is None:
        return _show_missing(request)
    source = hit["_source"]
    turns, left_out = read_conversation(source)
    return render(
        request,
        "conversation.html",
        event_id=event_id,
        turns=turns,
        left_out=left_out,
        half=len(turns) // 2,
        error=source.get("error_str") or "",
    )


def show_raw(request: Request) -> Response:
    """Return the document as JSON: a part of a page, or a file."""
    console, person = request.app.state.console, request.state.person
    event_id = _event_id(request)
    if event_id is None:
        return _show_missing(request)
    console.audit.write(person.name, "contents", event_id, form="raw")
    hit = _find(request, with_contents=True)
    if hit is None:
        return _show_missing(request)
    text = json.dumps(hit, ensure_ascii=False, indent=2)
    if not is_fragment(request):
        name = f'attachment; filename="{event_id}.json"'
        body = text.encode("utf-8", "replace")
        return Response(body, 200, {"content-disposition": name}, "application/json")
    return render(
        request,
        "raw.html",
        text=text[:MAX_RAW_CHARACTERS],
        left_out=max(0, len(text) - MAX_RAW_CHARACTERS),
        event_id=event_id,
    )


def _read_address(request: Request) -> tuple[Period, CallFilter]:
    now_ms = int(request.app.state.console.clock() * 1000)
    params = request.query_params
    return read_period(params, now_ms), queries.read_filter(params)


def _event_id(request: Request) -> str | None:
    event_id = str(request.path_params["event_id"])
    return event_id if EVENT_ID.fullmatch(event_id) else None


def _find(request: Request, *, with_contents: bool) -> dict[str, Any] | None:
    event_id = _event_id(request)
    if event_id is None:
        return None
    searcher = request.app.state.console.searcher
    hits = searcher.search(queries.find_call(event_id, with_contents=with_contents)).hits
    return hits[0] if hits else None


def _show_missing(request: Request) -> Response:
    return render(request, "no_call.html", 404)


def _row(hit: Mapping[str, Any], person: Person) -> dict[str, Any]:
    """Return what the table shows of a call."""
    source = hit["_source"]
    shows = person.may(Role.CONTENTS)
    team = read_field(source, "team_alias")
    return {
        "id": hit["_id"],
        "at_ms": source.get("startTime") or hit.get("sort", [0])[0],
        "status": source.get("status"),
        "model": write_label(source.get("model") or "-", shows_contents=shows),
        "provider": source.get("custom_llm_provider") or "",
        "team": "" if team is None else write_label(team, shows_contents=shows),
        "cost": source.get("response_cost"),
        "tokens": source.get("total_tokens"),
        "seconds": read_field(source, "duration"),
        "error": read_field(source, "error_class") or "",
    }


def _begin(source: Mapping[str, Any]) -> int:
    return int(source.get("startTime") or source.get("@timestamp") or 0)


def _leg(source: Mapping[str, Any], first_ms: int) -> tuple[str, float, float, float]:
    """Return name, begin, time to the first token and the rest of a call, in seconds."""
    whole = read_field(source, "duration") or 0.0
    first = read_field(source, "time_to_first_token")
    first = whole if first is None else min(first, whole)
    begin = max(0.0, (_begin(source) - first_ms) / 1000)
    name = f"{source.get('model') or '-'} ({source.get('status') or '-'})"
    return name[:60], round(begin, 3), round(first, 3), round(whole - first, 3)


def _timing(source: Mapping[str, Any]) -> list[tuple[str, float, float, float]]:
    """Return the parts of a call, one after the other: it waited, then it ran."""
    queued = read_field(source, "queue_time")
    if not isinstance(queued, int | float) or queued <= 0:
        return [_leg(source, _begin(source))]
    name, _, first, rest = _leg(source, _begin(source))
    waited = round(float(queued), 3)
    return [("in the queue", 0.0, waited, 0.0), (name, waited, first, rest)]


def _iso(ms: int) -> str:
    return iso(ms, "milliseconds") or ""


def _read_number(text: str) -> int:
    return int(text) if text.isdigit() and len(text) < 9 else 0  # noqa: PLR2004
