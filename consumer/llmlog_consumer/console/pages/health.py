"""Owns the page *Health*: what `pipeline doctor` finds, and what mends it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.responses import Response

from llmlog_consumer.checks.doctor.findings import as_json
from llmlog_consumer.console import runbook
from llmlog_consumer.console.views import render
from llmlog_consumer.provision.rights import User

if TYPE_CHECKING:
    from starlette.requests import Request

    from llmlog_consumer.console.jobs import Job

WAIT_SECONDS: Final = 20.0
"""Time for which a program that asks for JSON is kept waiting."""
_LOOK_SECONDS: Final = 0.05


def show(request: Request) -> Response:
    """Return the page; the findings come right after it."""
    return render(request, "health.html", user=_user(request), users=list(User))


def show_findings(request: Request) -> Response:
    """Return the findings: how far the checks are, or their result."""
    job, user = _start(request), _user(request)
    look = job.look()
    rows = [
        {**row, "runbook": "" if row["verdict"] == "green" else runbook.of_check(row["check"])}
        for row in (look.result["checks"] if look.result else ())
    ]
    counts = {
        verdict: sum(row["verdict"] == verdict for row in rows)
        for verdict in ("red", "yellow", "green", "skipped")
    }
    return render(request, "findings.html", job=look, user=user, rows=rows, counts=counts)


def download(request: Request) -> Response:
    """Return what `pipeline doctor --json` prints; 503 while the checks go on."""
    job = _start(request)
    deadline = time.monotonic() + WAIT_SECONDS
    while not job.is_finished and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    look = job.look()
    body = look.result or {"error": look.error or f"{look.step}: ask again"}
    status, headers = (200, {}) if look.result else (503, {"retry-after": "5"})
    return Response(orjson.dumps(body), status, headers, "application/json")


def _start(request: Request) -> Job:
    console, user = request.app.state.console, _user(request)

    def work(job: Job) -> dict[str, Any]:
        findings = []
        for finding in console.examine(user):
            findings.append(finding)
            job.report(f"looked at {finding.check.name}", len(findings), 0)
        return as_json(findings)

    # Who has mended something looks again; the page that waits for that does not begin anew.
    is_new = "again" in request.query_params
    who = request.state.person.name
    job: Job = console.jobs.start(f"health {user}", who, work, again=is_new)
    return job


def _user(request: Request) -> User:
    wanted = request.query_params.get("as", "")
    return User(wanted) if wanted in list(User) else User.OPERATOR
