"""Owns the checks of Elasticsearch for `pipeline doctor`: what its answers mean; no I/O."""

from __future__ import annotations

import json
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_common.kafka_clients import MAX_RECORD_BYTES
from llmlog_consumer.checks.doctor.findings import Check, Seen, green, red, skipped, yellow
from llmlog_consumer.elasticsearch.index_names import daily_index, read_name
from llmlog_consumer.provision.merge import get
from llmlog_consumer.provision.rights import elasticsearch_role
from llmlog_consumer.provision.steps import CREATED, DIFFERS, UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from llmlog_common.settings import Settings
    from llmlog_consumer.provision.rights import User
    from llmlog_consumer.provision.steps import Step

SUPPORTED: Final = (8, 9)
"""Major versions; the tests run on 8.19 and 9.5."""

_SETUP: Final = "pipeline setup --elasticsearch-only"
_DEFAULT_SHARDS_PER_NODE: Final = 1000
_FEW_INDICES: Final = 30
_MAX_SKEW_MS: Final = 60_000
_FULL, _NEARLY_FULL = 0.95, 0.85
"""Used shares of a disk: Elasticsearch blocks indices at the first, moves shards at the other."""
_BLOCKS: Final = ("read_only_allow_delete", "write", "read_only", "metadata")


class SetupView(NamedTuple):
    """What `pipeline setup` would do.

    Attributes:
        steps: as far as they could be computed.
        problem: why there are no more of them; empty where these are all.
    """

    steps: tuple[Step, ...]
    problem: str = ""


