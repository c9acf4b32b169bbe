"""The requests of the demo, and the events that their HTTP answers make us expect."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

THREADS = 4
_CHAT = "/v1/chat/completions"
_MIN_ERROR_STATUS = 400
_WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@dataclass(frozen=True)
class Kind:
    """One kind of request, and how many of it are sent."""

    name: str
    count: int
    model: str
    more: Mapping[str, Any] = field(default_factory=dict)
    path: str = _CHAT
    key: str | None = None


KINDS = (
    Kind("chat", 60, "chat"),
    Kind("chat, streamed", 40, "chat", {"stream": True}),
    Kind("chat, a dearer model", 20, "chat-large"),
    Kind("tool call", 20, "tools", {"tools": [_WEATHER]}),
    Kind("embedding", 20, "embeddings", path="/v1/embeddings"),
    Kind("fails, falls back", 10, "chat-with-fallback"),
    Kind("rate limit", 8, "rate-limited"),
    Kind("context too long", 6, "context-too-long"),
    Kind("server error", 6, "server-error"),
    Kind("content filter", 4, "filtered"),
    Kind("provider unreachable", 4, "unreachable"),
    Kind("model unknown", 1, "no-such-model"),
    Kind("wrong key", 1, "chat", key="sk-not-the-key"),
)


@dataclass(frozen=True)
class Answer:
    """The answer to one request.

    Attributes:
        kind: of the request.
        status: of HTTP.
        seconds: from the request to the last byte.
        model: the provider's, as the answer names it; empty where it does not.
        call_id: LiteLLM's id of the call; empty without one.
        fallbacks: attempts that failed before this answer.
        cost: in USD; None where the answer names none, as a streamed one.
    """

    kind: Kind
    status: int
    seconds: float
    model: str
    call_id: str
    fallbacks: int
    cost: float | None

    @property
    def failed(self) -> bool:
        """Whether it is an error."""
        return self.status >= _MIN_ERROR_STATUS


class Expectation:
    """The numbers that dashboards should show, by the HTTP answers.

    Args:
        answers: to all requests.
        models: the provider's model behind each name that clients ask for.

    Attributes:
        events: one for each attempt.
        failures: how many of them failed.
        models: events by the provider's model.
        costs: USD by model, of the models whose every answer names its cost.
        call_ids: of all answers that name one.
        slowest: seconds of the slowest answer.
    """

    def __init__(self, answers: list[Answer], models: Mapping[str, str]) -> None:
        self.models: Counter[str] = Counter()
        self.costs: dict[str, float] = {}
        unknown = set()
        self.failures = 0
        for answer in answers:
            asked = models.get(answer.kind.model, answer.kind.model)
            model = answer.model or asked
            self.models[model] += 1
            self.models[asked] += answer.fallbacks
            self.failures += answer.failed + answer.fallbacks
            if answer.cost is not None:
                self.costs[model] = self.costs.get(model, 0.0) + answer.cost
            elif not answer.failed:
                unknown.add(model)
        for model in unknown:
            self.costs.pop(model, None)
        self.events = self.models.total()
        self.call_ids = {answer.call_id for answer in answers if answer.call_id}
        self.slowest = max(answer.seconds for answer in answers)


def send_all(
    address: str, headers: Mapping[str, str], progress: Callable[[Answer], None]
) -> list[Answer]:
    """Send every request from a few threads and return the answers.

    Args:
        address: of the gateway.
        headers: what clients sign in with.
        progress: called with each answer, from the thread that got it.
    """
    requests = [kind for kind in KINDS for _ in range(kind.count)]
    random.Random(7).shuffle(requests)  # noqa: S311 - the same order in every run
    with (
        httpx.Client(base_url=address, headers=headers, timeout=60) as client,
        ThreadPoolExecutor(THREADS) as threads,
    ):

        def send(kind: Kind, number: int) -> Answer:
            answer = _send(client, kind, number)
            progress(answer)
            return answer

        try:
            return list(threads.map(send, requests, itertools.count()))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def make_payload(call_id: str, began: float) -> dict[str, Any]:
    """Return LiteLLM's payload of one call.

    Args:
        call_id: of the call.
        began: epoch seconds.
    """
    return {
        "litellm_call_id": call_id,
        "call_type": "acompletion",
        "status": "success",
        "model": "openai/gpt-4o-mini",
        "startTime": began,
        "endTime": began + 0.5,
        "response_time": 0.5,
        "response_cost": 0.001,
        "total_tokens": 12,
        "messages": [{"role": "user", "content": "Will this be found?"}],
        "response": {"choices": [{"message": {"content": "As a dead letter."}}]},
    }


def _send(client: httpx.Client, kind: Kind, number: int) -> Answer:
    question = f"Question {number}: where does event {number} go? 🧭"
    body = {"model": kind.model, "user": f"user-{number % 9}", **kind.more}
    if kind.path == _CHAT:
        body["messages"] = [{"role": "user", "content": question}]
    else:
        body["input"] = question
    headers = {"Authorization": f"Bearer {kind.key}"} if kind.key else None
    began = time.perf_counter()
    answer = client.post(kind.path, json=body, headers=headers)
    headers = answer.headers
    cost = headers.get("x-litellm-response-cost")
    return Answer(
        kind=kind,
        status=answer.status_code,
        seconds=time.perf_counter() - began,
        model=headers.get("x-litellm-model-name", ""),
        call_id=headers.get("x-litellm-call-id", ""),
        fallbacks=int(headers.get("x-litellm-attempted-fallbacks", 0)),
        cost=None if cost is None else float(cost),
    )
