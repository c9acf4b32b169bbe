"""Owns the page *login*: the one-time link, tokens, and the end of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response

from llmlog_consumer.console.access.logins import FailureBound
from llmlog_consumer.console.access.sessions import LIFETIME_SECONDS
from llmlog_consumer.console.views import read_form, render

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["FailureBound", "enter", "leave", "show"]


def show(request: Request) -> Response:
    """Return the page; with the one-time link's secret begin a session."""
    console, person = request.app.state.console, request.state.person
    if (secret := request.query_params.get("link")) and console.links is not None:
        if console.links.use(secret):
            return _begin(request, "local", "link")
        # Browsers may ask ahead for an address that is being typed: then this is the second time.
        if person is None:
            return _show(request, 403, "This link was used already. A new one is printed there.")
    if person is not None:
        return RedirectResponse("/", 303)
    return _show(request)


def enter(request: Request) -> Response:
    """Begin a session with a token."""
    console = request.app.state.console
    if console.gate.tokens is None:
        return _show(request, 403, "There are no tokens here.")
    source = console.gate.name_source(request.scope)
    if console.failures.is_reached(source):
        return _show(request, 429, "Too many wrong tokens: wait a minute.")
    found = console.gate.tokens.check(read_form(request).get("token", [""])[0].strip())
    if found is None:
        console.failures.count(source)
        return _show(request, 403, "This token is not known.")
    name, proof = found
    return _begin(request, name, "token", proof)


def leave(request: Request) -> Response:
    """End the session."""
    gate = request.app.state.console.gate
    gate.sessions.revoke(request.cookies.get(gate.cookie, ""))
    response = Response(status_code=204, headers={"hx-redirect": "/login"})
    response.delete_cookie(gate.cookie)
    return response


def _begin(request: Request, name: str, way: str, proof: str = "") -> Response:
    gate = request.app.state.console.gate
    response = RedirectResponse("/", 303)
    response.set_cookie(
        gate.cookie,
        gate.sessions.open(name, way, proof),
        max_age=int(LIFETIME_SECONDS),
        httponly=True,
        samesite="lax",
        secure=gate.origins.is_secure,
    )
    return response


def _show(request: Request, status: int = 200, problem: str = "") -> Response:
    gate = request.app.state.console.gate
    return render(
        request,
        "login.html",
        status,
        problem=problem,
        has_tokens=gate.tokens is not None,
        has_link=request.app.state.console.links is not None,
        has_proxy=gate.proxy is not None,
    )
