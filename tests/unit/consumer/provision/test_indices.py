"""Setup in Elasticsearch: what it creates, what it keeps, and what it repairs."""

import pytest

from llmlog_common.errors import ElasticsearchError, ElasticsearchUnreachable
from llmlog_common.settings import load
from llmlog_consumer.elasticsearch.connection import Answer
from llmlog_consumer.provision.indices import index_steps
from support.fakes.provision import FakeElasticsearch

SETTINGS = load(environ={"LLMLOG_INDEX": "logs"})
NOON = 1_767_268_800.0
TODAY, YESTERDAY = "logs-2026.01.01", "logs-2025.12.31"
TEMPLATE, POLICY = "_index_template/logs", "_ilm/policy/logs"
DEFAULTS = "_component_template/logs@settings"


@pytest.fixture
def cluster():
    return FakeElasticsearch()


def setup(cluster, settings=SETTINGS):
    """Run setup; return each step as it turned out."""
    return [step.carry_out() for step in index_steps(settings, cluster, clock=lambda: NOON)]


def changes(steps):
    return {step.what: step.change for step in steps if step.change != "unchanged"}


def index_settings(cluster):
    return cluster.stored[DEFAULTS]["template"]["settings"]["index"]


def test_an_empty_cluster_gets_everything(cluster):
    assert set(changes(setup(cluster)).values()) == {"created"}
    assert index_settings(cluster)["lifecycle"] == {"name": "logs"}
    assert TODAY in cluster.indices
    assert changes(setup(cluster)) == {}


# Groups and periods

GROUPED = load(
    environ={
        "LLMLOG_INDEX": "logs",
        "LLMLOG_INDEX_GROUPS": "t-1=pay,t-2=legal,t-3=pay",
        "LLMLOG_GROUP_MAX_EVENT_AGE": "legal=3650 days",
    }
)


def delete_age(cluster, policy):
    return cluster.stored[f"_ilm/policy/{policy}"]["policy"]["phases"]["delete"]["min_age"]


def test_each_group_has_a_policy_and_a_template_of_its_own(cluster):
    setup(cluster, GROUPED)
    ages = {name: delete_age(cluster, name) for name in ("logs", "logs@pay", "logs@legal")}
    assert ages == {"logs": "401d", "logs@pay": "401d", "logs@legal": "3651d"}
    cluster.request("PUT", f"/{TODAY}-legal")
    cluster.request("PUT", f"/{TODAY}-other")
    policies = {
        name: index["settings"]["index"]["lifecycle"]["name"]
        for name, index in cluster.indices.items()
    }
    assert policies == {TODAY: "logs", f"{TODAY}-legal": "logs@legal", f"{TODAY}-other": "logs"}
    assert all("logs" in index["aliases"] for index in cluster.indices.values())
    assert changes(setup(cluster, GROUPED)) == {}


def test_an_index_that_was_made_before_its_group_had_a_policy_gets_it(cluster):
    setup(cluster)
    for name in (f"{TODAY}-pay", f"{YESTERDAY}-pay", f"{TODAY}-other"):
        cluster.request("PUT", f"/{name}")
    changed = changes(setup(cluster, GROUPED))
    assert changed.keys() >= {f"index {TODAY}-pay", f"index {YESTERDAY}-pay"}
    assert f"index {TODAY}-other" not in changed
    for name in (f"{TODAY}-pay", f"{YESTERDAY}-pay"):
        assert cluster.indices[name]["settings"]["index"]["lifecycle"] == {"name": "logs@pay"}
    assert changes(setup(cluster, GROUPED)) == {}


def test_a_policy_that_a_user_gave_an_index_of_a_group_stays(cluster):
    setup(cluster, GROUPED)
    cluster.add_index(f"{TODAY}-pay", aliases=["logs"], lifecycle={"name": "mine"})
    assert changes(setup(cluster, GROUPED)) == {}


