"""Owns the HTTP server of `pipeline consume`: `/healthz`, `/readyz` and `/metrics` on one port.

It is up from the first second, and while servers are waited for. A thread of its own serves it.
"""

from __future__ import annotations

import threading
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from llmlog_common.credentials import hide
from llmlog_common.errors import ConfigurationError
from llmlog_consumer.service.metrics import ConsumerCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmlog_consumer.service.health import Subject

_STATUS: Final = {200: "200 OK", 404: "404 Not Found", 503: "503 Service Unavailable"}
_PATHS: Final = "/healthz, /readyz, /metrics"


class Page:
    """The WSGI application behind the port.

    Args:
        topic: the source.
        subject: what it tells about.
    """

    def __init__(self, topic: str, subject: Subject) -> None:
        registry = CollectorRegistry()
        registry.register(
            ConsumerCollector(
                topic,
                subject.state,
                subject.lag,
                certificates=subject.certificates,
                is_ready=lambda: not subject.find_unready(),
            )
        )
        self._subject = subject
        self._metrics: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return self._metrics(environ, start)
        if path == "/healthz":
            status, lines = self._judge(self._subject.find_dead(), "alive")
        elif path == "/readyz":
            status, lines = self._judge(self._subject.find_unready(), "ready")
        else:
            status, lines = 404, [f"there is no {path}: ask for {_PATHS}"]
        body = "".join(f"{hide(_join(line))}\n" for line in lines).encode()
        start(_STATUS[status], [("Content-Type", "text/plain; charset=utf-8")])
        return [body]

    @staticmethod
    def _judge(reasons: list[str], word: str) -> tuple[int, list[str]]:
        return (503, reasons) if reasons else (200, [word])


def _join(line: str) -> str:
    return " ".join(line.split())


def serve(port: int, page: Page) -> None:
    """Serve the page on this port from now on.

    Args:
        port: on all addresses of this machine.
        page: answers.

    Raises:
        ConfigurationError: the port is not available.
    """
    try:
        server = make_server("", port, page, _Server, _QuietHandler)
    except OSError as error:
        raise ConfigurationError(f"LLMLOG_METRICS_PORT: port {port}: {error.strerror}") from None
    threading.Thread(target=server.serve_forever, name="llmlog-page", daemon=True).start()


class _Server(ThreadingMixIn, WSGIServer):
    """A client that is slow, or silent, does not keep the others waiting."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without the library's look-up of this host's name, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "", int(self.server_address[1])
        self.setup_environ()


class _QuietHandler(WSGIRequestHandler):
    timeout = 10.0

    def log_message(self, *_: object) -> None:
        """Write nothing: each scrape would be a line."""
