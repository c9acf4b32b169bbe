"""Owns what `pipeline report` reads: LiteLLM's three queries, and what they do not count."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ElasticsearchError, ElasticsearchUnreachable
from llmlog_consumer.checks.breakdown import NONE, query_of, read_answer
from llmlog_consumer.elasticsearch.connection import NOT_FOUND
from llmlog_consumer.elasticsearch.index_names import daily_indices, is_daily_index
from llmlog_consumer.elasticsearch.patience import describe_gap
from llmlog_consumer.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmlog_common.groups import Period
    from llmlog_consumer.elasticsearch.connection import Answer, Elastic

COST_BY_MODEL: Final[dict[str, Any]] = {
    "models": {
        "terms": {
            "field": "model",
            "size": 1000,
            "order": {"total_cost": "desc"},
            "missing": NONE,
        },
        "aggs": {
            "total_cost": {"sum": {"field": "response_cost"}},
            "tokens": {"sum": {"field": "total_tokens"}},
            "avg_response_time": {"avg": {"field": "response_time"}},
            "failures": {"filter": {"term": {"status": "failure"}}},
        },
    },
    "avg_response_time": {"avg": {"field": "response_time"}},
    "percentiles": {"percentiles": {"field": "response_time", "percents": [50, 95, 99]}},
}
_ERROR_FIELDS: Final = ["endTime", "model", "error_str", "error_information", "litellm_call_id"]
_FORBIDDEN: Final = 403
_CLOSED: Final = "index_closed_exception"
_OF_INDICES: Final = {
    "expand_wildcards": "all",
    "filter_path": "*.aliases,*.settings.index.uuid,*.settings.index.verified_before_close",
}


class Reporter:
    """Reads one report of what is behind the alias, and says what it could not read.

    Args:
        elastic: the connection.
        alias: where users search.
        note: told in a line what does not make the report wrong, but older than it could be.
        groups: that settings name, whose indices belong behind the alias too.
        period: of indices, as settings have it.
    """

    def __init__(
        self,
        elastic: Elastic,
        alias: str,
        note: Callable[[str], None],
        *,
        groups: tuple[str, ...] = (),
        period: Period = "day",
    ) -> None:
        self._is_daily = partial(is_daily_index, alias, groups=groups, period=period)
        self._elastic = elastic
        self._alias = alias
        self._note = note
        self._left_out: list[str] = []
        self._params: dict[str, str] = {}

    def report(self, since_ms: int | None) -> dict[str, Any]:
        """Return what `pipeline report --json` prints.

        Args:
            since_ms: epoch milliseconds of the oldest calls; None for all.

        Raises:
            ElasticsearchError: there is no index behind the alias, or Elasticsearch refuses.
            ElasticsearchUnreachable: no node answers.
        """
        window = self._begin(since_ms)
        numbers = self._search({
            "size": 0,
            "track_total_hits": True,
            "query": {"bool": {"filter": window}},
            "aggs": COST_BY_MODEL,
        })  # fmt: skip
        errors = self._search({
            "query": {"bool": {"filter": [{"term": {"status": "failure"}}, *window]}},
            "size": 10,
            "sort": [{"endTime": {"order": "desc"}}],
            "_source": _ERROR_FIELDS,
        })  # fmt: skip
        return build_report(numbers, errors, self._left_out)

    def report_by(self, by: str, top: int, since_ms: int | None) -> dict[str, Any]:
        """Return what `pipeline report --by … --json` prints.

        Args:
            by: a word of `breakdown.QUESTIONS` or `RANKINGS`.
            top: groups or calls at most.
            since_ms: epoch milliseconds of the oldest calls; None for all.

        Raises:
            ElasticsearchError: there is no index behind the alias, or Elasticsearch refuses.
            ElasticsearchUnreachable: no node answers.
        """
        window = self._begin(since_ms)
        answer = self._search(query_of(by, top, window))
        return {**read_answer(by, top, answer), "left_out": self._left_out}

    def _begin(self, since_ms: int | None) -> list[Any]:
        """Look at what is behind the alias, and refresh it; return the filters of the calls."""
        self._find_left_out()
        self._refresh()
        return [] if since_ms is None else [{"range": {"@timestamp": {"gte": since_ms}}}]

    def _find_left_out(self) -> None:
        """Name the daily indices that a search of the alias does not see.

        Raises:
            ElasticsearchError: it sees none.
        """
        alias = self._alias
        path = f"/{daily_indices(alias)}"
        listed = self._elastic.request("GET", path, params=_OF_INDICES)
        if listed.status == _FORBIDDEN:
            self._note(
                f"this user may not look at the indices behind {alias} (privilege "
                "`view_index_metadata`): whether the alias has all of them is not known"
            )
            return
        there = self._elastic.body_of(listed, "GET", path)
        daily = {index: found for index, found in sorted(there.items()) if self._is_daily(index)}
        outside = [index for index in daily if alias not in (daily[index].get("aliases") or {})]
        if self._elastic.find(f"/_alias/{alias}") is None and not self._is_index():
            raise ElasticsearchError(f"no index behind {alias}: {_explain_none(outside)}")
        if outside:
            self._left_out.append(
                f"{_names(outside)} not behind {alias}, where users search: run `pipeline setup`"
            )
        closed = [
            index
            for index, found in daily.items()
            if index not in outside
            and found.get("settings", {}).get("index", {}).get("verified_before_close") == "true"
        ]
        if closed:
            self._left_out.append(f"{_names(closed)} closed: `POST /INDEX/_open`")

    def _is_index(self) -> bool:
        return self._elastic.find(f"/{self._alias}/_mapping") is not None

    def _refresh(self) -> None:
        answer = self._post(f"/{self._alias}/_refresh")
        if answer.status == _FORBIDDEN:
            self._note(
                f"this user may not refresh {self._alias} (privilege `maintenance`): calls of the "
                "last seconds may be missing"
            )
            return
        if answer.status == NOT_FOUND:
            raise ElasticsearchError(f"no index behind {self._alias}: {_explain_none([])}")
        self._elastic.body_of(answer, "POST", f"/{self._alias}/_refresh")

    def _search(self, body: Any) -> Any:
        path = f"/{self._alias}/_search"
        answer = self._post(path, body)
        found = self._elastic.body_of(answer, "POST", path)
        gap = describe_gap(found)
        if gap and gap not in self._left_out:
            self._left_out.append(gap)
        if "hits" not in found:
            raise ElasticsearchUnreachable(f"Elasticsearch: POST {path}: no answer to a search")
        return found

    def _post(self, path: str, body: Any = None) -> Answer:
        answer = self._elastic.request("POST", path, body=body, params=self._params)
        if answer.error.get("type") == _CLOSED and not self._params:
            # A closed index refuses the whole request: without it, and it was said already.
            self._params = {"ignore_unavailable": "true"}
            index = str(answer.error.get("index"))
            if not any(index in line for line in self._left_out):
                self._left_out.append(f"{index} is closed: `POST /INDEX/_open`")
            answer = self._elastic.request("POST", path, body=body, params=self._params)
        return answer


def _explain_none(outside: list[str]) -> str:
    if outside:
        return f"{_names(outside)} not behind it any more: run `pipeline setup`, which mends that"
    return (
        "no daily index exists: no event was indexed yet, or all of them were deleted; "
        "`pipeline setup` installs what is missing, `pipeline status` says whether events wait"
    )


def _names(indices: Iterable[str]) -> str:
    """Return `X is`, or `X, Y and 3 more are`."""
    names = list(indices)
    shown, more = ", ".join(names[:3]), len(names) - 3
    if more > 0:
        return f"{shown} and {more} more are"
    return f"{shown} {'is' if len(names) == 1 else 'are'}"


def build_report(numbers: Any, errors: Any, left_out: Iterable[str] = ()) -> dict[str, Any]:
    """Return what `pipeline report --json` prints, of the answers of both searches.

    Args:
        numbers: of the search with aggregations.
        errors: of the search for the newest failures.
        left_out: in a line each, what the answers do not count.
    """
    aggs = numbers["aggregations"]
    return {
        "events": numbers["hits"]["total"]["value"],
        "models": [
            {
                "model": bucket["key"],
                "events": bucket["doc_count"],
                "failures": bucket["failures"]["doc_count"],
                "total_cost": bucket["total_cost"]["value"],
                "total_tokens": int(bucket["tokens"]["value"]),
                "avg_response_time": bucket["avg_response_time"]["value"],
            }
            for bucket in aggs["models"]["buckets"]
        ],
        "others": aggs["models"].get("sum_other_doc_count", 0),
        "response_time": {
            "avg": aggs["avg_response_time"]["value"],
            **{f"p{float(p):g}": v for p, v in aggs["percentiles"]["values"].items()},
        },
        "errors": [
            {
                "at": iso(source.get("endTime")),
                "model": source.get("model"),
                "error_class": (source.get("error_information") or {}).get("error_class"),
                "error": source.get("error_str"),
                "litellm_call_id": source.get("litellm_call_id"),
            }
            for source in (hit["_source"] for hit in errors["hits"]["hits"])
        ],
        "left_out": list(left_out),
    }