class ElasticsearchChecks:
    """The rows about Elasticsearch of one deployment.

    Args:
        settings: as loaded.
        where: URL of a node, without credentials, for the commands that mend.
        user: whose rights are looked at.
    """

    def __init__(self, settings: Settings, where: str, user: User) -> None:
        self._settings = settings
        self._alias = settings.index
        self._where = where
        self._user = user

    def rows(self) -> Iterable[Check]:
        """Yield the checks, in their order."""
        yield Check(
            "elasticsearch.connection",
            "it answers and lets us in",
            ("root",),
            lambda root: green(f"{get(root, 'version', 'number')} at {self._where}"),
            "check LLMLOG_ELASTICSEARCH_URL, and user, key and certificates in "
            "LLMLOG_ELASTICSEARCH_…",
        )
        yield Check("elasticsearch.version", "the version is supported", ("root",), _judge_version)
        yield Check(
            "elasticsearch.health", "the cluster has its shards", ("health",), _judge_health
        )
        yield Check("elasticsearch.nodes", "each node of the URL answers", ("root", "notice"),
                    self._judge_nodes)  # fmt: skip
        yield Check("elasticsearch.disk", "disks have room", ("nodes",), _judge_disk)
        yield Check("elasticsearch.clock", "its clock is ours", ("nodes", "now_ms"), _judge_clock)
        yield Check("elasticsearch.sizes", "it takes a request of our largest event", ("http",),
                    self._judge_request_size)  # fmt: skip
        yield Check(
            "elasticsearch.rights",
            f"this user has the rights of the {self._user}",
            ("privileges",),
            self._judge_privileges,
        )
        yield Check(
            "index.names",
            "alias and template are ours alone",
            ("setup",),
            lambda setup: (
                red(setup.problem, "see what was seen, then " + _SETUP)
                if setup.problem
                else green(f"alias {self._alias}, and no stronger template")
            ),
        )
        for name, what, asks in (
            ("index.template", "index template", "the index template is ours, and up to date"),
            ("index.settings", "component template", "the default settings are there"),
            ("index.lifecycle", "lifecycle policy", "old indices are deleted"),
            ("index.alias", f"index {self._alias}-", "daily indices have alias and mapping"),
        ):
            yield Check(name, asks, ("setup",), _judge_steps(what))
        yield Check(
            "index.lifecycle_runs", "lifecycles are carried out", ("ilm",), self._judge_lifecycle
        )
        yield Check("index.blocks", "daily indices take documents", ("indices", "now_ms"),
                    self._judge_blocks)  # fmt: skip
        yield Check("index.pipelines", "ingest pipelines of current indices exist",
                    ("indices", "pipelines", "now_ms"), self._judge_pipelines)  # fmt: skip
        yield Check(
            "index.shards",
            "further daily indices fit the cluster's limit of shards",
            ("health", "cluster_settings", "indices", "now_ms"),
            self._judge_shards,
        )
        yield Check("index.replicas", "a node may be lost", ("health", "indices", "now_ms"),
                    self._judge_replicas)  # fmt: skip

    def _curl(self, method: str, path: str, body: Any = None) -> str:
        command = f"curl -X {method} {self._where}/{path}"
        if body is None:
            return command
        return f"{command} -H 'content-type: application/json' -d {quote(json.dumps(body))}"

    def _judge_nodes(self, _root: Any, notice: str) -> Seen:
        if notice:
            return yellow(notice, "start the node, or take it out of LLMLOG_ELASTICSEARCH_URL")
        return green("all that were asked")

    def _judge_request_size(self, http: Any) -> Seen:
        sizes = [get(node, "http", "max_content_length_in_bytes") for node in _nodes(http)]
        known = [int(size) for size in sizes if size is not None]
        if not known:
            return skipped("it does not tell")
        needed = min(self._settings.max_event_bytes, MAX_RECORD_BYTES)
        text = f"http.max_content_length is {min(known)} bytes, the largest event {needed}"
        if min(known) < needed:
            return yellow(
                f"{text}: larger documents are dead letters",
                "set http.max_content_length: 100mb in elasticsearch.yml of each node",
            )
        return green(text)

    def _judge_privileges(self, answer: Any) -> Seen:
        if answer is None:
            return skipped("the cluster has no security, or does not tell")
        lacking = [name for name, has in (answer.get("cluster") or {}).items() if not has]
        for index, rights in (answer.get("index") or {}).items():
            lacking += [f"{name} on {index}" for name, has in rights.items() if not has]
        if lacking:
            role = f"{self._alias}-{self._user}"
            return red(
                f"missing: {', '.join(sorted(lacking))}",
                self._curl(
                    "PUT", f"_security/role/{role}", elasticsearch_role(self._user, self._settings)
                ),
            )
        return green("all that are needed")

    def _judge_lifecycle(self, ilm: Any) -> Seen:
        if ilm is None:
            return skipped("this cluster has no lifecycle management: delete old indices yourself")
        mode = str(ilm.get("operation_mode"))
        if mode != "RUNNING":
            return yellow(f"lifecycle management is {mode}", self._curl("POST", "_ilm/start"))
        return green("running")

    def _judge_blocks(self, indices: Mapping[str, Any], now_ms: int) -> Seen:
        blocked = {}
        for name, one in sorted(indices.items(), reverse=True):
            found = one.get("settings") or {}
            blocks = [b for b in _BLOCKS if str(found.get(f"index.blocks.{b}")).lower() == "true"]
            if str(found.get("index.verified_before_close")).lower() == "true":
                blocked[name] = "closed", self._curl("POST", f"{name}/_open")
            elif blocks:
                nothing = {f"index.blocks.{block}": None for block in blocks}
                blocked[name] = ", ".join(blocks), self._curl("PUT", f"{name}/_settings", nothing)
        if not blocked:
            return green(f"{len(indices)} daily indices")
        current = [name for name in blocked if self._is_current(name, now_ms)]
        name = current[0] if current else next(iter(blocked))
        why, mend = blocked[name]
        more = f" (and {len(blocked) - 1} more)" if len(blocked) > 1 else ""
        text = f"{name} takes no document: {why}{more}"
        return red(text, mend) if current else yellow(text, mend)

    def _is_current(self, index: str, now_ms: int) -> bool:
        """Tell whether events of now belong into this index, if they are of its group."""
        name = read_name(self._alias, index)
        return name is not None and daily_index(self._alias, now_ms, name.place) == index

    def _find_current(self, indices: Mapping[str, Any], now_ms: int) -> dict[str, dict[str, Any]]:
        """Return the settings of the indices of now, or else of those whose period ended last."""
        days = {i: name.last_day for i in sorted(indices) if (name := read_name(self._alias, i))}
        last = max(days.values(), default=None)
        current = [index for index in days if self._is_current(index, now_ms)]
        found = current or [index for index in days if days[index] == last]
        return {index: indices[index].get("settings") or {} for index in found}

    def _judge_pipelines(self, indices: Mapping[str, Any], pipelines: Any, now_ms: int) -> Seen:
        if not (current := self._find_current(indices, now_ms)):
            return skipped("there is no daily index")
        if pipelines is None:
            return skipped("this user may not see pipelines: it has no privilege read_pipeline")
        used: set[str] = set()
        for key in ("index.default_pipeline", "index.final_pipeline"):
            of = {i: one[key] for i, one in current.items() if one.get(key, "_none") != "_none"}
            if gone := [index for index, name in of.items() if name not in pipelines]:
                return red(
                    f"{_count(gone)}: {key} is {of[gone[0]]}, which does not exist: each document "
                    "is refused",
                    self._curl("PUT", f"{','.join(gone)}/_settings", {key: None}),
                )
            used.update(of.values())
        return green(f"{_count(current)}: {', '.join(sorted(used)) or 'none'}")

    def _judge_shards(
        self, health: Any, cluster: Any, indices: Mapping[str, Any], now_ms: int
    ) -> Seen:
        per_node = _setting(cluster, "cluster.max_shards_per_node")
        limit = int(per_node or _DEFAULT_SHARDS_PER_NODE) * int(health["number_of_data_nodes"])
        used = sum(
            int(health[key])
            for key in ("active_shards", "initializing_shards", "unassigned_shards")
        )
        current = self._find_current(indices, now_ms) or {daily_index(self._alias, now_ms): {}}
        copies = {
            index: int(found.get("index.number_of_shards", 1))
            * (1 + int(found.get("index.number_of_replicas", 1)))
            for index, found in current.items()
        }
        largest = max(copies, key=lambda index: copies[index])
        left = (limit - used) // copies[largest]
        text = f"{used} of {limit} shards are used: room for {max(0, left)} indices like {largest}"
        mend = self._curl(
            "PUT",
            "_cluster/settings",
            {"persistent": {"cluster.max_shards_per_node": int(per_node or 1000) * 2}},
        )
        if left < len(copies):
            return red(f"{text}: tomorrow's cannot be created", mend)
        if left < _FEW_INDICES * len(copies):
            return yellow(text, mend)
        return green(text)

    def _judge_replicas(self, health: Any, indices: Mapping[str, Any], now_ms: int) -> Seen:
        if not (current := self._find_current(indices, now_ms)):
            return skipped("there is no daily index")
        if int(health["number_of_data_nodes"]) < 2:  # noqa: PLR2004 - one node holds no replica
            return skipped("there is one data node")
        numbers = {i: int(found.get("index.number_of_replicas", 0)) for i, found in current.items()}
        if not (bare := [index for index, number in numbers.items() if not number]):
            return green(f"{_count(current)}: {min(numbers.values())}")
        return yellow(
            f"{_count(bare)}: no replica, a lost node loses documents until they are read again",
            self._curl("PUT", f"{','.join(bare)}/_settings", {"index.number_of_replicas": 1}),
        )


