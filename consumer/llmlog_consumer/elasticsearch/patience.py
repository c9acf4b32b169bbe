"""Owns how commands ask Elasticsearch: again, and another node, as long as it says "not now".

Commands have no delivery engine behind them, which repeats what it sends. Each request of a command
may be carried out twice: none but repeatable ones go this way.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ElasticsearchError, ElasticsearchUnreachable
from llmlog_consumer.backoff import Backoff
from llmlog_consumer.elasticsearch.connection import REQUEST_TIMEOUT_SECONDS, Answer, Elastic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmlog_common.settings import Settings

ANNOUNCE_SECONDS: Final = 2.0
"""Time without a good answer after which a person is told what the command waits for."""
_REQUEST_TIMEOUT: Final = 408
_NEVER_MENDED: Final = frozenset((501, 505))
"""Answers of the 5xx that say "not this way" and not "not now"."""
_SHARD_AWAY: Final = frozenset(
    (
        "no_shard_available_action_exception",
        "unavailable_shards_exception",
        "node_not_connected_exception",
        "node_disconnected_exception",
        "node_closed_exception",
        "es_rejected_execution_exception",
        "circuit_breaking_exception",
    )
)
"""Why one document of an `_mget` may be missing now and found in a moment."""


class Patience:
    """The rule how long a command asks again; the time counts since the last good answer.

    Args:
        seconds: that may pass without a good answer.
        nodes: how many there are to ask.
        announce: is told once what is waited for.
        backoff: between two attempts.
        clock: monotonic seconds.
        sleep: takes seconds.
    """

    def __init__(
        self,
        seconds: float,
        *,
        nodes: int = 1,
        announce: Callable[[str], None] = lambda _: None,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds = seconds
        self._nodes = nodes
        self._announce = announce
        self._backoff = backoff or Backoff(first_seconds=0.2, max_seconds=3.0)
        self._clock = clock
        self._sleep = sleep
        self._since: float | None = None  # the first trouble after the last good answer
        self._is_announced = False

    def ask(self, request: Callable[[], Answer]) -> Answer:
        """Return the answer to a request, the last one where no attempt got a good one.

        Raises:
            ElasticsearchUnreachable: no node has answered in time.
            ElasticsearchError: TLS fails with every node, or none is an Elasticsearch.
        """
        attempts = 0
        while True:
            attempts += 1
            answer: Answer | None = None
            error: ElasticsearchUnreachable | None = None
            try:
                answer = request()
                trouble = describe_trouble(answer)
            except ElasticsearchUnreachable as no_answer:
                error, trouble = no_answer, str(no_answer)
            except ElasticsearchError:
                # What is wrong with one node, no waiting mends: the next request asks the next one.
                if attempts >= self._nodes:
                    raise
                continue
            if not trouble and answer is not None:
                self._since, self._is_announced = None, False
                return answer
            if self._is_over():
                if answer is None:
                    raise ElasticsearchUnreachable(
                        f"{error}: asked {attempts} times, {self._seconds:.3g} s long"
                    )
                return answer
            self._wait(attempts, trouble, answer.retry_after if answer is not None else 0.0)

    def _is_over(self) -> bool:
        if self._since is None:
            self._since = self._clock()
        return self._clock() >= self._since + self._seconds

    def _wait(self, attempts: int, trouble: str, at_least: float) -> None:
        now, since = self._clock(), self._since or 0.0
        if not self._is_announced and now - since >= ANNOUNCE_SECONDS:
            self._is_announced = True
            left = since + self._seconds - now
            self._announce(f"waiting up to {left:.0f} s more: {trouble}")
        delay = self._backoff.delay(attempts, at_least=at_least)
        self._sleep(max(0.0, min(delay, since + self._seconds - now)))


def describe_trouble(answer: Answer) -> str:
    """Return why an answer is worth another attempt; empty for one that counts. Pure.

    It counts if it says yes or no. It does not if it says "not now", or holds only a part.
    """
    if answer.status == _REQUEST_TIMEOUT or (answer.not_now and answer.status not in _NEVER_MENDED):
        return f"Elasticsearch answers {answer.describe()}"
    return describe_gap(answer.body)


def describe_gap(body: Any) -> str:
    """Return what a good answer says that it leaves out; empty where it is whole. Pure."""
    if not isinstance(body, dict):
        return ""
    shards = body.get("_shards")
    if isinstance(shards, dict) and (failed := shards.get("failed")):
        total = shards.get("total", "?")
        return f"{failed} of {total} shards did not answer{_first_reason(shards)}"
    if body.get("timed_out") is True:
        return "a search was ended by its time-out before it had seen all documents"
    documents = body.get("docs")
    for document in documents if isinstance(documents, list) else ():
        error = document.get("error") if isinstance(document, dict) else None
        if isinstance(error, dict) and error.get("type") in _SHARD_AWAY:
            return f"the shard of {document.get('_index')} did not answer: {error['type']}"
    return ""


def _first_reason(shards: Mapping[str, Any]) -> str:
    """Return index and reason of the first shard that failed, as far as the answer says it."""
    failures = shards.get("failures")
    first = failures[0] if isinstance(failures, list) and failures else None
    if not isinstance(first, dict):
        return ""
    reason = first.get("reason")
    kind = reason.get("type", "") if isinstance(reason, dict) else ""
    return f" ({first.get('index') or 'an index'}: {kind or 'no reason'})"


class PatientElastic(Elastic):
    """The connection of a command: `request`, `demand` and `find` ask as `Patience` says.

    Args:
        settings: URL, credentials, TLS, and how long to be patient.
        timeout: seconds after which one answer is given up.
        announce: is told once what is waited for.

    Raises:
        ConfigurationError: the URL or the credentials cannot be used as they are.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        timeout: float = REQUEST_TIMEOUT_SECONDS,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(settings, timeout=timeout)
        self._patience = Patience(
            settings.command_patience.total_seconds(),
            nodes=len(settings.elasticsearch_url.split(",")),
            announce=announce,
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        is_whole: Callable[[Any], bool] | None = None,
    ) -> Answer:
        """Send a request until it has an answer that counts, as long as `Patience` allows.

        Raises:
            ElasticsearchUnreachable: no answer in time; whether the request was carried out is
                unknown.
            ElasticsearchError: TLS fails, or the server is no Elasticsearch.
        """
        send = super().request
        return self._patience.ask(
            lambda: send(method, path, body=body, params=params, timeout=timeout, is_whole=is_whole)
        )
