"""A cluster that keeps what setup puts into it, and answers as Elasticsearch does."""

from __future__ import annotations

import copy
from fnmatch import fnmatchcase
from typing import Any

from llmlog_consumer.elasticsearch.connection import Answer, Elastic

NOT_FOUND = Answer(404, {"error": {"type": "resource_not_found_exception", "reason": "none"}})
ACKNOWLEDGED = Answer(200, {"acknowledged": True})


class FakeElasticsearch(Elastic):
    """Templates, policies, indices and aliases.

    Attributes:
        stored: bodies of PUT, by path without the first slash.
        indices: each as `GET /INDEX` returns it.
        statuses: of requests whose path begins so, in the place of the answer.
        asked: method and path of each request that changes something.
        before_put: called with the path of each PUT before it is carried out.
    """

    def __init__(self, *, has_lifecycles: bool = True):
        self.where = "nowhere"
        self.has_lifecycles = has_lifecycles
        self.stored: dict[str, Any] = {}
        self.indices: dict[str, Any] = {}
        self.statuses: dict[str, int] = {}
        self.asked: list[tuple[str, str]] = []
        self.before_put: list[Any] = []

    def add_index(
        self, name: str, *, ours: bool = True, version: int = 2, aliases=(), **settings: Any
    ) -> None:
        meta = {"_meta": {"llmlog_version": version}} if ours else {}
        self.indices[name] = {
            "aliases": {alias: {} for alias in aliases},
            "mappings": meta,
            "settings": {"index": settings},
        }

    def request(self, method, path, *, body=None, params=None, **_):
        path = path.removeprefix("/")
        for begin, status in self.statuses.items():
            if path.startswith(begin):
                return Answer(status, {"error": {"type": "security_exception", "reason": "no"}})
        if method != "GET":
            self.asked.append((method, path))
        if method == "PUT":
            for hook in self.before_put:
                hook(path)
            return self._put(path, copy.deepcopy(body))
        if path == "_aliases":
            return self._change_aliases(body)
        return copy.deepcopy(self._get(path))

    def _put(self, path, body):
        if path.startswith("_"):
            self.stored[path] = body
            return ACKNOWLEDGED
        if path.endswith("/_settings"):
            for key, value in body.items():
                *above, last = key.removeprefix("index.").split(".")
                place = self.indices[path.removesuffix("/_settings")]["settings"]["index"]
                for name in above:
                    place = place.setdefault(name, {})
                place[last] = value
            return ACKNOWLEDGED
        if path.endswith("/_mapping"):
            mappings = self.indices[path.removesuffix("/_mapping")]["mappings"]
            mappings["_meta"] = body["_meta"]
            mappings.setdefault("properties", {}).update(body["properties"])
            return ACKNOWLEDGED
        if path in self.indices:
            return Answer(400, {"error": {"type": "resource_already_exists_exception"}})
        aliases, settings = {}, {}
        for template in self._matching(path):
            aliases |= template["template"]["aliases"]
            for layer in template.get("composed_of", ()):
                stored = self.stored.get(f"_component_template/{layer}", {"template": {}})
                settings |= stored["template"].get("settings", {}).get("index", {})
            settings |= template["template"].get("settings", {}).get("index", {})
        self.add_index(path, aliases=aliases, **settings)
        return ACKNOWLEDGED

    def _matching(self, index):
        found = [
            body
            for path, body in self.stored.items()
            if path.startswith("_index_template/") and fnmatchcase(index, body["index_patterns"][0])
        ]
        return sorted(found, key=lambda body: body["priority"])[-1:]

    def _change_aliases(self, body):
        for action in body["actions"]:
            options = dict(action["add"])
            index, alias = options.pop("index"), options.pop("alias")
            self.indices[index]["aliases"][alias] = options
        return ACKNOWLEDGED

    def _get(self, path):
        if path == "_ilm/status":
            return Answer(200, {"operation_mode": "RUNNING"}) if self.has_lifecycles else NOT_FOUND
        if path == "_index_template":
            return Answer(200, {"index_templates": self._templates("_index_template", "index")})
        if path.startswith("_"):
            return self._get_stored(path)
        name, _, about = path.partition("/")
        if about == "_mapping":
            found = {i: v for i, v in self.indices.items() if name in (i, *v["aliases"])}
            return Answer(200, found) if found else NOT_FOUND
        return Answer(200, {i: v for i, v in self.indices.items() if fnmatchcase(i, path)})

    def _get_stored(self, path):
        if path not in self.stored:
            return NOT_FOUND
        kind, _, name = path.rpartition("/")
        if kind == "_ilm/policy":
            return Answer(200, {name: self.stored[path]})
        form = kind.removeprefix("_")
        return Answer(200, {f"{form}s": [{"name": name, form: self.stored[path]}]})

    def _templates(self, kind, form):
        return [
            {"name": path.partition("/")[2], f"{form}_template": body}
            for path, body in self.stored.items()
            if path.startswith(f"{kind}/")
        ]

    def close(self):
        pass
