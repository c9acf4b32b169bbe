"""Owns HTTP to one node of Elasticsearch: requests, TLS, errors. Only it imports the transport.

That is the lower half of Elasticsearch's own client, which is installed with it. The upper half is
not loaded: `nodes.py` chooses among nodes, and the delivery engine retries.
"""

from __future__ import annotations

import socket
import ssl
import threading
import traceback
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import quote

import urllib3
from elastic_transport import ConnectionTimeout, TlsError, TransportError, Urllib3HttpNode
from elastic_transport.client_utils import url_to_node_config

from llmlog_common.credentials import basic, hide
from llmlog_common.errors import (
    ElasticsearchCutOff,
    ElasticsearchError,
    ElasticsearchTimedOut,
    ElasticsearchUnreachable,
)
from llmlog_common.listener_probe import answers_tls
from llmlog_common.texts import cut
from llmlog_consumer.elasticsearch.addresses import Transfer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmlog_common.urls import ServerUrl

_CONNECTIONS: Final = 16
_MAX_RETRY_AFTER_SECONDS: Final = 300.0
_MAX_ERROR_CHARACTERS: Final = 300
_FINGERPRINT_DIGITS: Final = (32, 40, 64)
"""Of MD5, SHA-1 and SHA-256."""
_OF_TLS: Final = (
    "cert_reqs", "ca_certs", "cert_file", "key_file", "assert_hostname", "assert_fingerprint",
)  # fmt: skip
"""What a pool of connections knows of TLS, beside its context."""


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
        self._all: weakref.WeakSet[Any] = weakref.WeakSet()  # under `_lock`

    def add(self, connection: Any) -> None:
        """Add one, until it is freed."""
        with self._lock:
            self._all.add(connection)

    def all(self) -> list[Any]:
        """Return all of them."""
        with self._lock:
            return list(self._all)


class _WayThroughProxy:
    """Stands in the place of a pool of connections to a node; it leads through a proxy.

    An http server is named to the proxy by its whole address; to an https one, it is a tunnel.
    """

    def __init__(self, proxy: ServerUrl, url: ServerUrl, direct: Any) -> None:
        login = basic(*proxy.credentials) if proxy.credentials else None
        of_tls = {name: getattr(direct, name, None) for name in _OF_TLS}
        of_tls["ssl_context"] = direct.conn_kw.get("ssl_context")
        self._manager = urllib3.ProxyManager(
            str(proxy),
            proxy_headers={"proxy-authorization": login} if login else None,
            maxsize=_CONNECTIONS,
            block=True,
            timeout=direct.timeout,
            **{name: value for name, value in of_tls.items() if value is not None},
        )
        self._server = str(url).removesuffix(url.path)
        self.pool = self._manager.connection_from_host(url.host, url.port, url.scheme)

    def urlopen(self, method: str, target: str, **options: Any) -> Any:
        """Send a request; as that of a pool."""
        return self._manager.urlopen(method, self._server + target, redirect=False, **options)

    def close(self) -> None:
        """Close the connections."""
        self._manager.clear()


