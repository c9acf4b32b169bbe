"""Owns what a person does with dead letters: a dry run, a replay, and the changes on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.console.access.roles import Role
from llmlog_consumer.console.queries.orders import Order, read_order
from llmlog_consumer.console.views import read_form, render

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from llmlog_consumer.console.jobs import Job

DRY_RUN, REPLAY = "dry run", "replay"


def dry_run(request: Request) -> Response:
    """Begin a dry run of one cause or one letter."""
    return _begin(request, DRY_RUN)


def replay(request: Request) -> Response:
    """Begin the replay. It is written down who has begun it, before it begins."""
    return _begin(request, REPLAY)


def show_job(request: Request) -> Response:
    """Return how far a dry run or a replay is, or its result."""
    job = _find(request)
    if job is None:
        return _refuse(request, 404, "this work is not known any more")
    return _show(request, job)


def stop_job(request: Request) -> Response:
    """Ask a dry run or a replay to end after what is in flight."""
    if (job := _find(request)) is not None:
        job.stop()
    return show_job(request)


def _begin(request: Request, kind: str) -> Response:
    console, person = request.app.state.console, request.state.person
    try:
        order = read_order(kind, request.query_params, read_form(request), console.clock())
    except ConfigurationError as error:
        return _refuse(request, 400, str(error))
    if order is None:
        return _refuse(request, 400, "the address names no cause")
    which = order.wanted.describe()
    if kind == REPLAY:
        details = {"changes": order.words} if order.changes else {}
        console.audit.write(person.name, "mend" if order.changes else "replay", which, **details)

        def work(job: Job) -> object:
            return console.desk.replay(job, order.wanted, order.changes, by=person.name)
    else:
        if order.changes and person.may(Role.CONTENTS):  # a value is shown, before and after
            console.audit.write(person.name, "contents", which)

        def work(job: Job) -> object:
            return console.desk.dry_run(job, order.wanted, order.changes)

    # Two people may order the same: each has a job with the own name on it.
    key = f"{person.name} {order.key}"
    return _show(request, console.jobs.start(key, person.name, work, again=True, about=order))


def _find(request: Request) -> Job | None:
    job: Job | None = request.app.state.console.jobs.find(str(request.path_params["number"]))
    return job if job is not None and isinstance(job.about, Order) else None


def _show(request: Request, job: Job) -> Response:
    console, person = request.app.state.console, request.state.person
    may_see = person.may(Role.CONTENTS)
    return render(
        request,
        "replay_job.html",
        job=job.look(),
        order=job.about,
        allow_replay=console.allow_replay,
        may_see=may_see,
        shows_values=may_see and job.who == person.name,
    )


def _refuse(request: Request, status: int, why: str) -> Response:
    return render(request, "trouble.html", status, problem=why, again=False)
