"""Owns what a request passes before a page sees it: host, origin, login, form token, headers."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse, RedirectResponse, Response

from llmlog_consumer.console.access.headers import NOT_STORED, SECURITY_HEADERS
from llmlog_consumer.console.access.logins import name_source
from llmlog_consumer.console.access.origins import SAFE_METHODS
from llmlog_consumer.console.access.proxy import FORWARDED_FOR, SECRET, ProxyRefusedError
from llmlog_consumer.console.access.roles import ALL, Person

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from llmlog_consumer.console.access.logins import TokenFile
    from llmlog_consumer.console.access.origins import Origins
    from llmlog_consumer.console.access.proxy import ProxyLogin
    from llmlog_consumer.console.access.roles import Role
    from llmlog_consumer.console.access.sessions import Sessions

    Values = Callable[[str], list[str]]

LOGIN_PATH: Final = "/login"
STATIC_PATH: Final = "/static/"
CSRF_HEADER: Final = "x-csrf-token"
MAX_BODY_BYTES: Final = 16 * 1024
_CACHED: Final = "public, max-age=86400"


@dataclass(frozen=True)
class Gate:
    """The ways in.

    Attributes:
        origins: the addresses under which the console may be asked.
        sessions: that are open.
        cookie: its name.
        tokens: of a file; None where there is none.
        proxy: in front; None where none is believed.
    """

    origins: Origins
    sessions: Sessions
    cookie: str
    tokens: TokenFile | None = None
    proxy: ProxyLogin | None = None

    def identify(self, scope: Scope) -> Person | None:
        """Return who asks, with the roles of this moment; None where no login is there.

        Raises:
            ProxyRefusedError: a believed proxy sent what cannot be right.
        """
        headers = _headers(scope)
        if (
            self.proxy is not None
            and self._believes(scope, headers)
            and (person := self.proxy.read(headers))
        ):
            return person
        session = self.sessions.find(self.read_cookie(headers))
        if session is None:
            return None
        roles: frozenset[Role] | None = ALL
        if session.way == "token":
            roles = self.tokens.roles_of(session.proof) if self.tokens else None
        if roles is None:
            return None
        return Person(session.name, roles, session.csrf, session.way)

    def name_source(self, scope: Scope) -> str:
        """Return where a login comes from: the address that a believed proxy names, or its own."""
        headers, peer = _headers(scope), _peer(scope)
        forwarded = [value for name, value in headers if name == FORWARDED_FOR]
        # Proxies append: what a client has sent itself stands before.
        if forwarded and (not peer or self._believes(scope, headers)):
            return name_source(forwarded[-1].rpartition(",")[2].strip())
        return name_source(peer)

    def _believes(self, scope: Scope, headers: list[tuple[str, str]]) -> bool:
        secrets = [value for name, value in headers if name == SECRET]
        return self.proxy is not None and self.proxy.believes(_peer(scope), secrets)

    def read_cookie(self, headers: list[tuple[str, str]]) -> str:
        """Return the session's cookie; empty where the request has none."""
        for name, value in headers:
            if name == "cookie":
                try:
                    found = SimpleCookie(value).get(self.cookie)
                except CookieError:
                    continue
                if found is not None:
                    return found.value
        return ""


class GateMiddleware:
    """The gate as a layer around the pages. The person is in `request.state.person`."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":  # there is none to connect to, whatever the origin
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        is_static = scope["path"].startswith(STATIC_PATH)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = {
                    **SECURITY_HEADERS,
                    "cache-control": _CACHED if is_static else NOT_STORED,
                }
                names = {name.encode() for name in extra}
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in names]
                added = [(name.encode(), value.encode()) for name, value in extra.items()]
                message["headers"] = [*kept, *added]
            await send(message)

        refusal = self._refuse(scope)
        if refusal is None:
            await self._app(scope, receive, send_with_headers)
        else:
            await refusal(scope, receive, send_with_headers)

    def _refuse(self, scope: Scope) -> Response | None:
        """Return the answer to a request that may not pass; None for one that may."""
        headers, path = _headers(scope), scope["path"]

        def values(name: str) -> list[str]:
            return [value for key, value in headers if key == name]

        if refusal := self._refuse_sender(scope["method"], values):
            return refusal
        try:
            person = self._gate.identify(scope)
        except ProxyRefusedError as error:
            return PlainTextResponse(str(error), 400)
        scope.setdefault("state", {})["person"] = person
        if path == LOGIN_PATH or path.startswith(STATIC_PATH):
            return None
        if person is None:
            return ask_for_login(is_fragment=bool(values("hx-request")))
        if scope["method"] not in SAFE_METHODS and not _has_token(values(CSRF_HEADER), person):
            return PlainTextResponse("the form's token is missing or old: load the page", 403)
        return None

    def _refuse_sender(self, method: str, values: Values) -> Response | None:
        """Return the answer to a request that another site, or no browser of ours, has sent."""
        origins = self._gate.origins
        if why := origins.refuse_host(values("host")):
            return PlainTextResponse(why, 421)
        sent = [values(name) for name in ("origin", "sec-fetch-site", "sec-fetch-dest")]
        if why := origins.refuse_origin(method, *sent):
            return PlainTextResponse(why, 403)
        if method not in SAFE_METHODS and (why := _refuse_body(values)):
            return PlainTextResponse(why, 413)
        return None


def _has_token(tokens: list[str], person: Person) -> bool:
    return len(tokens) == 1 and hmac.compare_digest(tokens[0].encode(), person.csrf.encode())


def ask_for_login(*, is_fragment: bool) -> Response:
    """Return the answer to a request without a login: the browser goes to the login page."""
    if is_fragment:
        return Response(status_code=401, headers={"hx-redirect": LOGIN_PATH})
    return RedirectResponse(LOGIN_PATH, 303)


def _peer(scope: Scope) -> str:
    """Return the address of the connection; empty for that of a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _headers(scope: Scope) -> list[tuple[str, str]]:
    return [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in scope["headers"]
    ]


def _refuse_body(values: Values) -> str:
    lengths = values("content-length")
    if len(lengths) != 1 or not lengths[0].isdigit():
        return "a request that changes something says how long its body is"
    if int(lengths[0]) > MAX_BODY_BYTES:
        return f"a body may have {MAX_BODY_BYTES} bytes"
    return ""
