"""Owns the web application: what its pages share, and the table of addresses and their roles."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from llmlog_common.credentials import hide
from llmlog_common.errors import PipelineError, Unreachable
from llmlog_consumer.console.access.roles import Role
from llmlog_consumer.console.gate import GateMiddleware
from llmlog_consumer.console.jobs import Jobs
from llmlog_consumer.console.pages import calls, flow, health, letters, login, replays, usage
from llmlog_consumer.console.servers import NoIndexError
from llmlog_consumer.console.views import FOLDER, is_fragment, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request

    from llmlog_common.settings import Settings
    from llmlog_consumer.checks.doctor.findings import Finding
    from llmlog_consumer.console.access.logins import OneTimeLinks
    from llmlog_consumer.console.gate import Gate
    from llmlog_consumer.console.history import History
    from llmlog_consumer.console.queries.letters import LetterDesk
    from llmlog_consumer.console.servers import Searcher
    from llmlog_consumer.kafka.audit import AuditLog
    from llmlog_consumer.provision.rights import User


@dataclass
class Console:
    """What the pages share. Threads of requests read it; its parts may be called by any thread.

    Attributes:
        settings: of the deployment.
        gate: the ways in.
        searcher: asks Elasticsearch.
        history: of the flow.
        desk: reads and replays dead letters.
        audit: says who opened contents, and who replayed.
        trace: looks a call up in Kafka: takes an event id, and what reports progress.
        examine: yields the findings of `pipeline doctor`: takes whose rights are looked at.
        links: the one-time link; None where none is given out.
        allow_replay: dead letters may be replayed.
        runbook: address of the documentation's folder; empty where people have none.
        jobs: what takes longer.
        failures: wrong logins of late.
        clock: epoch seconds.
    """

    settings: Settings
    gate: Gate
    searcher: Searcher
    history: History
    desk: LetterDesk
    audit: AuditLog
    trace: Callable[..., Any]
    examine: Callable[[User], Iterable[Finding]]
    links: OneTimeLinks | None = None
    allow_replay: bool = False
    runbook: str = ""
    jobs: Jobs = field(default_factory=Jobs)
    failures: login.FailureBound = field(default_factory=login.FailureBound)
    clock: Callable[[], float] = time.time


class Page(NamedTuple):
    """One address.

    Attributes:
        path: of the address.
        handler: takes the request, returns the response.
        role: that a person needs; None where none is needed.
        method: of HTTP.
        needs_replay: only where the console was started with `--allow-replay`.
    """

    path: str
    handler: Callable[[Request], Any]
    role: Role | None
    method: str = "GET"
    needs_replay: bool = False


def _go_to_flow(_request: Request) -> Response:
    return RedirectResponse("/flow", 303)


PAGES: Final = (
    Page("/", _go_to_flow, None),
    Page("/login", login.show, None),
    Page("/login", login.enter, None, "POST"),
    Page("/logout", login.leave, None, "POST"),
    Page("/flow", flow.show, Role.NUMBERS),
    Page("/flow/now", flow.show_now, Role.NUMBERS),
    Page("/usage", usage.show, Role.NUMBERS),
    Page("/usage/{panel}", usage.show_panel, Role.NUMBERS),
    Page("/usage/{panel}/csv", usage.download, Role.NUMBERS),
    Page("/calls", calls.show, Role.NUMBERS),
    Page("/calls/rows", calls.show_rows, Role.NUMBERS),
    Page("/calls/{event_id}", calls.show_call, Role.NUMBERS),
    Page("/calls/{event_id}/legs", calls.show_legs, Role.NUMBERS),
    Page("/calls/{event_id}/way", calls.show_way, Role.NUMBERS),
    Page("/calls/{event_id}/contents", calls.show_contents, Role.CONTENTS),
    Page("/calls/{event_id}/raw", calls.show_raw, Role.CONTENTS),
    Page("/letters", letters.show, Role.NUMBERS),
    Page("/letters/causes", letters.show_causes, Role.NUMBERS),
    Page("/letters/list", letters.show_list, Role.NUMBERS),
    Page("/letters/one/{topic}/{partition}/{offset}", letters.show_letter, Role.NUMBERS),
    Page("/letters/one/{topic}/{partition}/{offset}/contents", letters.show_value, Role.CONTENTS),
    Page("/letters/dry-run", replays.dry_run, Role.REPLAY, "POST"),
    Page("/letters/replay", replays.replay, Role.REPLAY, "POST", needs_replay=True),
    Page("/letters/jobs/{number}", replays.show_job, Role.REPLAY),
    Page("/letters/jobs/{number}/stop", replays.stop_job, Role.REPLAY, "POST"),
    Page("/health", health.show, Role.NUMBERS),
    Page("/health/findings", health.show_findings, Role.NUMBERS),
    Page("/health/json", health.download, Role.NUMBERS),
)
"""Every address but those of our own files. The role is checked at every request."""


def build_app(console: Console) -> Starlette:
    """Return the application."""
    routes: list[Route | Mount] = [
        Route(page.path, _guard(page), methods=[page.method]) for page in PAGES
    ]
    # Our own files alone: with what is secret in a page, its compressed length would tell of it.
    files = GZipMiddleware(StaticFiles(directory=FOLDER / "static"), minimum_size=1000)
    routes.append(Mount("/static", files))
    app = Starlette(
        routes=routes,
        middleware=[Middleware(GateMiddleware, gate=console.gate)],
        exception_handlers={404: _show_missing, 405: _show_missing},
    )
    app.state.console = console
    return app


def _guard(page: Page) -> Callable[[Request], Response]:
    """Return the handler behind the check of its role, with the errors of servers as pages."""

    def answer(request: Request) -> Response:
        person, console = request.state.person, request.app.state.console
        if page.role is not None and not (person and person.may(page.role)):
            return render(request, "refused.html", 403, role=page.role, why="")
        if page.needs_replay and not console.allow_replay:
            why = "this console only reads: start it with --allow-replay"
            return render(request, "refused.html", 403, role=page.role, why=why)
        try:
            response: Response = page.handler(request)
        except NoIndexError:
            return render(request, "no_index.html", 200)
        except (PipelineError, Unreachable) as error:
            # What only reads numbers is asked for again, until the server is back.
            again = page.method == "GET" and page.role is Role.NUMBERS and is_fragment(request)
            return render(request, "trouble.html", 503, problem=hide(str(error)), again=again)
        except Exception as error:  # noqa: BLE001 - one page is at fault, and says so
            # Its text may quote what was read: it is in no page and in no log.
            kind = type(error).__name__
            structlog.get_logger().error("page failed", page=page.path, error=kind)
            problem = f"this page failed ({kind}): please report it"
            return render(request, "trouble.html", 500, problem=problem, again=False)
        return response

    return answer


def _show_missing(request: Request, _error: Exception) -> Response:
    if getattr(request.state, "person", None) is None:
        return Response(status_code=404)
    why = "there is no such page"
    if is_fragment(request):
        return render(request, "trouble.html", 404, problem=why, again=False)
    return render(request, "missing.html", 404)
