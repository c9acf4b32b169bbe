"""A proxy on 127.0.0.1 before Elasticsearch that answers in its place as a test says.

Its server runs in threads of its own; a test may change `rule` and `after` at any time.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HTML = b"<html>\r\n<head><title>%d Refused</title></head>\r\n<body><h1>%d</h1></body></html>\r\n"

Reply = tuple[int, bytes, Mapping[str, str]]
"""Status, body and headers."""


def page(status: int, **headers: str) -> Reply:
    """Return a page as proxies and firewalls send it."""
    return status, HTML % (status, status), {"Content-Type": "text/html", **headers}


class HttpProxy:
    """Passes requests on, except where a rule answers them.

    Args:
        target: URL of Elasticsearch.

    Attributes:
        rule: given method, path and body; the reply, or None to pass the request on. An empty
            reply, `()`, closes the connection.
        after: given path, request body, status and body of the answer; what to reply with instead.
        bulks: the size of each bulk request, in their order.
    """

    def __init__(self, target: str) -> None:
        self._host = urlsplit(target).netloc
        self.rule: Callable[[str, str, bytes], Reply | tuple[()] | None] = lambda *_: None
        self.after: Callable[[str, bytes, int, bytes], Reply | None] = lambda *_: None
        self.bulks: list[int] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

            def handle_one(self) -> None:
                proxy.handle(self)

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = handle_one  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """End for good."""
        self._server.shutdown()
        self._server.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        if request.path.startswith("/_bulk"):
            self.bulks.append(len(body))
        reply = self.rule(request.command, request.path, body)
        if reply == ():
            request.close_connection = True
            return
        status, content, headers = reply or self._pass_on(request, body)
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes) -> Reply:
        connection = http.client.HTTPConnection(self._host, timeout=120)
        try:
            connection.request(
                request.command, request.path, body,
                {name: request.headers[name] for name in ("content-type", "accept")
                 if name in request.headers},
            )  # fmt: skip
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        headers = {name: answer.headers[name] for name in ("content-type", "x-elastic-product")
                   if name in answer.headers}  # fmt: skip
        changed = self.after(request.path, body, answer.status, content)
        return changed or (answer.status, content, headers)


@contextmanager
def http_proxy(target: str) -> Iterator[HttpProxy]:
    """Run a proxy for the length of the block."""
    proxy = HttpProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()


def elasticsearch_reply(body: Any) -> Reply:
    """Return a good answer as Elasticsearch sends it."""
    return (
        200,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "X-elastic-product": "Elasticsearch"},
    )