def test_what_a_user_adds_reaches_the_templates_of_groups_and_theirs_is_kept(cluster):
    setup(cluster, GROUPED)
    cluster.stored[TEMPLATE]["template"]["mappings"]["properties"]["team"] = {"type": "keyword"}
    cluster.stored[TEMPLATE]["composed_of"].insert(1, "mine")
    group = cluster.stored[f"{TEMPLATE}@pay"]
    group["priority"], group["composed_of"] = 777, [*group["composed_of"], "theirs"]
    setup(cluster, GROUPED)
    stored = cluster.stored[f"{TEMPLATE}@pay"]
    assert stored["template"]["mappings"]["properties"]["team"] == {"type": "keyword"}
    assert {"mine", "theirs", "logs@pay@custom"} <= set(stored["composed_of"])
    assert stored["priority"] == 777
    assert cluster.stored[f"{TEMPLATE}@legal"]["priority"] > cluster.stored[TEMPLATE]["priority"]


def test_another_template_that_would_take_a_groups_indices_is_named(cluster):
    cluster.stored["_index_template/other"] = {"index_patterns": ["logs-*-pay"], "priority": 500,
                                               "template": {"aliases": {}}}  # fmt: skip
    with pytest.raises(ElasticsearchError, match=r"comes before logs@pay for .*-pay"):
        setup(cluster, GROUPED)


@pytest.mark.parametrize(
    ("period", "today", "age"),
    [("week", "logs-2026.w01", "407d"), ("month", "logs-2026.01", "431d")],
)
def test_an_index_of_a_longer_period_is_deleted_when_its_last_event_has_expired(
    cluster, period, today, age
):
    long = load(environ={"LLMLOG_INDEX": "logs", "LLMLOG_INDEX_PERIOD": period})
    setup(cluster, long)
    assert today in cluster.indices
    assert delete_age(cluster, "logs") == age
    setup(cluster)  # by day again: the index of the longer period is still there
    assert delete_age(cluster, "logs") == age
    del cluster.indices[today]
    setup(cluster)
    assert delete_age(cluster, "logs") == "401d"


def test_a_cluster_without_lifecycles_has_groups_all_the_same():
    cluster = FakeElasticsearch(has_lifecycles=False)
    setup(cluster, GROUPED)
    assert "settings" not in cluster.stored[f"{TEMPLATE}@pay"]["template"]
    assert not any(path.startswith("_ilm") for path in cluster.stored)


def test_a_dry_run_takes_the_same_steps_and_writes_nothing(cluster):
    steps = list(index_steps(SETTINGS, cluster, clock=lambda: NOON))
    assert cluster.asked == []
    assert changes(steps) == changes(setup(cluster))


@pytest.mark.parametrize("status", [400, 404, 405, 410])
def test_a_cluster_without_lifecycles_gets_no_policy(cluster, status):
    cluster.statuses["_ilm"] = status
    first, *_ = setup(cluster)
    assert (first.what, first.change) == ("lifecycle policy logs", "unchanged")
    assert "lifecycle" not in index_settings(cluster)


@pytest.mark.parametrize(
    "where", ["_ilm/status", "_ilm/policy", "_index_template", "_component", "logs-"]
)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, ElasticsearchError),
        (403, ElasticsearchError),
        (429, ElasticsearchUnreachable),
        (503, ElasticsearchUnreachable),
    ],
)
def test_a_cluster_that_does_not_let_us_look_is_not_one_without_our_things(
    cluster, where, status, error
):
    cluster.statuses[where] = status
    with pytest.raises(error, match=f"{status} security_exception"):
        setup(cluster)
    if DEFAULTS in cluster.stored:
        assert "lifecycle" in index_settings(cluster)


def test_a_proxys_404_does_not_mean_that_the_cluster_has_no_lifecycles():
    class BehindAProxy(FakeElasticsearch):
        def request(self, method, path, *, body=None, params=None, **_):
            if path == "/_ilm/status":
                return Answer(404, "<html>nginx</html>")
            return super().request(method, path, body=body, params=params)

    cluster = BehindAProxy()
    with pytest.raises(ElasticsearchError, match="404"):
        setup(cluster)
    assert not cluster.stored


def test_a_difference_is_known_before_it_is_written(cluster):
    setup(cluster)
    cluster.stored[TEMPLATE]["template"]["mappings"]["properties"]["model"] = {"type": "text"}
    before = len(cluster.asked)
    (step,) = [
        step
        for step in index_steps(SETTINGS, cluster, clock=lambda: NOON)
        if step.change == "updated"
    ]
    assert "template.mappings.properties.model.type: text -> keyword" in step.differences
    assert len(cluster.asked) == before
    step.carry_out()
    assert (
        cluster.stored[TEMPLATE]["template"]["mappings"]["properties"]["model"]["type"] == "keyword"
    )


