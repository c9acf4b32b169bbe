"""A deployment without servers: a topic, its dead letters and its daily indices, as checks ask."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from llmlog_common.errors import ElasticsearchUnreachable, KafkaError
from llmlog_common.settings import load
from llmlog_consumer.checks.sources import OnProgress, Sources
from llmlog_consumer.dead_letters.filters import GroupFilter
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.elasticsearch.connection import Answer
from llmlog_consumer.kafka.admin import Group, Member, Topic
from llmlog_consumer.kafka.committed import CommittedOffset
from llmlog_consumer.kafka.places import Log, Place
from llmlog_schemas.codec import SchemaSource
from support.messages import Message

SETTINGS = load(environ={"LLMLOG_INDEX": "logs"})
TODAY = f"logs-{time.strftime('%Y.%m.%d', time.gmtime())}"

_DEFAULT_HITS = 10


@dataclass
class FakeKafka:
    """Kafka's answers about one topic: admin, offsets and gaps in one.

    Attributes:
        logs: start and end of each partition.
        committed_offsets: of the group; partitions without one are left out.
        later_logs: answers of `watermarks` where they differ from `logs`: it is asked later.
        accepted: gaps by partition.
        notes: of workers, by partition.
        changing: notes that change with each look, as those of living workers do.
        later_offsets: of the group, at each further look.
        member_count: of the group; the first has all partitions.
        group_members: in their place.
        group_state: as Kafka names it.
        stable_ends: where an open transaction ends what may be read.
        leaderless: partitions without a leader.
        dead_letter_log: start and end of the dead-letter topic; None where there is none.
        first_at: by epoch milliseconds, the first offset of each partition written then or later.
        questions: partitions of each call of `watermarks` for the source topic.
    """

    logs: dict[int, tuple[int, int]]
    committed_offsets: dict[int, int] = field(default_factory=dict)
    later_logs: dict[int, tuple[int, int]] = field(default_factory=dict)
    accepted: dict[int, list[Any]] = field(default_factory=dict)
    notes: dict[int, dict[str, Any]] = field(default_factory=dict)
    changing: bool = False
    later_offsets: list[dict[int, int]] = field(default_factory=list)
    member_count: int = 1
    group_members: tuple[Member, ...] | None = None
    group_state: str = ""
    stable_ends: dict[int, int] = field(default_factory=dict)
    leaderless: frozenset[int] = frozenset()
    dead_letter_log: tuple[int, int] | None = None
    first_at: dict[int, dict[int, int]] = field(default_factory=dict)
    questions: list[list[int]] = field(default_factory=list)

    def require(self, topic):
        assert topic == SETTINGS.topic
        return Topic(len(self.logs), 1)

    def topics(self):
        names = {SETTINGS.topic: Topic(len(self.logs), 1)}
        if self.dead_letter_log is not None:
            names[SETTINGS.dlq_topic] = Topic(1, 1)
        return names, 1

    def group(self):
        members = self.group_members
        if members is None:
            everything = (frozenset(self.logs), *[frozenset()] * self.member_count)
            members = tuple(
                Member(f"member-{n}", "127.0.0.1", everything[n]) for n in range(self.member_count)
            )
        return Group(self.group_state or ("stable" if members else "empty"), members)

    def places_with_notes(self, topic, partitions=None):
        committed = self.committed_with_notes(topic)
        offsets = {p: committed[p].offset if p in committed else None for p in self.logs}
        logs = self.bounds(topic, self.logs if partitions is None else partitions)
        return {p: Place(topic, p, offsets[p], log) for p, log in logs.items()}, committed

    def places(self, topic, partitions=None):
        return self.places_with_notes(topic, partitions)[0]

    def bounds(self, topic, partitions, leaderless=()):
        if topic == SETTINGS.dlq_topic:
            return {0: Log(*self.dead_letter_log, self.dead_letter_log[1])}
        now = {**self.logs, **self.later_logs}
        return {
            p: None
            if p in self.leaderless
            else Log(now[p][0], self.stable_ends.get(p, now[p][1]), now[p][1])
            for p in partitions
            if p in now
        }

    def ranges_since(self, topic, since_ms):
        assert topic == SETTINGS.topic
        return dict(self.logs) if since_ms is None else self.narrow(topic, self.logs, since_ms)

    def narrow(self, topic, logs, since_ms):
        first = self.offsets_at(topic, logs, since_ms)
        return {p: (max(start, first.get(p, end)), end) for p, (start, end) in logs.items()}

    def offsets_at(self, topic, partitions, ms):
        assert topic == SETTINGS.topic
        return {p: offset for p, offset in self.first_at[ms].items() if p in partitions}

    def watermarks(self, topic, partitions):
        if topic == SETTINGS.dlq_topic:
            return {0: self.dead_letter_log}
        assert topic == SETTINGS.topic
        self.questions.append(list(partitions))
        now = {**self.logs, **self.later_logs}
        return {p: log for p, log in now.items() if p in partitions}

    def committed(self, topic, partitions):
        assert topic == SETTINGS.topic
        return {p: offset for p, offset in self.committed_offsets.items() if p in partitions}

    def committed_with_notes(self, topic):
        assert topic == SETTINGS.topic
        answer = {
            p: CommittedOffset(o, self.notes.get(p, {})) for p, o in self.committed_offsets.items()
        }
        if self.later_offsets:
            self.committed_offsets = self.later_offsets.pop(0)
        if self.changing:
            self.notes = {p: {**n, "at": n["at"] + 3000} for p, n in self.notes.items()}
        return answer

    def of_topic(self, topic):
        assert topic == SETTINGS.topic
        return self.accepted


class FakeElastic:
    """Indices with documents, looked up as Elasticsearch does.

    A search finds a document after a refresh of its index, a request by index and id at once. Ten
    hits are returned unless more are asked for. Daily indices are behind the alias.

    Attributes:
        failing: indices with a shard that does not answer.
        closed: indices that are closed.
        blocked: indices with a block that refuses reading.
        detached: daily indices that are not behind the alias.
        attached: other indices that are behind it.
        alias_status: of the answer which indices are behind the alias.
        refresh_status: of the answer to a refresh.
        refresh_hangs: a refresh has no answer.
        refresh_interval: of every index.
        asked: method and path of each request.
        searches: body and parameters of each search.
    """

    where = "fake"

    def __init__(self) -> None:
        self.refreshed: list[tuple[str, str, dict[str, Any]]] = []
        self.unrefreshed: list[tuple[str, str, dict[str, Any]]] = []
        self.failing: set[str] = set()
        self.closed: set[str] = set()
        self.blocked: set[str] = set()
        self.detached: set[str] = set()
        self.attached: set[str] = set()
        self.timed_out = self.refresh_hangs = False
        self.alias_status = self.refresh_status = 200
        self.refresh_interval = "5s"
        self.asked: list[tuple[str, str]] = []
        self.searches: list[tuple[Any, Mapping[str, str]]] = []
        self.on_search: list[Any] = []

    def index(self, index: str, document_id: str, **source: Any) -> None:
        self.unrefreshed.append((index, document_id, source))

    def refresh(self, pattern: str = "*") -> None:
        self.refreshed += [one for one in self.unrefreshed if _names(pattern, one[0])]
        self.unrefreshed = [one for one in self.unrefreshed if one not in self.refreshed]

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        timeout: float = 0.0,
        **_: Any,
    ) -> Answer:
        self.asked.append((method, path))
        if path.startswith("/_alias/"):
            names = {name for name, *_ in self.refreshed + self.unrefreshed} | self.closed
            daily = {name for name in names if fnmatch(name, f"{SETTINGS.index}-2*")}
            behind = daily - self.detached | self.attached
            status = self.alias_status if behind or self.alias_status != 200 else 404
            return Answer(status, {name: {} for name in behind})
        pattern, action, *_ = path.strip("/").split("/")
        if action == "_refresh":
            if self.refresh_hangs:
                raise ElasticsearchUnreachable(f"no answer in {timeout} s")
            if self.refresh_status == 200:
                self.refresh(pattern)
            return Answer(self.refresh_status, {})
        if action == "_alias":
            names = {name for name, *_ in self.refreshed + self.unrefreshed} | self.closed
            return Answer(200, {name: {"aliases": {}} for name in names})
        if action == "_settings":
            setting = {"defaults": {"index.refresh_interval": self.refresh_interval}}
            return Answer(200, {"any": setting})
        return self._search(pattern, body, params or {})

    def demand(self, method: str, path: str, *, body: Any) -> Any:
        assert (method, path) == ("POST", "/_mget")
        self.asked.append((method, path))
        return {"docs": [self._get(doc["_index"], doc["_id"]) for doc in body["docs"]]}

    def _get(self, index: str, document_id: str) -> dict[str, Any]:
        documents = {one[:2] for one in self.refreshed + self.unrefreshed}
        if index in self.closed:
            return {"error": {"type": "index_closed_exception", "reason": "closed"}}
        if index in self.failing:
            return {"error": {"type": "no_shard_available_action_exception", "reason": None}}
        if index in self.blocked:
            return {"error": _block(index)}
        if index not in {name for name, _ in documents}:
            return {"error": {"type": "index_not_found_exception", "reason": "no such index"}}
        return {"found": (index, document_id) in documents}

    def _search(self, pattern: str, body: Any, params: Mapping[str, str]) -> Answer:
        self.searches.append((body, params))
        for index in sorted(self.blocked):
            if _names(pattern, index):
                return Answer(403, {"error": _block(index)})
        failed = sorted(index for index in self.failing if _names(pattern, index))
        hits = [
            {"_index": index, "_id": document_id, "_source": source}
            for index, document_id, source in self.refreshed
            if _names(pattern, index)
            and index not in failed
            and index not in self.closed
            and _matches(body["query"], document_id, source)
        ]
        for hook in self.on_search:
            hook()
        reason = {"type": "no_shard_available_action_exception", "reason": None}
        failures = [{"index": index, "reason": reason} for index in failed]
        shards = {"failed": len(failed), **({"failures": failures} if failures else {})}
        answer = {
            "timed_out": self.timed_out,
            "_shards": shards,
            "hits": {"hits": hits[: body.get("size", _DEFAULT_HITS)]},
        }
        return Answer(200, answer)


def _names(pattern: str, index: str) -> bool:
    """Tell whether a path's list of indices names one; `-` before a name leaves it out."""
    parts = pattern.split(",")
    if f"-{index}" in parts:
        return False
    is_alias = SETTINGS.index in parts and index.startswith(f"{SETTINGS.index}-2")
    return is_alias or any(fnmatch(index, part) for part in parts)


