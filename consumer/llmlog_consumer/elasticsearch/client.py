"""Owns the nodes of Elasticsearch as one server: a request goes to one that answers well.

With one URL there is one node, and no choice. With several, `nodes.py` decides which one gets a
request, and one thread checks those that are new, aside or silent, with `GET /`.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
import structlog

from llmlog_common.errors import (
    ConfigurationError,
    ElasticsearchCutOff,
    ElasticsearchError,
    ElasticsearchUnreachable,
)
from llmlog_common.renewal import Renewal
from llmlog_common.texts import cut
from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.elasticsearch.addresses import authorization, read_addresses, read_transfer
from llmlog_consumer.elasticsearch.foreign_answers import (
    REFUSED,
    Reply,
    describe_other_server,
)
from llmlog_consumer.elasticsearch.http import HttpNode, retry_after, target_of
from llmlog_consumer.elasticsearch.nodes import Nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmlog_common.settings import Settings
    from llmlog_consumer.elasticsearch.http import RawAnswer
    from llmlog_consumer.elasticsearch.nodes import NodeTiming

log = structlog.get_logger("llmlog.elasticsearch")

_REDIRECTS: Final = range(300, 400)
_NO_CLUSTER: Final = ("", "_na_")


class _Failure(NamedTuple):
    """What came in the place of an answer: the error to raise, and its text."""

    kind: type[Exception]
    text: str


class _Request(NamedTuple):
    """A request to any node."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None = None
    is_whole: Callable[[Any], bool] | None = None


class _Peer(NamedTuple):
    """A node's connections, and the headers of every request to it."""

    http: HttpNode
    headers: dict[str, str]