def _count(indices: Collection[str]) -> str:
    """Return the first index by its name, and how many more there are."""
    more = f" (and {len(indices) - 1} more)" if len(indices) > 1 else ""
    return f"{next(iter(indices))}{more}"


def _judge_version(root: Any) -> Seen:
    version = get(root, "version") or {}
    number, other = str(version.get("number") or ""), version.get("distribution")
    if other:
        return red(f"{other} {number} is no Elasticsearch", "use Elasticsearch 8 or 9")
    major = number.partition(".")[0]
    if not major.isdigit() or int(major) not in SUPPORTED:
        wanted = " and ".join(map(str, SUPPORTED))
        return red(f"version {number or 'unknown'}", f"use Elasticsearch {wanted}")
    return green(number)


def _judge_health(health: Any) -> Seen:
    state = str(health.get("status"))
    away, starting = health.get("unassigned_shards"), health.get("initializing_shards")
    text = f"{state}, {away} shards are not assigned, {starting} are starting"
    if state == "red":
        return red(text, "see GET /_cluster/allocation/explain, and start the nodes that are away")
    if state == "yellow" and not away:
        return yellow(text, "wait until they are started, and ask again")
    if state == "yellow":
        return yellow(text, "start the nodes that are away, or lower number_of_replicas")
    return green(text)


