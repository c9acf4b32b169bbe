"""An HTTP proxy of a test's own, as companies have them: whole addresses, and tunnels for TLS."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class ForwardProxy:
    """What it was asked for: `GET http://…`, `CONNECT host:port`, with the login of each."""

    url: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def forward_proxy() -> Iterator[ForwardProxy]:
    """Yield a proxy that passes everything on."""
    proxy = ForwardProxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _note(self) -> None:
            login = self.headers.get("proxy-authorization")
            proxy.asked.append((f"{self.command} {self.path}", login))

        def do(self) -> None:
            self._note()
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            connection = HTTPConnection(url.hostname or "", url.port)
            target = f"{url.path}?{url.query}" if url.query else url.path
            connection.request(self.command, target, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        do_GET = do_POST = do_PUT = do  # noqa: N815 - the library calls them so

        def do_CONNECT(self) -> None:
            self._note()
            host, _, port = self.path.rpartition(":")
            self.send_response(200)
            self.end_headers()
            with socket.create_connection((host, int(port))) as server:
                pair = {self.connection: server, server: self.connection}
                while True:
                    for one in select.select([*pair], [], [])[0]:
                        if not (data := one.recv(65_536)):
                            self.close_connection = True
                            return
                        pair[one].sendall(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield proxy
    server.shutdown()
    server.server_close()
