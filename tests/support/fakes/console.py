"""A console whose servers are answers in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.testclient import TestClient

from llmlog_common.errors import KafkaError
from llmlog_common.settings import load
from llmlog_consumer.checks.doctor.findings import Check, examine, red
from llmlog_consumer.console.access.logins import OneTimeLinks, TokenFile
from llmlog_consumer.console.access.origins import parse_urls
from llmlog_consumer.console.access.proxy import ProxyLogin
from llmlog_consumer.console.access.sessions import Sessions
from llmlog_consumer.console.app import Console, build_app
from llmlog_consumer.console.gate import Gate
from llmlog_consumer.console.servers import Found

URL = "http://127.0.0.1:8765"
EVENT_ID = "AZtXgOIAPqM4wrx7hCk_"
COOKIE = "llmlog_console_8765"
NOW = 1_790_000_000.0
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}"
SECRET_TEXTS = ("the-prompt", "the-answer", "the-arguments", "the-error", "end-user-name")
SOURCE: dict[str, Any] = {
    "@timestamp": int(NOW * 1000),
    "startTime": int(NOW * 1000),
    "endTime": int(NOW * 1000) + 1500,
    "litellm_call_id": "call-1",
    "trace_id": "trace-1",
    "status": "failure",
    "model": "gpt-4o",
    "response_cost": 0.25,
    "total_tokens": 1234,
    "messages": [{"role": "user", "content": f"the-prompt {HOSTILE}"}],
    "response": {
        "choices": [
            {
                "message": {
                    "content": "the-answer",
                    "tool_calls": [{"function": {"name": "f", "arguments": "the-arguments"}}],
                }
            }
        ]
    },
    "error_str": "the-error",
    "error_information": {"error_class": "RateLimitError", "error_message": "the-error"},
    "end_user": "end-user-name",
    "metadata": {
        "user_api_key_team_alias": "research",
        "user_api_key_alias": "ada@example.org",
        "user_api_key_user_email": "ada@example.org",
        "user_api_key_user_id": "ada@example.org",
    },
}


def answer(*sources: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an answer of Elasticsearch to a search."""
    hits = [
        {"_id": EVENT_ID, "_index": "litellm-logs-2026.09.21", "_source": source, "sort": [1] * 4}
        for source in sources
    ]
    total = {"value": len(hits), "relation": "eq"}
    return {"hits": {"total": total, "hits": hits}, "_shards": {"total": 1, "failed": 0}, **more}


@dataclass
class FakeSearcher:
    """Answers each search with the same document, or raises."""

    found: Any = field(default_factory=lambda: answer(SOURCE))
    alias: str = "litellm-logs"
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def search(self, body: dict[str, Any]) -> Found:
        self.bodies.append(body)
        if isinstance(self.found, Exception):
            raise self.found
        if "aggs" in body:
            return Found(usage_answer(body))
        return Found(self.found)

    def count(self) -> int:
        return 1


def usage_answer(body: dict[str, Any]) -> dict[str, Any]:
    """Return an answer to a panel's search, with one group whose name is hostile."""
    metric = {"value": {"value": 3.0}}
    percentiles = {"values": {"50.0": 1.0, "95.0": 2.0, "99.0": 3.0}}
    bucket = {"key": int(NOW * 1000), "doc_count": 3, **metric, "p": percentiles}
    group = {"key": "=HYPERLINK(1) ada@example.org", "doc_count": 3, **metric}
    aggs: dict[str, Any] = {
        "time": {"buckets": [bucket]},
        "groups": {"buckets": [{**group, "time": {"buckets": [bucket]}}]},
        "all": percentiles,
        "covered": {"doc_count": 2},
        "named": {"doc_count": 3},
        **metric,
    }
    return answer() | {
        "hits": {"total": {"value": 3, "relation": "eq"}, "hits": []},
        "aggregations": {name: aggs[name] for name in body["aggs"]},
    }