def _block(index: str) -> dict[str, str]:
    reason = f"index [{index}] blocked by: [FORBIDDEN/7/index read (api)];"
    return {"type": "cluster_block_exception", "reason": reason}


def _matches(query: Mapping[str, Any], document_id: str, source: Mapping[str, Any]) -> bool:
    ((kind, wanted),) = query.items()
    if kind == "bool":
        return any(_matches(one, document_id, source) for one in wanted["should"])
    if kind == "ids":
        return document_id in wanted["values"]
    ((name, value),) = wanted.items()
    return kind == "term" and source.get(name) == value


class FakeDeadLetters:
    """The dead letters that are given; `refusal` is raised after them."""

    def __init__(self, letters: list[Message], refusal: str = "") -> None:
        self._letters = letters
        self._refusal = refusal
        self.groups = GroupFilter(SETTINGS.group)

    def read_all(self) -> Iterator[list[Message]]:
        yield self._letters

    def read_newest(self, _wanted: Any, *, content: bool = False) -> Iterator[Any]:
        for message in self._letters:
            letter = read_letter(message, content=content)
            if self.groups.takes(letter.group):
                yield letter
        if self._refusal:
            raise KafkaError(self._refusal)


@dataclass(frozen=True)
class FakeSources(Sources):
    """Sources whose topics are lists; the source topic is read two records at a time.

    Attributes:
        records: on the source topic.
        letters: on the dead-letter topic.
        refusal: why the dead-letter topic may not be opened.
        late_refusal: why it may not be read to its end.
    """

    records: list[Message] = field(default_factory=list)
    letters: list[Message] = field(default_factory=list)
    refusal: str = ""
    late_refusal: str = ""

    def read_topic(self, ranges):
        found = [r for r in self.records if _within(ranges, r.partition(), r.offset())]
        for start in range(0, len(found), 2):
            yield found[start : start + 2]

    def dead_letters(self, since_ms=None):
        if self.refusal:
            raise KafkaError(self.refusal)
        return FakeDeadLetters(self.letters, self.late_refusal)


