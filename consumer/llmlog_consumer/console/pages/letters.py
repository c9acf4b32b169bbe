"""Owns the page *Dead letters*: causes, one letter, what a replay would do, and the replay."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.console.access.roles import Role
from llmlog_consumer.console.charts import draw_bars
from llmlog_consumer.console.queries.letters import MAX_ROWS
from llmlog_consumer.console.queries.period import SPANS
from llmlog_consumer.console.views import is_fragment, render
from llmlog_consumer.dead_letters.filters import Filter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

DEFAULT_SPAN: Final = "7d"
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{12}")
_MINUTE_MS: Final = 60_000

ADVICE: Final[dict[str, str]] = {
    "decode": "The bytes are not an event: find the writer by key and headers, and take away its "
    "right to write to the topic. If the gateway is newer than the consumer, upgrade the "
    "consumer, then replay.",
    "transform": "The event decodes, but no document can be made of it: another program wrote it, "
    "or a clock is wrong. Mend that, then replay.",
    "expired": "The event is older than LLMLOG_MAX_EVENT_AGE: nothing to do; or raise the setting, "
    "run pipeline setup, and replay. If events of today expire, a clock is wrong.",
    "oversize": "One document is larger than Elasticsearch or a proxy takes: raise the limit, then "
    "replay.",
    "index": "Elasticsearch refused the document, mostly because the index of its day has another "
    "mapping: run pipeline setup, reindex or delete that day's index, then replay.",
}
"""The runbook's advice by stage, in short; docs/dead-letters.md has it cause by cause."""


def show(request: Request) -> Response:
    """Return the page; the causes come right after it, once the topic is read."""
    span = _span(request)
    return render(request, "letters.html", span=span, spans=SPANS)


def show_causes(request: Request) -> Response:
    """Return the causes: how far the reading is, or its result."""
    console, person = request.app.state.console, request.state.person
    span = _span(request)
    since_ms = _since_ms(request)
    job = console.jobs.start(
        f"causes {span}", person.name, lambda job: console.desk.count_causes(job, since_ms)
    ).look()
    result: Mapping[str, Any] | None = job.result
    picture = ""
    if result and result["hours"]:
        hours = result["hours"][-168:]
        names = [(row["hour"] or "-")[5:16].replace("T", " ") for row in hours]
        counts = [row["count"] for row in hours]
        picture = json.dumps(draw_bars(names, counts, title="Dead letters an hour (UTC)"))
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
        f"list {_span(request)} {wanted.fingerprint}",
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
        span=_span(request),
        may_see=person.may(Role.CONTENTS),
    )


def show_letter(request: Request) -> Response:
    """Return one letter without its values."""
    coordinates = _coordinates(request)
    row = request.app.state.console.desk.read(coordinates, show_content=False)
    person = request.state.person
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
        advice=ADVICE.get(row["stage"] or "", ""),
        may_see=person.may(Role.CONTENTS),
        may_replay=person.may(Role.REPLAY),
        span=DEFAULT_SPAN,
    )


def show_value(request: Request) -> Response:
    """Return what a letter holds. It is written down who has opened it, before it is shown."""
    console, coordinates = request.app.state.console, _coordinates(request)
    console.audit.write(request.state.person.name, "contents", coordinates)
    row = console.desk.read(coordinates, show_content=True)
    text = json.dumps(row, ensure_ascii=False, indent=2, default=str)
    return render(request, "letter_value.html", row=row, text=text[:2_000_000], size=len(text))


def dry_run(request: Request) -> Response:
    """Begin a dry run of one cause."""
    return _begin(request, "dry run")


def replay(request: Request) -> Response:
    """Begin the replay of one cause. It is written down who has begun it, before it begins."""
    return _begin(request, "replay")


def show_job(request: Request) -> Response:
    """Return how far a dry run or a replay is, or its result."""
    job = request.app.state.console.jobs.find(str(request.path_params["number"]))
    if job is None or not job.key.startswith(("dry run", "replay")):
        return render(
            request, "trouble.html", 404, problem="this work is not known any more", again=False
        )
    job = job.look()
    kind, span, fingerprint = job.key.rsplit(" ", 2)
    console = request.app.state.console
    return render(
        request,
        "replay_job.html",
        job=job,
        kind=kind,
        span=span,
        fingerprint=fingerprint,
        allow_replay=console.allow_replay,
        may_see=request.state.person.may(Role.CONTENTS),
    )


def stop_job(request: Request) -> Response:
    """Ask a dry run or a replay to end after what is in flight."""
    job = request.app.state.console.jobs.find(str(request.path_params["number"]))
    if job is not None and job.key.startswith(("dry run", "replay")):
        job.stop()
    return show_job(request)


def _begin(request: Request, kind: str) -> Response:
    console, person = request.app.state.console, request.state.person
    wanted = _read_filter(request)
    if wanted is None:
        return _show_no_cause(request)
    work = console.desk.dry_run
    if kind == "replay":
        console.audit.write(person.name, "replay", wanted.describe())
        work = console.desk.replay
    job = console.jobs.start(
        f"{kind} {_span(request)} {wanted.fingerprint}",
        person.name,
        lambda job: work(job, wanted),
        again=True,
    )
    request.scope["path_params"] = {"number": job.number}
    return show_job(request)


def _span(request: Request) -> str:
    span = request.query_params.get("period", DEFAULT_SPAN)
    return span if span in SPANS else DEFAULT_SPAN


def _since_ms(request: Request) -> int:
    now_ms = int(request.app.state.console.clock() * 1000)
    since_ms = now_ms - SPANS[_span(request)][1] * 1000
    return since_ms // _MINUTE_MS * _MINUTE_MS


def _read_filter(request: Request) -> Filter | None:
    fingerprint = request.query_params.get("fingerprint", "")
    if not _FINGERPRINT.fullmatch(fingerprint):
        return None
    return Filter(since_ms=_since_ms(request), fingerprint=fingerprint)


def _show_no_cause(request: Request) -> Response:
    return render(request, "trouble.html", 400, problem="the address names no cause", again=False)


def _coordinates(request: Request) -> str:
    params = request.path_params
    return f"{params['topic']}/{params['partition']}/{params['offset']}"