class FakeAudit:
    """Keeps what is written; refuses once `is_down`."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str, str]] = []
        self.details: list[dict[str, Any]] = []
        self.is_down = False

    def write(self, who: str, action: str, what: str, **details: Any) -> None:
        if self.is_down:
            raise KafkaError("the audit topic cannot be written")
        self.written.append((who, action, what))
        self.details.append(details)


LETTER: dict[str, Any] = {
    "coordinates": "t.dlq/0/1",
    "event_id": EVENT_ID,
    "group": "g",
    "writer": "pipeline",
    "source": {"topic": "t", "partition": 0, "offset": 5},
    "stage": "index",
    "disposition": "permanent",
    "fingerprint": "cd6f6273e49e",
    "exception": "the-reason",
    "es": {"status": 400, "type": "document_parsing_exception", "reason": "the-reason",
           "caused_by": "the-reason"},
    "document_id": EVENT_ID,
    "index": "litellm-logs-2026.09.21",
    "model": "gpt-4o",
    "attempts": 1,
    "first_failed_at": "2026-09-21T00:00:00+00:00",
    "last_failed_at": "2026-09-21T00:00:00+00:00",
    "replay_count": 0,
    "mended": [],
    "recovered": False,
    "field": "model",
    "field_value": None,
}  # fmt: skip
STATS: dict[str, Any] = {
    "total": 1, "recovered": 0, "other_groups": 0, "left_out": 0, "topic": "t.dlq",
    "fingerprints": [{
        "fingerprint": "cd6f6273e49e", "stage": "index", "type": "document_parsing_exception",
        "count": 1, "recovered": 0, "first_seen": "2026-09-21T00:00:00+00:00",
        "last_seen": "2026-09-21T00:00:00+00:00", "example": "t.dlq/0/1", "reason": "the-reason",
    }],
    "hours": [{"hour": "2026-09-21T00:00:00+00:00", "count": 1}],
}  # fmt: skip


class FakeDesk:
    """One dead letter."""

    def __init__(self) -> None:
        self.replayed: list[Any] = []
        self.mended: list[tuple[str, str]] = []

    def count_causes(self, _job: Any, _since_ms: int) -> dict[str, Any]:
        return STATS

    def list_letters(self, _job: Any, _wanted: Any) -> list[dict[str, Any]]:
        return [LETTER]

    def read(self, _coordinates: str, *, show_content: bool) -> dict[str, Any]:
        return {**LETTER, "field_value": "the-value" if show_content else None}

    def dry_run(self, _job: Any, wanted: Any, changes: Any = ()) -> dict[str, Any]:
        names = (
            "already_indexed",
            "would_fail",
            "expired",
            "too_many_replays",
            "original_missing",
            "cannot_mend",
        )
        row = {"fingerprint": wanted.fingerprint, "letters": 1, "replay": 1}
        changed = [
            {
                "change": one.kind,
                "field": one.field,
                "letters": 1,
                "absent": 0,
                "before": "the-value",
                "after": "another",
            }
            for one in changes
        ]
        mending = {"changes": changed, "problems": []} if changes else None
        return {"fingerprints": [row | dict.fromkeys(names, 0)], "mending": mending}

    def replay(self, _job: Any, wanted: Any, changes: Any = (), *, by: str = "") -> dict[str, int]:
        self.replayed.append(wanted)
        self.mended += [(by, change.describe()) for change in changes]
        return {"indexed": 1}


class FakeHistory:
    """No sample yet."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    def samples(self) -> list[Any]:
        return self.taken

    def last_status(self) -> Any:
        return next((s for s in reversed(self.taken) if s.status is not None), None)


def new_console(
    *,
    tokens: TokenFile | None = None,
    proxy: ProxyLogin | None = None,
    allow_replay: bool = False,
    show: Callable[[str], None] | None = None,
) -> Console:
    """Return a console without servers."""
    gate = Gate(parse_urls([URL]), Sessions(), COOKIE, tokens, proxy)
    return Console(
        load(environ={}),
        gate,
        FakeSearcher(),  # type: ignore[arg-type]
        FakeHistory(),  # type: ignore[arg-type]
        FakeDesk(),  # type: ignore[arg-type]
        FakeAudit(),  # type: ignore[arg-type]
        lambda event_id, _report: {"verdict": f"DEAD: the-reason {event_id}", "documents": [],
                                   "records": [], "dead_letters": [{"cause": "the-reason"}],
                                   "notes": []},
        lambda user: examine(
            [Check("topic.leaders", f"{user}?", (), lambda: red(HOSTILE, "mend it"))], {}
        ),
        None if show is None else OneTimeLinks(show),
        allow_replay=allow_replay,
        clock=lambda: NOW,
    )  # fmt: skip


def browser(console: Console, *, peer: str = "127.0.0.1") -> TestClient:
    """Return a browser without a login."""
    return TestClient(
        build_app(console), base_url=URL, follow_redirects=False, client=(peer, 50_000)
    )