class HttpNode:
    """The connections to one node. Any thread may use it.

    Args:
        url: of the node.
        timeout: seconds for an answer.
        transfer: TLS, proxy and compression; by default none.

    Raises:
        ValueError: the certificates cannot be read, or the fingerprint is none.
    """

    def __init__(self, url: ServerUrl, timeout: float, transfer: Transfer | None = None) -> None:
        transfer = transfer or Transfer()
        self.url = url
        self._timeout = timeout
        self._open = _Connections()
        self._has_answered = False  # any thread sets it, none takes it back
        config = url_to_node_config(str(url), use_default_ports_for_scheme=True).replace(
            connections_per_node=_CONNECTIONS,
            http_compress=transfer.compress,
            **_tls_options(url, transfer),
        )
        self._node = Urllib3HttpNode(config)
        pool: Any = self._node.pool
        if transfer.proxy is not None:
            way = _WayThroughProxy(transfer.proxy, url, pool)
            self._node.pool, pool = cast("Any", way), way.pool
        pool.ConnectionCls = _kept_in(self._open, pool.ConnectionCls)

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
        try:
            meta, content = self._node.perform_request(
                method,
                target,
                body=body,
                headers=cast("Any", headers),
                request_timeout=timeout or self._timeout,
            )
            self._has_answered = True
            return RawAnswer(meta.status, meta.headers, content)
        except TlsError as error:
            _release(error)
            raise ElasticsearchError(f"{self.url}: TLS: {_describe_tls(error)}") from None
        except (TransportError, OSError, ValueError) as error:
            kind = _kind_of(error)
            is_cut_off = _is_cut_off(error)
            _release(error)
            if is_cut_off and not self._has_answered and self._uses_other_scheme():
                raise ElasticsearchError(
                    f"{self.url}: this port uses TLS: begin the URL with https://"
                ) from None
            raise kind(f"Elasticsearch at {self.url}: {_describe(error)}") from None

    def _uses_other_scheme(self) -> bool:
        return self.url.scheme == "http" and answers_tls(self.url.host, self.url.port)

    def abort(self) -> None:
        """End the requests that wait for an answer, in whichever thread; each fails there."""
        for connection in self._open.all():
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections."""
        self._node.close()


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


def _tls_options(url: ServerUrl, transfer: Transfer) -> dict[str, Any]:
    """Return the options for TLS, checked: the client says "unreachable", and only later."""
    if url.scheme != "https":
        return {}
    return _own_certificate(transfer) | _trust(transfer.ca_certs, transfer.fingerprint)


def _own_certificate(transfer: Transfer) -> dict[str, Any]:
    cert, key = transfer.client_cert, transfer.client_key
    if cert is None:
        return {}
    try:
        ssl.create_default_context().load_cert_chain(cert, key, password=_refuse_password)
    except (OSError, ValueError) as error:  # that of `ssl` is an OSError
        raise ValueError(f"CLIENT_CERT {cert}: {_ssl_reason(error)}") from None
    return {"client_cert": str(cert), **({"client_key": str(key)} if key else {})}


def _refuse_password() -> str:
    raise ValueError("its key needs a password: give a key without one")


def _ssl_reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"certificate and key cannot be used ({error.reason or error})"
    return str(getattr(error, "strerror", "") or error)


def _trust(ca_certs: Path | None, fingerprint: str | None) -> dict[str, Any]:
    if fingerprint is not None:
        digits = fingerprint.replace(":", "").lower()
        if len(digits) not in _FINGERPRINT_DIGITS or set(digits) - set("0123456789abcdef"):
            raise ValueError("SSL_ASSERT_FINGERPRINT: write 64 hexadecimal digits, of SHA-256")
        return {"ssl_assert_fingerprint": digits}
    if ca_certs is None:
        return {}
    try:
        if not ca_certs.is_dir():
            ssl.create_default_context(cafile=str(ca_certs))
    except OSError as error:
        raise ValueError(f"CA_CERTS {ca_certs}: {_ssl_reason(error)}") from None
    return {"ca_certs": str(ca_certs)}


def _kept_in(connections: _Connections, kind: Any) -> Any:
    """Return a kind of connection that is added to `connections` before it is made."""

    class Connection(kind):  # type: ignore[misc]
        def connect(self) -> None:
            connections.add(self)
            super().connect()

    return Connection


def _kind_of(error: BaseException) -> type[ElasticsearchUnreachable]:
    if isinstance(error, ConnectionTimeout):
        return ElasticsearchTimedOut
    return ElasticsearchCutOff if _is_cut_off(error) else ElasticsearchUnreachable


def _is_cut_off(error: BaseException) -> bool:
    """Tell whether the other side closed an open connection before it answered."""
    cause = error.__cause__
    causes = (error, cause, *cause.args) if cause is not None else (error,)
    return any(isinstance(one, (ConnectionResetError, BrokenPipeError)) for one in causes)


def _describe(error: BaseException) -> str:
    """Return a library's error in one line, without what is secret."""
    if isinstance(error, ConnectionTimeout):
        return "no answer in time"
    message = error.message if isinstance(error, TransportError) else str(error)
    text = " ".join(cut(hide(str(message))).split())
    _, found, rest = text.partition("): ")  # behind the connection's type and address
    return cut(rest if found and "Connection(" in text else text, _MAX_ERROR_CHARACTERS)


_TLS_ADVICE: Final = {
    "certificate required": "the server asks for a certificate: set elasticsearch.client_cert",
    "WRONG_VERSION_NUMBER": "this port uses no TLS: begin the URL with http://",
    "certificate has expired": "the server's certificate has expired: renew it",
    "CERTIFICATE_VERIFY_FAILED": "set elasticsearch.ca_certs to the authority that has signed it",
    "Fingerprints did not match": "set elasticsearch.ssl_assert_fingerprint to the one it shows, "
    "if that is the server's",
    "alert": "the server does not accept our certificate: renew that of elasticsearch.client_cert",
}
"""What to do about an error of TLS, by its words; the first that is found."""


def _describe_tls(error: BaseException) -> str:
    text = _describe(error)
    advice = next((advice for words, advice in _TLS_ADVICE.items() if words in text), "")
    return f"{text} ({advice})" if advice else text


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
        waiting += [one.__cause__, one.__context__, *one.args, *getattr(one, "errors", ())]
