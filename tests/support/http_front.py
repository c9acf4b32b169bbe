"""HTTP servers of a test's own: one in front of Elasticsearch, one that has a schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx

from llmlog_schemas.codec import schema_text

Refuse = Callable[[str, str], tuple[int, dict[str, Any]] | None]
"""Given method and path, returns status and body of a refusal; None lets the request through."""


@contextmanager
def in_front_of(target: str, refuse: Refuse) -> Iterator[str]:
    """Yield the URL of a server that passes on what is not refused."""
    client = httpx.Client(base_url=target, timeout=120)

    class Front(_Handler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            refusal = refuse(self.command, self.path)
            if refusal is not None:
                self.reply(refusal[0], json.dumps(refusal[1]).encode(), "application/json")
                return
            kept = {
                n: v for n, v in self.headers.items() if n.lower() in {"content-type", "accept"}
            }
            got = client.request(self.command, self.path, content=body, headers=kept)
            self.reply(got.status_code, got.content, got.headers.get("content-type", ""))

    with client, _served(Front) as url:
        yield url


@contextmanager
def schema_registry(*unknown: int) -> Iterator[str]:
    """Yield the URL of a Schema Registry that has the current schema under every id but these."""
    missing = {f"/schemas/ids/{schema_id}" for schema_id in unknown}

    class Registry(_Handler):
        def answer(self) -> None:
            if self.path in missing:
                answer = {"error_code": 40403, "message": "Schema not found"}
                self.reply(404, json.dumps(answer).encode(), "application/json")
            else:
                body = json.dumps({"schema": schema_text()}).encode()
                self.reply(200, body, "application/json")

    with _served(Registry) as url:
        yield url


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        raise NotImplementedError

    def reply(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("x-elastic-product", "Elasticsearch")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_GET  # noqa: N815 - names of the library


@contextmanager
def _served(handler: type[_Handler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
