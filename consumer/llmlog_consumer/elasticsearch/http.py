"""Owns HTTP to one node of Elasticsearch, as the only importer of urllib3: requests, TLS, errors.

urllib3 and not the client of Elastic: that one takes 0.2 s of CPU and 15 MB for each process, and
all that is wanted of it is one request after the other.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import sys
import threading
import traceback
import weakref
from contextlib import suppress
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, ReadTimeoutError, SSLError

from llmlog_common.credentials import hide
from llmlog_common.errors import (
    ElasticsearchCutOff,
    ElasticsearchError,
    ElasticsearchTimedOut,
    ElasticsearchUnreachable,
)
from llmlog_common.texts import cut

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmlog_common.urls import ServerUrl

CONNECT_SECONDS: Final = 5.0
"""Time for a connection to be made: a node that is away may answer not even with a refusal."""
_CONNECTIONS: Final = 16
_MAX_RETRY_AFTER_SECONDS: Final = 300.0
_MAX_ERROR_CHARACTERS: Final = 300
_HASHES: Final = {32: hashlib.md5, 40: hashlib.sha1, 64: hashlib.sha256}


class RawAnswer(NamedTuple):
    """An answer as it came.

    Attributes:
        status: of HTTP.
        headers: of any case.
        body: not decoded.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Connections:
    """The connections of one node that are open, or about to be. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()  # under `_lock`

    def add(self, connection: HTTPConnection) -> None:
        """Add one, until it is freed."""
        with self._lock:
            self._all.add(connection)

    def all(self) -> list[HTTPConnection]:
        """Return all of them."""
        with self._lock:
            return list(self._all)


class HttpNode:
    """The connections to one node. Any thread may use it.

    Args:
        url: of the node.
        timeout: seconds for an answer.
        ca_certs: a file or a folder of certificates to trust; by default those of certifi.
        fingerprint: of the one certificate to trust, as hexadecimal digits.

    Raises:
        ValueError: the certificates cannot be read, or the fingerprint is none.
    """

    def __init__(
        self,
        url: ServerUrl,
        timeout: float,
        *,
        ca_certs: Path | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.url = url
        self._timeout = timeout
        self._open = _Connections()
        options: dict[str, Any] = {"maxsize": _CONNECTIONS, "retries": False}
        if url.scheme == "https":
            options["ssl_context"] = _context(ca_certs, fingerprint)
            if fingerprint is not None:
                options["assert_hostname"] = False
            self._pool: urllib3.HTTPConnectionPool = urllib3.HTTPSConnectionPool(
                url.host, url.port, **options
            )
            kind: type[HTTPConnection] = _https_kind(self._open, _digits(fingerprint))
        else:
            self._pool = urllib3.HTTPConnectionPool(url.host, url.port, **options)
            kind = _http_kind(self._open)
        self._pool.ConnectionCls = kind

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        timeout: float | None = None,
    ) -> RawAnswer:
        """Send a request and return the answer, of any status.

        Args:
            method: of HTTP.
            target: path and query.
            headers: of the request.
            body: as it is sent.
            timeout: seconds for the answer; by default that of the node.

        Raises:
            ElasticsearchUnreachable: no answer; whether the request was carried out is unknown.
            ElasticsearchError: TLS fails.
        """
        seconds = timeout or self._timeout
        try:
            response = self._pool.urlopen(
                method,
                self.url.path + target,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds),
            )
            return RawAnswer(response.status, response.headers, response.data)
        except SSLError as error:
            _release(error)
            raise ElasticsearchError(f"{self.url}: TLS: {_describe(error)}") from None
        except (HTTPError, OSError, ValueError) as error:
            kind = _kind_of(error)
            _release(error)
            raise kind(f"Elasticsearch at {self.url}: {_describe(error)}") from None

    def abort(self) -> None:
        """End the requests that wait for an answer, in whichever thread; each fails there."""
        for connection in self._open.all():
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


def target_of(path: str, params: Mapping[str, Any] | None) -> str:
    """Return path and query; as Elasticsearch wants it, `true` is of small letters."""
    if not params:
        return path
    pairs = (
        f"{quote(name)}={quote(str(value).lower() if isinstance(value, bool) else str(value))}"
        for name, value in params.items()
    )
    return f"{path}?{'&'.join(pairs)}"


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that the server asked us to wait."""
    try:
        return max(0.0, min(float(headers.get("retry-after", 0)), _MAX_RETRY_AFTER_SECONDS))
    except ValueError:
        return 0.0


