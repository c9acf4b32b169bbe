"""A provider of models on this machine: it answers, or refuses, as the model's name says."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
_ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "from the provider"},
                 "finish_reason": "stop"}],
    "usage": _USAGE,
}  # fmt: skip
_BATCH = {
    "id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "created_at": 1,
    "input_file_id": "file-1", "completion_window": "24h", "status": "completed",
    "output_file_id": "file-out", "request_counts": {"total": 1, "completed": 1, "failed": 0},
}  # fmt: skip
_BATCH_LINE = {"id": "b", "custom_id": "1", "error": None,
               "response": {"status_code": 200, "body": _ANSWER}}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if "/content" in self.path:
            self._answer(200, _BATCH_LINE)
        else:
            self._answer(200, _BATCH if "/batches/" in self.path else {"path": self.path})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        model = str(body.get("model", ""))
        if model.endswith("-cut"):
            self._break_off()
            return
        if model.endswith("-short"):
            self._answer(200, _ANSWER, missing_bytes=100)
            return
        status = int(model[-3:]) if model[-3:].isdigit() else 200
        self._answer(status, _ANSWER if status == 200 else {"error": {"message": f"no: {model}"}})

    def _break_off(self):
        """Answer with one whole chunk of a stream, and no end of it."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        line = b'data: {"choices": [], "id": "1"}\n\n'
        self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        self.close_connection = True

    def _answer(self, status, answer, missing_bytes=0):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body) + missing_bytes))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = missing_bytes > 0

    def log_message(self, *_):
        """Say nothing."""


class Provider:
    """Runs it in threads of this process, as a context.

    Attributes:
        url: of its root.
    """

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