def test_an_index_that_another_setup_creates_meanwhile_is_no_error(cluster):
    def another(path):
        if path == TODAY:
            cluster.add_index(TODAY, aliases=["logs"])

    cluster.before_put.append(another)
    *_, last = setup(cluster)
    assert (last.what, last.change) == (f"index {TODAY}", "unchanged")
    assert "another setup" in last.detail


@pytest.mark.parametrize("index", [TODAY, YESTERDAY])
def test_a_daily_index_that_has_lost_the_alias_gets_it_back(cluster, index):
    setup(cluster)
    cluster.add_index(
        index, refresh_interval="5s", auto_expand_replicas="0-1", lifecycle={"name": "x"}
    )
    assert changes(setup(cluster)) == {f"index {index}": "updated"}
    assert "logs" in cluster.indices[index]["aliases"]
    assert changes(setup(cluster)) == {}


def test_the_alias_comes_back_with_the_options_that_a_user_gave_it(cluster):
    setup(cluster)
    options = {"filter": {"term": {"status": "success"}}}
    cluster.stored[TEMPLATE]["template"]["aliases"]["logs"] = options
    cluster.add_index(YESTERDAY)
    setup(cluster)
    assert cluster.indices[YESTERDAY]["aliases"] == {"logs": options}


@pytest.mark.parametrize("index", ["logs-2fast", "logs-2026.01", "logs-2026.01.01-old", "logs"])
def test_an_index_that_is_no_daily_one_is_left_alone(cluster, index):
    setup(cluster)
    cluster.add_index(index, aliases=["logs"] if index == "logs" else [])
    before = dict(cluster.indices[index])
    if index == "logs":
        with pytest.raises(ElasticsearchError, match="plain index"):
            setup(cluster)
    else:
        assert changes(setup(cluster)) == {}
    assert cluster.indices[index] == before


def test_an_older_index_that_we_did_not_create_is_named_and_left_alone(cluster):
    setup(cluster)
    cluster.add_index(YESTERDAY, ours=False)
    assert changes(setup(cluster)) == {f"index {YESTERDAY}": "differs"}
    assert cluster.indices[YESTERDAY]["aliases"] == {}


def test_an_index_of_today_that_we_did_not_create_is_an_error(cluster):
    cluster.add_index(TODAY, ours=False)
    with pytest.raises(ElasticsearchError, match=f"{TODAY}: it was not created from our template"):
        setup(cluster)


def test_settings_that_only_todays_index_lacks_are_given_to_it(cluster):
    setup(cluster)
    cluster.add_index(TODAY, aliases=["logs"], refresh_interval="30s")
    cluster.add_index(YESTERDAY, aliases=["logs"])
    assert changes(setup(cluster)) == {f"index {TODAY}": "updated"}
    given = cluster.indices[TODAY]["settings"]["index"]
    assert given["lifecycle"] == {"name": "logs"}
    assert given["refresh_interval"] == "30s"
    assert cluster.indices[YESTERDAY]["settings"]["index"] == {}


def foreign(priority, *patterns):
    return {"index_patterns": list(patterns), "priority": priority, "template": {"aliases": {}}}


@pytest.mark.parametrize("patterns", [["logs-*"], ["*"], ["other", "logs-2026*"]])
def test_a_foreign_template_that_comes_before_ours_is_an_error_before_an_index_exists(
    cluster, patterns
):
    cluster.stored["_index_template/theirs"] = foreign(900, *patterns)
    cluster.stored["_index_template/stronger"] = foreign(1000, "logs*")
    with pytest.raises(ElasticsearchError, match=r"stronger \(logs\*; priority 1000\); theirs \("):
        setup(cluster)
    assert TODAY not in cluster.indices
    cluster.stored[TEMPLATE]["priority"] = 2000
    assert changes(setup(cluster)) == {f"index {TODAY}": "created"}
    assert cluster.stored[TEMPLATE]["priority"] == 2000


def test_a_foreign_template_of_our_own_priority_is_named_in_a_dry_run(cluster):
    setup(cluster)
    priority = cluster.stored.pop(TEMPLATE)["priority"]
    cluster.stored["_index_template/theirs"] = foreign(priority, "logs-*")
    with pytest.raises(ElasticsearchError, match=r"theirs \(logs-\*"):
        list(index_steps(SETTINGS, cluster, clock=lambda: NOON))


