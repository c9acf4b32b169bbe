"""Owns the connection to Elasticsearch: sends one request, returns one answer.

An answer of any status is a value. No answer raises `ElasticsearchUnreachable`. A fault that no
retry can repair (TLS, a server that is no Elasticsearch) raises `ElasticsearchError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ElasticsearchError, ElasticsearchUnreachable
from llmlog_consumer import lean_imports
from llmlog_consumer.elasticsearch.error_rules import BROKEN_ANSWER, FOREIGN_PAGE
from llmlog_consumer.elasticsearch.foreign_answers import describe_foreign, is_page
from llmlog_consumer.elasticsearch.nodes import NodeTiming
from llmlog_consumer.elasticsearch.silence import Silence

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from llmlog_common.settings import Settings

REQUEST_TIMEOUT_SECONDS: Final = 60.0
"""Time after which an answer is given up."""

NOT_FOUND: Final = 404
SERVER_ERROR: Final = 500
TOO_MANY: Final = 429

_NDJSON: Final = {
    "content-type": "application/vnd.elasticsearch+x-ndjson; compatible-with=8",
    "accept": "application/vnd.elasticsearch+json; compatible-with=8",
}
_JSON: Final = {
    "content-type": "application/vnd.elasticsearch+json; compatible-with=8",
    "accept": "application/vnd.elasticsearch+json; compatible-with=8",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the server.

    Attributes:
        status: of HTTP.
        body: decoded JSON, or text where the body is no JSON.
        retry_after: seconds that the server asked us to wait.
        location: where a redirect leads to.
    """

    status: int
    body: Any
    retry_after: float = 0.0
    location: str = ""

    @property
    def ok(self) -> bool:
        """Tell whether the status is of the 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004

    @property
    def good(self) -> bool:
        """Tell whether the status is of the 2xx and the body is a JSON object."""
        return self.ok and isinstance(self.body, dict)

    @property
    def not_now(self) -> bool:
        """Tell whether the server asks to try again later."""
        return self.status == TOO_MANY or self.status >= SERVER_ERROR

    @property
    def error(self) -> Mapping[str, Any]:
        """Return the body's `error` object; a text becomes its reason."""
        error = self.body.get("error") if isinstance(self.body, dict) else None
        if isinstance(error, dict):
            return error
        return {"type": "", "reason": str(error or self.body or "")[:500]}

    def describe(self) -> str:
        """Return the fault in one line: status, type and reason, or a 2xx without a JSON object."""
        if is_page(self.body) and self.ok:
            return f"{self.status} {describe_foreign(self.body)} ({FOREIGN_PAGE.advice})"
        if self.ok:
            return f"{self.status} without a JSON object ({BROKEN_ANSWER.advice})"
        if not self.error.get("type"):
            return f"{self.status} {describe_foreign(self.body, self.location)}"[:500]
        kind, reason = self.error.get("type") or "", self.error.get("reason") or ""
        return f"{self.status} {kind}: {reason}"[:500].replace("\n", " ").rstrip(": ")


class Elastic:
    """The Elasticsearch client that the threads of a process share.

    Args:
        settings: URL, credentials, TLS.
        timeout: seconds after which an answer is given up.
        timing: of the checks of nodes, and of reading credentials again.

    Raises:
        ConfigurationError: the URL or the credentials cannot be used as they are.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        timeout: float = REQUEST_TIMEOUT_SECONDS,
        timing: NodeTiming | None = None,
    ) -> None:
        # Imported with the first connection: not every command needs one.
        lean_imports.load_elastic_transport()
        from llmlog_consumer.elasticsearch.client import ElasticClient  # noqa: PLC0415

        self._client = ElasticClient(settings, timeout, timing or NodeTiming())
        self.where = self._client.where
        self._silence = Silence()

    @property
    def silence(self) -> str:
        """Say for how long there has been no answer; empty while there are answers."""
        return self._silence.describe(self.where)

    @property
    def notice(self) -> str:
        """Say which nodes do not answer well, and why; empty while all do. Costs no request."""
        return self._client.notice

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
        """Send a request, and return the answer whatever its status.

        Args:
            method: of HTTP.
            path: without its query.
            body: JSON as an object, or NDJSON as bytes.
            params: of the query.
            timeout: seconds after which the answer is given up; by default the connection's.
            is_whole: tells of the body of a good answer if it holds what was asked for; where it
                does not, the next node is asked. The caller reads the answer all the same.

        Raises:
            ElasticsearchUnreachable: no answer; whether the request was carried out is unknown.
            ElasticsearchError: TLS fails, or the server is no Elasticsearch.
        """
        headers = None
        if body is not None:
            headers = _NDJSON if isinstance(body, bytes) else _JSON
        else:
            headers = {"accept": _JSON["accept"]}
        number, is_answered = self._silence.begin(), False
        try:
            answer = self._client.perform(
                method, path, headers, body, params, timeout=timeout, is_whole=is_whole
            )
            is_answered = True
        finally:
            self._silence.end(number, is_answered=is_answered)
        return Answer(*answer)

    def demand(
        self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None
    ) -> Any:
        """Send a request, and return the body of a good answer.

        Raises:
            ElasticsearchUnreachable: no answer, or one that says "not now".
            ElasticsearchError: any other, or a good one whose body is no JSON object.
        """
        return self.body_of(self.request(method, path, body=body, params=params), method, path)

    def find(self, path: str, *, absent: Container[int] = (NOT_FOUND,)) -> Any:
        """Return the body at a path; None where the server says that there is nothing.

        Args:
            path: requested with GET.
            absent: statuses that mean "nothing here".

        Raises:
            ElasticsearchUnreachable: no answer, or one that says "not now".
            ElasticsearchError: any other, or a good one whose body is no JSON object.
        """
        answer = self.request("GET", path)
        # Elasticsearch says so in JSON; a proxy in its place may answer the same status with text.
        if answer.status in absent and isinstance(answer.body, dict):
            return None
        return self.body_of(answer, "GET", path)

    def body_of(self, answer: Answer, method: str, path: str) -> Any:
        """Return the body of a good answer.

        Args:
            answer: to the request that the next two name.
            method: for the error's text.
            path: for the error's text.

        Raises:
            ElasticsearchUnreachable: the answer says "not now".
            ElasticsearchError: any other, or a good one whose body is no JSON object.
        """
        if answer.good:
            return answer.body
        if answer.not_now:
            raise ElasticsearchUnreachable(f"Elasticsearch at {self.where}: {answer.describe()}")
        raise ElasticsearchError(f"Elasticsearch: {method} {path}: {answer.describe()}")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