def _within(ranges: Mapping[int, tuple[int, int]], partition: int, offset: int) -> bool:
    start, end = ranges.get(partition, (0, 0))
    return start <= offset < end


def deployment(
    kafka: FakeKafka,
    elastic: FakeElastic | None = None,
    *,
    registry: SchemaSource | None = None,
    on_progress: OnProgress = lambda *_: None,
    **more: Any,
) -> FakeSources:
    """Return the sources of a deployment, by default without a Schema Registry."""
    elastic = elastic or FakeElastic()
    return FakeSources(SETTINGS, kafka, kafka, elastic, registry, on_progress, **more)


def letter_of(topic: str, partition: int, offset: int, **headers: str) -> Message:
    """Return a dead letter of the record at these coordinates."""
    fields = {
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "timestamp": str(Message().timestamp()[1]),
        "group": SETTINGS.group,
        **headers,
    }
    raw = [(f"pipeline.dlq.{name}", value.encode()) for name, value in fields.items()]
    return Message(topic_=SETTINGS.dlq_topic, partition_=0, offset_=offset, headers_=raw)


class FakeConsumer:
    """Answers with these messages, and then with nothing."""

    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages
        self.starts: list[Mapping[int, int]] = []
        self.uncommitted: list[bool] = []

    @contextmanager
    def open(
        self, _settings: Any, _topic: str, starts: Mapping[int, int], *, uncommitted: bool = False
    ) -> Iterator[Any]:
        self.starts.append(starts)
        self.uncommitted.append(uncommitted)
        yield self

    def consume(self, _records: int, _seconds: float) -> list[Any]:
        messages, self.messages = self.messages, []
        return messages
