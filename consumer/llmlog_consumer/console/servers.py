"""Owns what the console asks Elasticsearch: with a bound, a time-out, and few requests at once."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ElasticsearchError, ElasticsearchUnreachable
from llmlog_consumer.elasticsearch.connection import NOT_FOUND, Elastic
from llmlog_consumer.elasticsearch.patience import describe_gap

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings

SEARCH_SECONDS: Final = 6
"""Time after which Elasticsearch itself ends a search, and says that it is a part."""
TIMEOUT_SECONDS: Final = 8.0
"""Time after which an answer is given up."""
MAX_SEARCHES: Final = 6
FRESH_SECONDS: Final = 10.0
"""Time for which numbers are shown again without a question."""
MAX_ANSWERS: Final = 200
_TURN_SECONDS: Final = 5.0


class NoIndexError(ElasticsearchError):
    """There is no index behind the alias yet."""


class Found:
    """An answer to a search.

    Attributes:
        body: as Elasticsearch returned it.
        gap: what it leaves out; empty where it is whole.
    """

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.gap = describe_gap(body)

    @property
    def hits(self) -> list[dict[str, Any]]:
        """The documents."""
        return list(self.body["hits"]["hits"])

    @property
    def aggs(self) -> dict[str, Any]:
        """The aggregations."""
        found = self.body.get("aggregations")
        return found if isinstance(found, dict) else {}


class Searcher:
    """The searches of the console. Any thread may call it.

    What adds numbers up is asked once for all people who look at it within ten seconds.

    Args:
        settings: of the deployment.
        elastic: the connection; by default that of the settings.
        clock: monotonic seconds.
        wait_seconds: for an answer that another page has asked for.
    """

    def __init__(
        self,
        settings: Settings,
        elastic: Elastic | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait_seconds: float = TIMEOUT_SECONDS + _TURN_SECONDS,
    ) -> None:
        self.alias = settings.index
        self._elastic = elastic or Elastic(settings, timeout=TIMEOUT_SECONDS)
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._turns = threading.BoundedSemaphore(MAX_SEARCHES)
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[float, Future[Found]]] = {}  # under `_lock`

    def search(self, body: dict[str, Any]) -> Found:
        """Return the answer to a search of the alias; of numbers alone one of a moment ago.

        Raises:
            NoIndexError: there is no index behind it.
            ElasticsearchError: Elasticsearch refuses.
            ElasticsearchUnreachable: it does not answer in time.
        """
        if body.get("size") != 0:
            return self._ask(body)
        key, now = json.dumps(body, sort_keys=True), self._clock()
        with self._lock:
            asked_at, answer = self._answers.get(key, (-FRESH_SECONDS, None))
            if answer is None or now - asked_at >= FRESH_SECONDS:
                answer, is_mine = Future[Found](), True
                self._answers.pop(key, None)
                self._answers[key] = now, answer
                while len(self._answers) > MAX_ANSWERS:
                    del self._answers[next(iter(self._answers))]
            else:
                is_mine = False
        if is_mine:
            try:
                answer.set_result(self._ask(body))
            except Exception as error:  # noqa: BLE001 - all who wait for it get it
                with self._lock:  # the next one asks anew
                    self._answers.pop(key, None)
                answer.set_exception(error)
        try:
            return answer.result(self._wait_seconds)
        except TimeoutError:
            raise ElasticsearchUnreachable(
                "another page waits for the same answer: try again"
            ) from None

    def _ask(self, body: dict[str, Any]) -> Found:
        """Ask Elasticsearch.

        Raises:
            NoIndexError: there is no index behind it.
            ElasticsearchError: Elasticsearch refuses.
            ElasticsearchUnreachable: it does not answer in time.
        """
        if not self._turns.acquire(timeout=_TURN_SECONDS):
            raise ElasticsearchUnreachable(
                f"{MAX_SEARCHES} searches of this console run already: try again in a moment"
            )
        path = f"/{self.alias}/_search"
        try:
            answer = self._elastic.request(
                "POST",
                path,
                body={"timeout": f"{SEARCH_SECONDS}s", **body},
                params={"ignore_unavailable": "true"},
            )
        finally:
            self._turns.release()
        if answer.status == NOT_FOUND:
            raise NoIndexError(f"there is no index behind {self.alias}")
        found = self._elastic.body_of(answer, "POST", path)
        if "hits" not in found:
            raise ElasticsearchUnreachable(f"Elasticsearch: POST {path}: no answer to a search")
        if not found.get("_shards", {}).get("total", 1):
            raise NoIndexError(f"there is no index behind {self.alias}")
        return Found(found)

    def count(self) -> int:
        """Return the number of documents behind the alias."""
        found = self._elastic.find(f"/{self.alias}/_count")
        return 0 if found is None else int(found.get("count", 0))