def _judge_disk(nodes: Any) -> Seen:
    shares = {}
    for node in _nodes(nodes):
        total = get(node, "fs", "total", "total_in_bytes")
        free = get(node, "fs", "total", "available_in_bytes")
        if total and free is not None:
            shares[str(node.get("name"))] = 1 - int(free) / int(total)
    if not shares:
        return skipped("it does not tell")
    name = max(shares, key=lambda node: shares[node])
    text = f"the disk of {name} is {shares[name]:.0%} full"
    mend = "delete old indices, or add disks or nodes"
    if shares[name] >= _FULL:
        return red(f"{text}: Elasticsearch blocks its indices", mend)
    return yellow(text, mend) if shares[name] >= _NEARLY_FULL else green(text)


def _judge_clock(nodes: Any, now_ms: int) -> Seen:
    times = [int(node["timestamp"]) for node in _nodes(nodes) if "timestamp" in node]
    if not times:
        return skipped("it does not tell")
    skew = max((moment - now_ms for moment in times), key=abs)
    if abs(skew) > _MAX_SKEW_MS:
        side = "ahead of" if skew > 0 else "behind"
        return yellow(
            f"a node is {abs(skew) / 1000:.0f} s {side} this host",
            "set both clocks (chronyc tracking): a wrong one makes indices of wrong days",
        )
    return green("within a minute")


def _judge_steps(what: str) -> Callable[[SetupView], Seen]:
    is_daily = what.startswith("index ") and what != "index template"

    def judge(setup: SetupView) -> Seen:
        steps = [step for step in setup.steps if step.what.startswith(what)]
        if not steps:
            return skipped("not asked: see index.names") if setup.problem else green("none")
        changed = [step for step in steps if step.change != UNCHANGED]
        if not changed:
            return green(steps[0].detail or f"{steps[0].what}: as setup installs it")
        first = changed[0]
        if first.change == CREATED and is_daily:
            return green(f"{first.what} is made with its first document")
        if first.change == CREATED:
            return red(f"{first.what} is missing", _SETUP)
        if first.change == DIFFERS:
            return red(f"{first.what}: {first.detail}", "see what was seen, then " + _SETUP)
        more = f" (and {len(first.differences) - 1} more)" if len(first.differences) > 1 else ""
        difference = f": {first.differences[0]}" if first.differences else ""
        return yellow(f"{first.what} differs{difference}{more}", _SETUP)

    return judge


def _nodes(answer: Any) -> list[Any]:
    return list((answer.get("nodes") or {}).values()) if isinstance(answer, dict) else []


def _setting(cluster: Any, name: str) -> Any:
    for part in ("transient", "persistent", "defaults"):
        if (value := (cluster.get(part) or {}).get(name)) is not None:
            return value
    return None
