"""A Schema Registry on a loopback port, whose answers a test sets."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from llmlog_schemas.codec import schema_text

OURS = (200, {"schema": schema_text(), "schemaType": "AVRO"})
UNKNOWN = (404, {"error_code": 40403, "message": "Schema not found"})
HTML = (404, "<html>not found</html>")


class FakeRegistry:
    """Answers `GET /schemas/ids/N`; use it as a context.

    Attributes:
        answers: status and body by id.
        default: the answer for every other id.
        asked: how often, by id.
    """

    def __init__(self, default: tuple[int, Any] = UNKNOWN) -> None:
        self.answers: dict[int, tuple[int, Any]] = {}
        self.default = default
        self.asked: Counter[int] = Counter()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                schema_id = int(self.path.split("?")[0].rsplit("/", 1)[1])
                registry.asked[schema_id] += 1
                status, body = registry.answers.get(schema_id, registry.default)
                text = body if isinstance(body, str) else json.dumps(body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
