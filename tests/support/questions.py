"""Thirty questions: a query for each, and the right answer computed of the payloads themselves."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from support.calls import made_calls

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "questions.md"
Payload = dict[str, Any]


class Question(NamedTuple):
    """One question.

    Attributes:
        text: as people ask it.
        body: of the search.
        esql: the same in ES|QL, which is not run here.
        read: takes the answer out of what Elasticsearch returns.
        right: the answer, of the payloads.
    """

    text: str
    body: dict[str, Any]
    esql: str
    read: Callable[[Any], Any]
    right: Callable[[list[Payload]], Any]


def _of_metadata(name: str) -> Callable[[Payload], Any]:
    return lambda call: call["metadata"][name]


def _value(field: str) -> Callable[[Payload], Any]:
    return lambda call: call[field]


def _by(
    text: str,
    field: str,
    group: Callable[[Payload], Any],
    measure: str,
    number: Callable[[Payload], float],
    where: tuple[dict[str, Any], str, Callable[[Payload], bool]] | None = None,
) -> Question:
    """Return a question for a sum by the values of a field."""
    terms = {"field": field, "size": 100, "order": {"sum": "desc"}}
    aggs = {"groups": {"terms": terms, "aggs": {"sum": {"sum": {"field": measure}}}}}
    body: dict[str, Any] = {"size": 0, "aggs": aggs}
    if where:
        body["query"] = where[0]
    filtered = f" | WHERE {where[1]}" if where else ""

    def right(calls: list[Payload]) -> dict[Any, float]:
        sums: dict[Any, float] = defaultdict(float)
        for call in calls:
            if where is None or where[2](call):
                sums[group(call)] += number(call)
        return dict(sums)

    return Question(
        text, body, f"FROM litellm-logs{filtered} | STATS SUM({measure}) BY {field}",
        _sums_of_groups,
        right,
    )  # fmt: skip


def _sums_of_groups(found: Any) -> dict[Any, float]:
    buckets = found["aggregations"]["groups"]["buckets"]
    return {bucket["key"]: bucket["sum"]["value"] for bucket in buckets}


def _number(
    text: str, kind: str, field: str, number: Callable[[Payload], float | None]
) -> Question:
    """Return a question for the sum, average or maximum of a field, over calls that have it."""
    fold: dict[str, Callable[[list[float]], float]] = {
        "sum": sum, "avg": lambda values: sum(values) / len(values), "max": max,
    }  # fmt: skip

    def right(calls: list[Payload]) -> float:
        return fold[kind]([one for one in map(number, calls) if one is not None])

    return Question(
        text, {"size": 0, "aggs": {"answer": {kind: {"field": field}}}},
        f"FROM litellm-logs | STATS {kind.upper()}({field})",
        lambda found: found["aggregations"]["answer"]["value"], right,
    )  # fmt: skip


def _count(
    text: str, query: dict[str, Any], where: str, is_counted: Callable[[Payload], bool]
) -> Question:
    """Return a question for the number of calls."""
    return Question(
        text, {"size": 0, "track_total_hits": True, "query": query},
        f"FROM litellm-logs | WHERE {where} | STATS COUNT(*)",
        lambda found: found["hits"]["total"]["value"],
        lambda calls: sum(map(is_counted, calls)),
    )  # fmt: skip


def _term(field: str, value: Any) -> dict[str, Any]:
    return {"term": {field: value}}


def _answer_of(call: Payload) -> Payload:
    found: Payload = call["response"]["choices"][0]
    return found


def _tools(call: Payload) -> list[str]:
    return [one["function"]["name"] for one in _answer_of(call)["message"].get("tool_calls", ())]


def _guard(call: Payload) -> Payload:
    found: Payload = (call["guardrail_information"] or [{}])[0]
    return found


def _error(call: Payload) -> Payload:
    return call["error_information"] or {}


def _first_token(call: Payload) -> float | None:
    streamed = call["stream"] and call["completionStartTime"] < call["endTime"]
    return call["completionStartTime"] - call["startTime"] if streamed else None


def _speed(call: Payload) -> float | None:
    if _first_token(call) is None or call["cache_hit"] or not call["completion_tokens"]:
        return None
    return float(call["completion_tokens"] / (call["endTime"] - call["completionStartTime"]))


def _duration(call: Payload) -> float:
    return float(call["endTime"] - call["startTime"])


def _facts(call: Payload) -> Payload:
    found: Payload = call["llmlog_call"]
    return found


def _usage(call: Payload, side: str, name: str) -> float:
    return float(call["metadata"]["usage_object"][f"{side}_tokens_details"][name])


_COST = _value("response_cost")
_TEAM = _of_metadata("user_api_key_team_id")
_FAILED = (_term("status", "failure"), 'status == "failure"', lambda c: c["status"] == "failure")

QUESTIONS: Final = [
    _by("What does each team cost?", "team_id", _TEAM, "response_cost", _COST),
    _by("What does each key cost?", "key_hash", _of_metadata("user_api_key_hash"), "response_cost",
        _COST),
    _by("What does each user cost?", "user_email", _of_metadata("user_api_key_user_email"),
        "response_cost", _COST),
    _by("What does each customer cost?", "end_user", _value("end_user"), "response_cost", _COST),
    _by("What does each model cost?", "gen_ai.request.model", _value("model"), "response_cost",
        _COST),
    _by("What does each provider cost?", "gen_ai.provider.name", _value("custom_llm_provider"),
        "response_cost", _COST),
    _by("What does each tag cost?", "tags", lambda c: c["request_tags"][0], "response_cost", _COST),
    _by("What does each team's input cost?", "team_alias", _of_metadata("user_api_key_team_alias"),
        "input_cost", lambda c: c["cost_breakdown"]["input_cost"]),
    _by("What does each model's output cost?", "model", _value("model"), "output_cost",
        lambda c: c["cost_breakdown"]["output_cost"]),
    _by("How much does the gateway's cache save each team?", "team_id", _TEAM, "saved_cache_cost",
        _value("saved_cache_cost")),
    _by("How many tokens does each provider read from its cache?", "custom_llm_provider",
        _value("custom_llm_provider"), "cached_tokens",
        lambda c: _usage(c, "prompt", "cached_tokens")),
    _by("How many tokens does each model spend on reasoning?", "model", _value("model"),
        "reasoning_tokens", lambda c: _usage(c, "completion", "reasoning_tokens")),
    _by("How long did people wait for failures, by class?", "error_class",
        lambda c: _error(c)["error_class"], "duration", _duration, _FAILED),
    _by("How long did they wait for failures, by provider?", "error_provider",
        lambda c: _error(c)["llm_provider"], "duration", _duration, _FAILED),
    _by("How much of the cost is of calls with tools, by tool?", "tool_names_called",
        lambda c: _tools(c)[0], "response_cost", _COST,
        ({"exists": {"field": "tool_names_called"}}, "tool_names_called IS NOT NULL",
         lambda c: bool(_tools(c)))),
    _number("What is the mean duration?", "avg", "duration", _duration),
    _number("What is the mean time to the first token?", "avg", "time_to_first_token",
            _first_token),
    _number("How fast are streams, in tokens a second?", "avg", "tokens_per_second", _speed),
    _number("How much time does LiteLLM itself take?", "sum", "overhead",
            lambda c: c["hidden_params"]["litellm_overhead_time_ms"] / 1000),
    _number("How long do requests wait in the proxy at most?", "max", "queue_time",
            lambda c: _facts(c)["queue_time_seconds"]),
    _number("What has the team that spent most spent?", "max", "team_spend",
            lambda c: c["metadata"]["user_api_key_team_spend"]),
    _number("What did it all cost?", "sum", "response_cost", _COST),
    _count("How many calls hit a rate limit?", _term("error_code", "429"), 'error_code == "429"',
           lambda c: _error(c).get("error_code") == "429"),
    _count("How many calls did a guardrail stop?", _term("guardrail_action", "BLOCKED"),
           'guardrail_action == "BLOCKED"',
           lambda c: _guard(c).get("guardrail_action") == "BLOCKED"),
    _count("How many calls did the guardrail `pii` look at?", _term("guardrail_names", "pii"),
           'guardrail_names == "pii"', lambda c: _guard(c).get("guardrail_name") == "pii"),
    _count("Which calls used the tool `run_sql`?", _term("tool_names_called", "run_sql"),
           'tool_names_called == "run_sql"', lambda c: "run_sql" in _tools(c)),
    _count("How many calls are second tries?", _term("attempt", 2), "attempt == 2",
           lambda c: _facts(c)["attempted_retries"] == 1),
    _count("How many calls are fallbacks of `chat`?", _term("fallback_from", "chat"),
           'fallback_from == "chat"', lambda c: _facts(c)["attempted_fallbacks"] > 0),
    _count("Who asked for the tram, in German?", {"match": {"prompt_text": "Straßenbahn"}},
           'MATCH(prompt_text, "Straßenbahn")',
           lambda c: "Straßenbahn" in c["messages"][0]["content"]),
    _count("Who asked about an index, in Chinese?",
           {"match_phrase": {"prompt_text": "数据库索引"}},
           'MATCH_PHRASE(prompt_text, "数据库索引")',
           lambda c: "数据库索引" in c["messages"][0]["content"]),
]  # fmt: skip

_TOP: Final = """# Thirty questions

What people ask of their calls, each with a query and its answer on 2,000 made calls
([`tests/support/calls.py`](../tests/support/calls.py)). Each query is run on a real Elasticsearch 8
and 9 by `tests/integration/test_documents.py`, and its answer is compared with one that is computed
of the payloads. ES|QL beside it is not run. `pipeline report --by` answers the most common of them
without a query. This page is made by `python tests/support/questions.py`.
"""


def page() -> str:
    """Return the text of the page."""
    calls, parts = made_calls(), [_TOP]
    for number, question in enumerate(QUESTIONS, start=1):
        answer = question.right(calls)
        shown = f"{answer:g}" if not isinstance(answer, dict) else ", ".join(
            f"{key}: {value:g}" for key, value in sorted(answer.items(), key=lambda i: -i[1])[:3]
        )  # fmt: skip
        more = " …" if isinstance(answer, dict) and len(answer) > 3 else ""
        parts.append(
            f"\n## {number}. {question.text}\n\n    POST litellm-logs/_search\n"
            f"    {json.dumps(question.body, ensure_ascii=False)}\n\n"
            f"ES|QL, not run here: `{question.esql}`\n\nAnswer: {shown}{more}\n"
        )
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
