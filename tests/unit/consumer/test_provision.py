"""Setup: what it makes, and that "not now" and "not allowed" are not taken for "not there"."""

from datetime import timedelta

import pytest

from llmlog_common.errors import ElasticsearchError, ElasticsearchUnreachable
from llmlog_common.settings import load
from llmlog_consumer import provision
from llmlog_consumer.elasticsearch.connection import Answer, Elastic

SETTINGS = load(environ={"LLMLOG_INDEX": "logs"})
REFUSED = {"error": {"type": "security_exception", "reason": "unauthorized"}}


class Cluster(Elastic):
    """Empty; remembers what is put there, and answers some paths as a test says."""

    def __init__(self, **odd):
        self.where = "nowhere"
        self.odd = {"/" + path.replace("__", "/"): status for path, status in odd.items()}
        self.stored = {}

    def request(self, method, path, *, body=None, params=None):
        status = next((s for begin, s in self.odd.items() if path.startswith(begin)), 0)
        if status:
            return Answer(status, REFUSED)
        if method == "PUT":
            self.stored[path] = body
            return Answer(200, {"acknowledged": True})
        if path == "/_ilm/status":
            return Answer(200, {"operation_mode": "RUNNING"})
        return Answer(404, {"error": {"type": "index_not_found_exception", "reason": "no such"}})


def steps(cluster):
    return [(s.what, s.change) for s in provision.indices(SETTINGS, cluster, dry_run=False)]


def test_an_empty_cluster_gets_everything():
    cluster = Cluster()
    assert {change for _, change in steps(cluster)} == {"created"}
    template = cluster.stored["/_index_template/logs"]
    assert template["template"]["settings"]["index"]["lifecycle"] == {"name": "logs"}


@pytest.mark.parametrize("status", [400, 404, 405, 410])
def test_a_cluster_without_lifecycles_gets_no_policy(status):
    cluster = Cluster(_ilm=status)
    assert steps(cluster)[0] == ("lifecycle policy logs", "unchanged")
    assert (
        "lifecycle" not in cluster.stored["/_index_template/logs"]["template"]["settings"]["index"]
    )


@pytest.mark.parametrize("where", ["_ilm__status", "_ilm__policy", "_index_template", "logs-"])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, ElasticsearchError),
        (403, ElasticsearchError),
        (429, ElasticsearchUnreachable),
        (503, ElasticsearchUnreachable),
    ],
)
def test_nothing_that_cannot_be_looked_at_is_taken_for_absent(where, status, error):
    cluster = Cluster(**{where: status})
    with pytest.raises(error, match=f"{status} security_exception"):
        steps(cluster)
    template = cluster.stored.get("/_index_template/logs")
    assert template is None or "lifecycle" in template["template"]["settings"]["index"]


def test_what_answers_in_elasticsearchs_place_does_not_say_that_there_is_no_lifecycle():
    class BehindAProxy(Cluster):
        def request(self, method, path, *, body=None, params=None):
            if path == "/_ilm/status":
                return Answer(404, "<html>nginx</html>")
            return super().request(method, path, body=body, params=params)

    cluster = BehindAProxy()
    with pytest.raises(ElasticsearchError, match="404"):
        steps(cluster)
    assert not cluster.stored


class Admin:
    """A cluster of one broker without topics."""

    def __init__(self):
        self.created = {}

    def topics(self):
        return {}, 1

    def create(self, name, _partitions, _replication, config):
        self.created[name] = timedelta(milliseconds=int(config["retention.ms"])).days


@pytest.mark.parametrize(("retention", "letters"), [("7 days", 30), ("90 days", 90)])
def test_letters_are_kept_as_long_as_their_records(retention, letters):
    admin, settings = Admin(), load(environ={"LLMLOG_RETENTION": retention})
    steps = list(provision.topics(settings, admin, dry_run=False))
    assert admin.created == {"litellm-logs": int(retention[:2]), "litellm-logs.dlq": letters}
    assert steps[1].detail.endswith(f"kept {letters} days")