@pytest.mark.parametrize("other", [foreign(100, "logs-*"), foreign(900, "logs-1*", "metrics-*")])
def test_a_foreign_template_that_is_weaker_or_for_others_is_none_of_our_business(cluster, other):
    cluster.stored["_index_template/theirs"] = other
    assert TODAY not in cluster.indices
    setup(cluster)
    assert TODAY in cluster.indices


def test_a_data_stream_with_the_aliass_name_is_told_from_a_plain_index(cluster):
    cluster.add_index(".ds-logs-2026.01.01-000001", aliases=["logs"])
    with pytest.raises(ElasticsearchError, match="data stream"):
        setup(cluster)
    assert cluster.asked == []


def test_a_longer_age_of_events_changes_the_policy_that_setup_wrote(cluster):
    setup(cluster)
    policy = cluster.stored[POLICY]["policy"]
    policy["phases"]["cold"] = {"min_age": "30d", "actions": {}}
    longer = load(environ={"LLMLOG_INDEX": "logs", "LLMLOG_MAX_EVENT_AGE": "500 days"})
    assert changes(setup(cluster, longer)) == {"lifecycle policy logs": "updated"}
    policy = cluster.stored[POLICY]["policy"]
    assert policy["phases"]["delete"]["min_age"] == "501d"
    assert "cold" in policy["phases"]


def test_a_delete_age_that_a_user_has_set_stays(cluster):
    setup(cluster)
    cluster.stored[POLICY]["policy"]["phases"]["delete"]["min_age"] = "30d"
    longer = load(environ={"LLMLOG_INDEX": "logs", "LLMLOG_MAX_EVENT_AGE": "500 days"})
    assert changes(setup(cluster, longer)) == {}
    assert cluster.stored[POLICY]["policy"]["phases"]["delete"]["min_age"] == "30d"


@pytest.mark.parametrize("layer", ["_component_template/logs@custom", "_component_template/mine"])
def test_a_users_number_of_replicas_is_not_outvoted_by_our_range(cluster, layer):
    setup(cluster)
    assert index_settings(cluster)["auto_expand_replicas"] == "0-1"
    cluster.stored[TEMPLATE]["composed_of"].append("mine")
    replicas = {"settings": {"index": {"number_of_replicas": "2"}}}
    cluster.stored[layer] = {"template": replicas}
    setup(cluster)
    assert "auto_expand_replicas" not in index_settings(cluster)


def test_an_index_of_an_earlier_version_is_given_the_fields_of_this_one(cluster):
    setup(cluster)
    cluster.add_index(YESTERDAY, version=1, aliases=["logs"])
    mappings = cluster.indices[YESTERDAY]["mappings"]
    mappings["_meta"]["theirs"] = "kept"
    mappings["properties"] = {"model": {"type": "keyword"}, "team_id": {"type": "text"}}
    step = next(step for step in setup(cluster) if YESTERDAY in step.what)
    assert step.change == "updated"
    assert "fields added" in step.detail
    assert mappings["_meta"] == {"llmlog_version": 2, "theirs": "kept"}
    assert mappings["properties"]["team_id"] == {"type": "text"}, "the user's own"
    assert mappings["properties"]["prompt_text"] == {"type": "alias", "path": "messages_text"}
    assert changes(setup(cluster)) == {}


@pytest.mark.parametrize("kind", ["cluster_block_exception", "index_closed_exception"])
def test_an_old_index_that_takes_nothing_is_left_and_named(cluster, kind):
    setup(cluster)
    cluster.add_index(YESTERDAY, version=1, aliases=["logs"])
    path = f"{YESTERDAY}/_mapping"
    real = cluster.request

    def refuse(method, at, **options):
        if method == "PUT" and at.removeprefix("/") == path:
            return Answer(403, {"error": {"type": kind, "reason": "no"}})
        return real(method, at, **options)

    cluster.request = refuse
    step = next(step for step in setup(cluster) if YESTERDAY in step.what)
    assert (step.change, step.detail.startswith("fields not added")) == ("unchanged", True)
    assert cluster.indices[YESTERDAY]["mappings"]["_meta"] == {"llmlog_version": 1}
