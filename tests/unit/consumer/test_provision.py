"""Setup: what it creates, and that "not now" and "not allowed" do not count as "absent"."""

from datetime import timedelta

import pytest

from llmlog_common.errors import ElasticsearchError, ElasticsearchUnreachable
from llmlog_common.settings import load
from llmlog_consumer import provision
from llmlog_consumer.elasticsearch.connection import Answer
from support.fakes.service import FakeCluster, FakeTopics

SETTINGS = load(environ={"LLMLOG_INDEX": "logs"})


def steps(cluster):
    return [(s.what, s.change) for s in provision.indices(SETTINGS, cluster, dry_run=False)]


def test_an_empty_cluster_gets_everything():
    cluster = FakeCluster()
    assert {change for _, change in steps(cluster)} == {"created"}
    template = cluster.stored["/_index_template/logs"]
    assert template["template"]["settings"]["index"]["lifecycle"] == {"name": "logs"}


@pytest.mark.parametrize("status", [400, 404, 405, 410])
def test_a_cluster_without_lifecycles_gets_no_policy(status):
    cluster = FakeCluster(_ilm=status)
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
def test_a_cluster_that_does_not_let_us_look_is_not_one_without_our_things(where, status, error):
    cluster = FakeCluster(**{where: status})
    with pytest.raises(error, match=f"{status} security_exception"):
        steps(cluster)
    template = cluster.stored.get("/_index_template/logs")
    assert template is None or "lifecycle" in template["template"]["settings"]["index"]


def test_a_proxys_404_does_not_mean_that_the_cluster_has_no_lifecycles():
    class BehindAProxy(FakeCluster):
        def request(self, method, path, *, body=None, params=None):
            if path == "/_ilm/status":
                return Answer(404, "<html>nginx</html>")
            return super().request(method, path, body=body, params=params)

    cluster = BehindAProxy()
    with pytest.raises(ElasticsearchError, match="404"):
        steps(cluster)
    assert not cluster.stored


@pytest.mark.parametrize(("retention", "letters"), [("7 days", 30), ("90 days", 90)])
def test_letters_are_kept_as_long_as_their_records(retention, letters):
    topics, settings = FakeTopics(), load(environ={"LLMLOG_RETENTION": retention})
    steps = list(provision.topics(settings, topics, dry_run=False))
    days = {
        name: timedelta(milliseconds=int(config["retention.ms"])).days
        for name, config in topics.created.items()
    }
    assert days == {"litellm-logs": int(retention[:2]), "litellm-logs.dlq": letters}
    assert steps[1].detail.endswith(f"kept {letters} days")