def _context(ca_certs: Path | None, fingerprint: str | None) -> ssl.SSLContext:
    if fingerprint is not None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if ca_certs is None:
        return ssl.create_default_context(cafile=certifi.where())
    try:
        if ca_certs.is_dir():
            return ssl.create_default_context(capath=str(ca_certs))
        return ssl.create_default_context(cafile=str(ca_certs))
    except OSError as error:
        raise ValueError(f"CA_CERTS {ca_certs}: {error.strerror or error}") from None


def _digits(fingerprint: str | None) -> str:
    digits = (fingerprint or "").replace(":", "").lower()
    if fingerprint is not None and (
        len(digits) not in _HASHES or set(digits) - set("0123456789abcdef")
    ):
        raise ValueError("SSL_ASSERT_FINGERPRINT: write 64 hexadecimal digits, of SHA-256")
    return digits


def _http_kind(connections: _Connections) -> type[HTTPConnection]:
    class Connection(HTTPConnection):
        def connect(self) -> None:
            connections.add(self)
            super().connect()

    return Connection


def _https_kind(connections: _Connections, digits: str) -> type[HTTPSConnection]:
    class Connection(HTTPSConnection):
        def connect(self) -> None:
            connections.add(self)
            super().connect()
            if digits:
                _check_fingerprint(self.sock, digits)
                self.is_verified = True

    return Connection


def _check_fingerprint(sock: Any, digits: str) -> None:
    """Accept a certificate of this fingerprint, or one that such an authority has signed.

    Raises:
        ssl.SSLError: neither is so.
    """
    algorithm = _HASHES[len(digits)]
    found = [
        algorithm(der).hexdigest() for der in (sock.getpeercert(binary_form=True), *_chain(sock))
    ]
    if not any(compare_digest(one, digits) for one in found):
        raise ssl.SSLError(f"no certificate has the fingerprint that is set; they have {found}")


def _chain(sock: Any) -> list[bytes]:
    """Return the certificates up to the authority; Python shows them since 3.13."""
    try:
        if sys.version_info >= (3, 13):
            return list(sock.get_verified_chain())
        import _ssl  # noqa: PLC0415

        chain = sock._sslobj.get_verified_chain()  # noqa: SLF001
        return [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in chain]
    except (AttributeError, ImportError, ssl.SSLError):
        return []


def _kind_of(error: BaseException) -> type[ElasticsearchUnreachable]:
    if isinstance(error, ReadTimeoutError):
        return ElasticsearchTimedOut
    return ElasticsearchCutOff if _is_cut_off(error) else ElasticsearchUnreachable


def _is_cut_off(error: BaseException) -> bool:
    """Tell whether the other side closed an open connection before it answered."""
    causes = (error, *error.args)
    return any(isinstance(one, (ConnectionResetError, BrokenPipeError)) for one in causes)


def _describe(error: BaseException) -> str:
    """Return a library's error in one line, without what is secret."""
    if isinstance(error, ReadTimeoutError):
        return "no answer in time"
    text = " ".join(cut(hide(str(error))).split())
    _, found, rest = text.partition("): ")  # behind the connection's type and address
    return cut(rest if found and text.startswith("Connection(") else text, _MAX_ERROR_CHARACTERS)


def _release(error: BaseException | None) -> None:
    """Free the objects that the frames of an error and of its causes refer to.

    The errors are part of a reference cycle through their frames, which hold the body. Each request
    without an answer would keep its megabytes until the garbage collector runs.
    """
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        waiting += [one.__cause__, one.__context__, *one.args]
