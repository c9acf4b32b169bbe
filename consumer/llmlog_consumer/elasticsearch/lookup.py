"""Owns the look-up of documents by event id, where users look: behind the alias.

Three questions answer it. A search finds every copy behind the alias, and in daily indices that
have lost the alias. What it does not find is asked for in the index of its time and group, which
answers without a refresh and says of each document why it cannot be looked up. The alias says what
users see.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.errors import ElasticsearchError, ElasticsearchUnreachable
from llmlog_consumer.elasticsearch.connection import NOT_FOUND
from llmlog_consumer.elasticsearch.index_names import daily_indices, home_index, read_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from llmlog_consumer.elasticsearch.connection import Answer, Elastic

MAX_PATH_CHARACTERS: Final = 2_000
"""Names of indices that are listed in a path: Elasticsearch takes 4,096 bytes of a request line."""

FORBIDDEN: Final = 403

REFRESH_TIMEOUT_SECONDS: Final = 10.0
"""Time for a refresh: an index without its primary shard would have it wait for a minute."""

REFRESH_SECONDS: Final = 5.0
"""The refresh interval of the template, where an index does not say its own."""
MAX_REFRESH_SECONDS: Final = 60.0
"""Time that is waited at most for an index that refreshes itself."""

_BLOCKED: Final = re.compile(r"index \[([^\[\]]{1,255})\] blocked by: \[[^\]]{0,100}?([\w -]+) \(")
_DURATION: Final = re.compile(r"(\d{1,9})(ms|s|m)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}
_WHY: Final = {
    "index_closed_exception": "is closed",
    "no_shard_available_action_exception": "has no shard that answers",
}


@dataclass(frozen=True)
class Limits:
    """The sizes of one look-up.

    Attributes:
        ids: event ids of one search.
        hits: hits that are asked for, at most what Elasticsearch returns.
        documents: of one request for documents by index and id.
    """

    ids: int = 2_000
    hits: int = 10_000
    documents: int = 1_000


_LIMITS: Final = Limits()


@dataclass
class Found:
    """What a look-up found.

    Attributes:
        indices: that hold a document, by event id; one index twice where it has two there.
        unknown: what is wrong with the index, by id of an event that could not be looked up.
        unread: what is wrong with an index that a search left out, by index: copies in it are not
            seen.
    """

    indices: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    unknown: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


class DocumentLookup:
    """Looks documents up by event id.

    Args:
        elastic: the connection.
        alias: that users search.
        limits: sizes of one look-up.
        sleep: waits for some seconds.

    Attributes:
        unread: what is wrong with an index that searches leave out, by index.
    """

    def __init__(
        self,
        elastic: Elastic,
        alias: str,
        *,
        limits: Limits = _LIMITS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._elastic = elastic
        self._alias = alias
        self._limits = limits
        self._sleep = sleep
        self._behind: frozenset[str] | None = None
        self._is_alias_read = False
        self.unread: dict[str, str] = {}

    # What is there

    def behind_alias(self) -> frozenset[str] | None:
        """Return the indices that users search, as of the last `refresh`; None if not allowed.

        Raises:
            ElasticsearchError: Elasticsearch refuses for another reason.
            ElasticsearchUnreachable: it does not answer.
        """
        if not self._is_alias_read:
            answer = self._elastic.request("GET", f"/_alias/{self._alias}")
            if answer.status == NOT_FOUND:
                # An index may have the alias's name.
                self._behind = frozenset({self._alias})
            elif answer.status == FORBIDDEN:
                self._behind = None
            else:
                self._behind = frozenset(self._require(answer, f"GET /_alias/{self._alias}"))
            self._is_alias_read = True
        return self._behind

    def refresh(self) -> str:
        """Make visible to searches what was indexed until now; say so where that meant waiting.

        Raises:
            ElasticsearchUnreachable: Elasticsearch does not answer.
        """
        self._is_alias_read = False  # an index may be new since
        path = f"/{self._path()}/_refresh"
        what = self._try_refresh(path)
        if not what:
            return ""
        seconds = self._refresh_seconds()
        self._sleep(seconds)
        return f"{what}: waited {seconds:g} s for their own refresh instead"

    def _try_refresh(self, path: str) -> str:
        """Return why not all has been refreshed; empty where it has."""
        ignore = {"ignore_unavailable": "true"}
        try:
            answer = self._elastic.request(
                "POST", path, params=ignore, timeout=REFRESH_TIMEOUT_SECONDS
            )
        except ElasticsearchUnreachable:  # whether it is away, the next request tells
            return f"a refresh of {self._alias} had no answer"
        failed = answer.body.get("_shards", {}).get("failed") if answer.good else 0
        if answer.good and not failed:
            return ""
        if answer.status == FORBIDDEN:
            return f"this user may not refresh the indices of {self._alias} (grant `maintenance`)"
        return f"{failed or 'all'} shards of {self._alias} did not refresh"

    def search(self, body: Mapping[str, Any], fields: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return the hits of a search behind the alias and in daily indices that have lost it.

        Indices that cannot be searched are left out, and are in `unread` then.

        Args:
            body: of the search.
            fields: of a hit that are returned; empty for all.

        Raises:
            ElasticsearchError: Elasticsearch refuses, or this is no answer to a search.
            ElasticsearchUnreachable: no answer, or one that broke off.
        """
        params = {"ignore_unavailable": "true", "allow_partial_search_results": "true"}
        if fields:
            hits = [f"hits.hits.{name}" for name in fields]
            # `error` and `status` are there where it is refused.
            params["filter_path"] = ",".join((*hits, "_shards", "timed_out", "error", "status"))
        while True:
            path = f"/{self._path()}/_search"
            answer = self._elastic.request(
                "POST", path, body=body, params=params, is_whole=_names_shards
            )
            blocked = self._blocked_index(answer)
            if blocked is None:
                break
            self.unread[blocked[0]] = blocked[1]
        return self._read_hits(answer, path)

    # Documents of events

    def find(self, ids: Sequence[str], places: Mapping[str, str] | None = None) -> Found:
        """Look events up, any number of them.

        Args:
            ids: well-formed.
            places: period and group of each event's index, by its id; None where they are not
                known: then every index of its time is asked.

        Raises:
            ElasticsearchError: Elasticsearch refuses.
            ElasticsearchUnreachable: it does not answer.
        """
        found = Found()
        for some in _split(ids, self._limits.ids):
            for hit in self._search_ids(some):
                found.indices[hit["_id"]].append(hit["_index"])
        missing = [event_id for event_id in ids if event_id not in found.indices]
        homes = self._homes(missing, places) if missing else []
        for some in _split(homes, self._limits.documents):
            self._ask_for(some, found)
        found.unread |= self.unread
        return found

    def _search_ids(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        body = {
            "size": self._limits.hits,
            "_source": False,
            "track_total_hits": False,
            "query": {"ids": {"values": list(ids)}},
        }
        hits = self.search(body, fields=("_id", "_index"))
        if len(hits) < self._limits.hits or len(ids) == 1:
            return hits
        # Many copies of one document may have left no room for those of others.
        middle = len(ids) // 2
        return self._search_ids(ids[:middle]) + self._search_ids(ids[middle:])

    def _homes(self, ids: Sequence[str], places: Mapping[str, str] | None) -> list[tuple[str, str]]:
        """Return index and event id, for each index that an event's document may belong into."""
        if places is not None:
            known = ((event_id, [places[event_id]]) for event_id in ids)
        else:
            every = self._places_there()
            known = ((event_id, every) for event_id in ids)
        return [
            (name, event_id)
            for event_id, some in known
            for place in some
            if (name := home_index(self._alias, event_id, place))
        ]

    def _places_there(self) -> list[str]:
        """Return the periods and groups of all daily indices that there are."""
        params = {"expand_wildcards": "all", "filter_path": "*.aliases"}
        path = f"/{daily_indices(self._alias)}/_alias"
        answer = self._elastic.request("GET", path, params=params)
        names = answer.body if answer.good and isinstance(answer.body, dict) else ()
        read = (read_name(self._alias, name) for name in names)
        return sorted({"", *(one.place for one in read if one)})

    def _ask_for(self, homes: Sequence[tuple[str, str]], found: Found) -> None:
        """Ask for documents in the indices of their time.

        Args:
            homes: index and event id.
            found: what is found is added to it.
        """
        docs = [{"_index": name, "_id": event_id, "_source": False} for name, event_id in homes]
        answer = self._elastic.demand("POST", "/_mget", body={"docs": docs})
        answers = answer.get("docs") or ()
        if len(answers) != len(docs):
            raise ElasticsearchError("Elasticsearch: POST /_mget: no answer for each document")
        elsewhere = [why for index, why in self.unread.items() if not self._is_daily(index)]
        for (name, event_id), doc in zip(homes, answers, strict=True):
            if doc.get("found"):
                found.indices[event_id].append(name)
                found.unknown.pop(event_id, None)
            elif event_id in found.indices:
                continue
            elif "error" in doc:
                # Without an index of its day, its document may be in another behind the alias.
                why = describe_unreadable(name, doc["error"]) or next(iter(elsewhere), "")
                if why:
                    found.unknown[event_id] = why

    # Requests

    def _path(self) -> str:
        """Return what is searched: daily indices, and what else is behind the alias."""
        daily = daily_indices(self._alias)
        behind = self.behind_alias()
        left_out = sorted(f"-{name}" for name in self.unread if self._is_daily(name))
        others = sorted(
            name for name in behind or () if not self._is_daily(name) and name not in self.unread
        )
        path = ",".join((daily, *others, *left_out))
        if behind is None or len(path) > MAX_PATH_CHARACTERS:
            return ",".join((daily, *([] if self.unread else [self._alias]), *left_out))
        return path

    def _is_daily(self, name: str) -> bool:
        return name.startswith(daily_indices(self._alias).removesuffix("*"))

    def _blocked_index(self, answer: Answer) -> tuple[str, str] | None:
        """Return the index whose block refuses a search of many, and what is wrong with it."""
        if answer.ok or answer.error.get("type") != "cluster_block_exception":
            return None
        match = _BLOCKED.search(str(answer.error.get("reason", ""))[:1000])
        if match is None or match[1] in self.unread:
            return None
        return match[1], f"index {match[1]} is blocked ({match[2].strip()})"

    def _read_hits(self, answer: Answer, path: str) -> list[dict[str, Any]]:
        if not answer.ok and (failures := _shard_failures(answer.error.get("failed_shards"))):
            self.unread |= failures
            return []
        body = self._require(answer, f"POST {path}")
        # `filter_path` leaves an empty list of hits out, but never what it was asked about shards.
        if not isinstance(shards := body.get("_shards"), dict):
            raise ElasticsearchError(f"Elasticsearch: POST {path}: no answer to a search")
        if body.get("timed_out"):
            raise ElasticsearchUnreachable(
                f"Elasticsearch broke off a search of {path}: run this again when it has less to do"
            )
        if failed := shards.get("failed"):
            failures = _shard_failures(shards.get("failures"))
            if not failures:
                raise ElasticsearchUnreachable(
                    f"Elasticsearch left {failed} shards out of a search of {path}: run this again "
                    "when the cluster is green"
                )
            self.unread |= failures
        hits: list[dict[str, Any]] = body.get("hits", {}).get("hits", [])
        return hits

    def _require(self, answer: Answer, request: str) -> Any:
        """Return the body of a good answer."""
        if answer.good:
            return answer.body
        where = f"Elasticsearch at {self._elastic.where}"
        if answer.not_now:
            raise ElasticsearchUnreachable(f"{where}: {answer.describe()}")
        raise ElasticsearchError(f"{where}: {request}: {answer.describe()}")

    def _refresh_seconds(self) -> float:
        """Return how long an index needs at most to show what was indexed."""
        params = {"flat_settings": "true", "include_defaults": "true"}
        path = f"/{daily_indices(self._alias)}/_settings/index.refresh_interval"
        answer = self._elastic.request("GET", path, params=params)
        intervals = [REFRESH_SECONDS]
        if answer.good:
            intervals += [_seconds(index) for index in answer.body.values()]
        return min(max(intervals) + 1, MAX_REFRESH_SECONDS)


def describe_unreadable(index: str, error: Any) -> str:
    """Say why documents of an index cannot be looked up; empty where there is no such index.

    Args:
        index: its name.
        error: of an answer.
    """
    if not isinstance(error, dict):
        return f"index {index}: {error}"[:300]
    kind, reason = str(error.get("type", "")), str(error.get("reason", ""))[:1000]
    if kind == "index_not_found_exception":
        return ""
    if match := _BLOCKED.search(reason):
        return f"index {index} is blocked ({match[2].strip()})"
    return f"index {index} {_WHY.get(kind) or f'cannot be read: {kind}: {reason}'}"[:300]


def _shard_failures(failures: Any) -> dict[str, str]:
    """Return what is wrong, by index, from the failures of a search."""
    found: dict[str, str] = {}
    for failure in failures if isinstance(failures, list) else ():
        name = failure.get("index")
        if name:
            found[name] = (
                describe_unreadable(name, failure.get("reason")) or f"index {name} is gone"
            )
    return found


def _seconds(index: Any) -> float:
    """Return an index's refresh interval in seconds, as its settings have it."""
    texts = (index.get(part, {}).get("index.refresh_interval") for part in ("settings", "defaults"))
    match = _DURATION.fullmatch(next(filter(None, texts), ""))
    return int(match[1]) * _UNITS[match[2]] if match else 0.0


def _names_shards(body: Any) -> bool:
    return isinstance(body, dict) and "_shards" in body


def _split(items: Sequence[Any], number: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), number):
        yield items[start : start + number]
