"""Owns a proxy as a cloud has one: a Cloud ID, TLS, and API keys in the place of passwords.

The local Elasticsearch cannot create API keys. So each key stands for a user here, as whom the
proxy signs in: the user's role decides what is allowed.
"""

from __future__ import annotations

import secrets
import ssl
import threading
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from llmlog_local.certificates import Authority
from llmlog_local.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import httpx

    from access import Access

_PASSED: Final = ("content-type", "accept")
_RETURNED: Final = ("content-type", "x-elastic-product")
_REFUSAL: Final = (
    b'{"error":{"type":"security_exception","reason":"unable to authenticate"},"status":401}'
)


class _Handler(BaseHTTPRequestHandler):
    """Passes a request on as the user whose key it has."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    clients: Mapping[str, httpx.Client]

    def log_message(self, *_: Any) -> None:
        """Write no line for each request."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        client = self.clients.get(self.headers.get("authorization") or "")
        status, content = 401, _REFUSAL
        headers = {"content-type": "application/json", "x-elastic-product": "Elasticsearch"}
        if client is not None:
            passed = {name: self.headers[name] for name in _PASSED if self.headers.get(name)}
            answer = client.request(self.command, self.path, content=body, headers=passed)
            status, content = answer.status_code, answer.content
            headers = {name: answer.headers[name] for name in _RETURNED if name in answer.headers}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _pass_on  # noqa: N815 - the library's names


class Cloud:
    """The settings that lead through the proxy.

    Args:
        cloud_id: names its address.
        key_files: the file that holds each user's key.
    """

    def __init__(self, cloud_id: str, key_files: Mapping[str, Path]) -> None:
        self.cloud_id = cloud_id
        self._key_files = key_files

    def settings(self, access: Access, user: str) -> dict[str, str]:
        """Return a user's settings, with Cloud ID and API key in the place of URL and password."""
        prefix = "LLMLOG_ELASTICSEARCH_"
        kept = {
            name: value
            for name, value in access.settings(user).items()
            if name not in {f"{prefix}{end}" for end in ("URL", "USERNAME", "PASSWORD_FILE")}
        }
        return kept | {
            f"{prefix}CLOUD_ID": self.cloud_id,
            f"{prefix}API_KEY_FILE": str(self._key_files[user]),
        }


@contextmanager
def serve_cloud(folder: Path, access: Access, users: tuple[str, ...]) -> Iterator[Cloud]:
    """Run the proxy for the length of the block, with a key for each of these users."""
    clients, files = {}, {}
    for user in users:
        key = b64encode(f"{user}:{secrets.token_urlsafe(24)}".encode()).decode()
        clients[f"ApiKey {key}"] = access.client(user)
        files[user] = folder / f"{user}.key"
        files[user].touch(mode=0o600)
        files[user].write_text(key + "\n", encoding="utf-8")
    own = Authority(folder / "security").get("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    server = ThreadingHTTPServer((HOST, 0), type("Handler", (_Handler,), {"clients": clients}))
    server.daemon_threads = True
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    # A Cloud ID names `<id>.<domain>:<port>`: with this id and domain, 127.0.0.1.
    first, _, rest = HOST.rpartition(".")
    address = b64encode(f"{rest}:{server.server_address[1]}${first}".encode()).decode()
    try:
        yield Cloud(f"demo:{address}", files)
    finally:
        server.shutdown()
        server.server_close()
        for client in clients.values():
            client.close()
