"""HTTP servers of this process that answer as nodes of Elasticsearch do, or as something else."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

OURS = {"x-elastic-product": "Elasticsearch", "content-type": "application/json"}
HTML = {"content-type": "text/html"}


@dataclass(frozen=True)
class Reply:
    """What a node answers."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=lambda: dict(OURS))


def cluster(uuid: str) -> Reply:
    """The answer to `GET /` of a node of this cluster."""
    return Reply(body=orjson.dumps({"cluster_uuid": uuid}))


def refusal(status: int, kind: str = "security_exception") -> Reply:
    """Elasticsearch's own answer to what it refuses."""
    return Reply(status, orjson.dumps({"error": {"type": kind, "reason": "no"}, "status": status}))


def foreign(status: int, text: str = "<html>no</html>") -> Reply:
    """The answer of something in Elasticsearch's place."""
    return Reply(status, text.encode(), dict(HTML))


class HttpNodeStub:
    """A node on 127.0.0.1 that answers as its `reply` says.

    Args:
        reply: what to answer to `GET /` and to everything else; or a function of method, path,
            headers and body.
        tls: serves HTTPS.

    Attributes:
        requests: method, path and header `Authorization` of each, in their order.
    """

    def __init__(
        self, reply: Reply | Callable[..., Reply] | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.reply: Any = reply or Reply()
        self.root: Reply = cluster("one")
        self.requests: list[tuple[str, str, str | None]] = []
        self.hanging = threading.Event()
        self._go_on = threading.Event()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: Any) -> None:
                pass

            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                stub.requests.append((self.command, self.path, self.headers.get("authorization")))
                if stub.hanging.is_set():
                    stub._go_on.wait()
                if (self.command, self.path) == ("GET", "/"):
                    reply = stub.root
                elif isinstance(stub.reply, Reply):
                    reply = stub.reply
                else:
                    reply = stub.reply(self.command, self.path, self.headers, body)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_POST = do_PUT = do  # noqa: N815 - the library calls them so

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    @property
    def asked(self) -> int:
        """How many requests came that were no check."""
        return sum((method, path) != ("GET", "/") for method, path, _ in list(self.requests))

    def hang(self) -> None:
        """Take requests and answer none, until `close`."""
        self.hanging.set()

    def close(self) -> None:
        """End it; connections are refused from now on."""
        self._go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def unused_url() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