class ElasticClient:
    """The connections of one process; any thread may use it.

    Args:
        settings: as loaded.
        timeout: seconds for an answer.
        timing: of the checks of nodes, and of reading credentials again.

    Attributes:
        where: the addresses, for messages.

    Raises:
        ConfigurationError: an address or a certificate that cannot be used.
    """

    def __init__(self, settings: Settings, timeout: float, timing: NodeTiming) -> None:
        self._timeout = timeout
        self._timing = timing
        self._renewal = Renewal(settings, "elasticsearch_", timing.renewal_seconds)
        self._peers = self._connect(settings)  # replaced as a whole
        urls = [str(peer.http.url) for peer in self._peers]
        self._nodes = Nodes(urls, timing)
        self.where = ",".join(urls)
        self._throttled = ThrottledLog(log)
        self._verified: set[int] = set()  # nodes that are known to be Elasticsearch
        self._cluster = ""  # the id of the cluster that the first node belongs to
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._watcher: threading.Thread | None = None  # under `_lock`

    @property
    def notice(self) -> str:
        """Say which nodes are aside, or silent, and why; empty while all answer well."""
        return self._nodes.describe()

    def perform(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Any,
        params: Mapping[str, Any] | None,
        *,
        timeout: float | None = None,
        is_whole: Callable[[Any], bool] | None = None,
    ) -> tuple[int, Any, float, str]:
        """Send a request; return status, body, seconds that the server asked us to wait, location.

        Where a node does not answer well, the others are asked at once. What is sent twice is one
        document, because its id is its own. `is_whole` tells of the body of a good answer if it
        holds what was asked for.

        Raises:
            ElasticsearchUnreachable: no answer; whether the request was carried out is unknown.
            ElasticsearchError: TLS fails, or the server is no Elasticsearch.
        """
        self._watch()
        content = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        request = _Request(method, target_of(path, params), headers, content, is_whole)
        doubtful: dict[int, tuple[str, float]] = {}  # why, and when the request began
        failures: list[_Failure] = []
        tried: list[int] = []
        best: tuple[int, Reply] | None = None
        while (number := self._take(tried)) is not None:
            tried.append(number)
            began = time.monotonic()
            outcome = self._ask(number, request, timeout)
            if isinstance(outcome, _Failure):
                failures.append(outcome)
                if outcome.kind is ElasticsearchCutOff:
                    doubtful[number] = outcome.text, began
                else:
                    self._put_aside(number, outcome.text, began)
            elif why := outcome.doubt:
                best = best or (number, outcome)
                doubtful[number] = why, began
            else:
                for other, (its_why, its_beginning) in doubtful.items():
                    self._put_aside(other, its_why, its_beginning)
                size = len(content or b"")
                if slow := self._nodes.answered(number, time.monotonic() - began, size):
                    self._put_aside(number, slow)
                return self._checked(number, outcome)
        if best is not None:
            return self._checked(*best)
        raise failures[0].kind("; ".join(failure.text for failure in failures))

    def close(self) -> None:
        """Close the connections."""
        self._closed.set()
        for peer in self._peers:
            peer.http.close()

    def _connect(self, settings: Settings) -> list[_Peer]:
        try:
            transfer = read_transfer(settings)
            return [
                _Peer(
                    HttpNode(url, self._timeout, transfer),
                    _own_headers(authorization(settings, url)),
                )
                for url in read_addresses(settings)
            ]
        except ValueError as error:
            raise ConfigurationError(f"LLMLOG_ELASTICSEARCH_…: {error}") from None

    def _take(self, tried: list[int]) -> int | None:
        """Return the node to ask next; one that is new is checked before."""
        while (number := self._nodes.take(tried)) is not None and self._nodes.is_new(number):
            self._check(number)
        return number

    def _ask(self, number: int, request: _Request, timeout: float | None) -> Reply | _Failure:
        """Send a request to one node; return its reply, or what came in its place.

        A value and no error: the traceback of an error that is kept would keep the body.
        """
        ticket = self._nodes.begin(number)
        try:
            return self._send(number, request, timeout)
        except (ElasticsearchUnreachable, ElasticsearchError) as error:
            return _Failure(type(error), str(error))
        finally:
            self._nodes.end(number, ticket)

    def _send(self, number: int, request: _Request, timeout: float | None = None) -> Reply:
        method, target, headers, body, is_whole = request
        while True:
            http, own = self._peers[number]
            answer = http.request(method, target, {**own, **headers}, body, timeout=timeout)
            reply = _read(answer, is_whole)
            if reply.status not in REFUSED or not self._renew():
                return reply

    def _renew(self) -> bool:
        """Read the credentials again; True where they are new: the request may be sent again."""
        renewed = self._renewal.renew()
        if renewed.settings is None:
            if renewed.what:
                self._throttled(logging.WARNING, renewed.what, renewed.what)
            return False
        try:
            peers = self._connect(renewed.settings)
        except (ConfigurationError, OSError) as error:
            self._throttled(logging.WARNING, "renewal", str(error))
            return False
        if len(peers) != len(self._peers):
            what = "the file names another number of nodes: restart to use them"
            self._throttled(logging.WARNING, "renewal", what)
            return False
        self._peers = peers
        self._renewal.accept(renewed)
        self._throttled(logging.WARNING, renewed.what, renewed.what)
        return True

    def _checked(self, number: int, reply: Reply) -> tuple[int, Any, float, str]:
        if reply.is_good and not reply.is_elasticsearch and number not in self._verified:
            raise ElasticsearchError(describe_other_server(self._nodes.url(number), reply.body))
        if reply.is_elasticsearch:
            self._verified.add(number)
        return reply.status, reply.body, reply.retry_after, reply.location

    # The watch over nodes

    def _watch(self) -> None:
        if self._watcher is None:
            with self._lock:
                if self._watcher is None:
                    self._watcher = threading.Thread(
                        target=self._watch_nodes, name="llmlog-nodes", daemon=True
                    )
                    self._watcher.start()

    def _watch_nodes(self) -> None:
        next_look = time.monotonic() + self._timing.certificate_seconds
        while not self._closed.wait(self._timing.tick_seconds):
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + self._timing.certificate_seconds
                if self._renewal.are_certificates_new:
                    self._renew()
            for number in self._nodes.take_suspects():
                if not self._closed.is_set():
                    self._check(number)

    def _check(self, number: int) -> None:
        """Ask a node who it is; it is used, or put aside, by what it says."""
        url = self._nodes.url(number)
        request = _Request("GET", "/", {"accept": "application/json"}, is_whole=_names_cluster)
        try:
            reply = self._send(number, request, self._timing.probe_seconds)
        except (ElasticsearchUnreachable, ElasticsearchError) as error:
            self._put_aside(number, str(error))
            if self._nodes.has_other_than(number):
                self._peers[number].http.abort()
            return
        # Without the privilege to see the cluster, Elasticsearch says so itself: it lives.
        cluster = str(reply.body.get("cluster_uuid", "")) if isinstance(reply.body, dict) else ""
        names_error = isinstance(reply.body, dict) and isinstance(reply.body.get("error"), dict)
        why = "" if reply.status in REFUSED and names_error else reply.doubt
        if cluster not in _NO_CLUSTER:
            self._cluster = self._cluster or cluster
            if cluster != self._cluster:
                why = f"it belongs to another cluster: {cut(cluster, 40)}, not {self._cluster}"
        if why:
            self._put_aside(number, why)
        elif self._nodes.bring_back(number) and len(self._nodes) > 1:
            log.info("node is back", node=url)

    def _put_aside(self, number: int, why: str, began: float | None = None) -> None:
        if self._closed.is_set():  # its connections were closed by us
            return
        url = self._nodes.url(number)
        if self._nodes.put_aside(number, why, began) and len(self._nodes) > 1:
            self._throttled(logging.WARNING, (url, "aside"), "node is put aside", node=url, why=why)


def _own_headers(header: str | None) -> dict[str, str]:
    own = {"user-agent": "llmlog-pipeline"}
    return own | {"authorization": header} if header else own


def _names_cluster(body: Any) -> bool:
    return isinstance(body, dict) and "cluster_uuid" in body


def _read(answer: RawAnswer, is_whole: Callable[[Any], bool] | None = None) -> Reply:
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        body = answer.body.decode("utf-8", "replace")
    headers = answer.headers
    return Reply(
        answer.status,
        body,
        retry_after(headers),
        headers.get("x-elastic-product", "") == "Elasticsearch",
        headers.get("location", "") if answer.status in _REDIRECTS else "",
        is_whole=is_whole is None or is_whole(body),
    )
