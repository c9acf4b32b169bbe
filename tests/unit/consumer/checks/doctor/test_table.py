"""The table of `pipeline doctor`: one fault, one red or yellow line, and what mends it."""

from __future__ import annotations

import shlex

import pytest

from llmlog_common.errors import ElasticsearchError, KafkaError, KafkaUnreachable, Unreachable
from llmlog_common.settings import load
from llmlog_consumer.checks.doctor.certificates import Certificate
from llmlog_consumer.checks.doctor.elasticsearch_checks import SetupView
from llmlog_consumer.checks.doctor.findings import Check, Verdict, as_json, examine, green, red
from llmlog_consumer.checks.doctor.table import new_table
from llmlog_consumer.checks.status import PartitionStatus, Status
from llmlog_consumer.kafka.admin import Topic
from llmlog_consumer.kafka.places import Log, Place
from llmlog_consumer.provision.rights import User
from llmlog_consumer.provision.steps import Step

SERVER = "http://es:9200"
SETTINGS = load(
    environ={"LLMLOG_KAFKA_BOOTSTRAP_SERVERS": "k:9092", "LLMLOG_ELASTICSEARCH_URL": SERVER}
)
NOW_MS = 1_796_000_000_000
TODAY = "litellm-logs-2026.11.30"
DAY_MS = 86_400_000
GIB = 1 << 30


def topic(partitions=12, replication=3, leaderless=()):
    return Topic(partitions, replication, frozenset(leaderless))


def config(**changes):
    """Return the configuration of a topic as setup creates it; `__` stands for a dot."""
    values = {
        "cleanup.policy": "delete",
        "retention.ms": str(7 * DAY_MS),
        "retention.bytes": "-1",
        "max.message.bytes": str(8 * 1024 * 1024),
        "min.insync.replicas": "2",
    }
    return values | {name.replace("__", "."): str(value) for name, value in changes.items()}


def status(committed=5, *, end=5, members=1, behind_ms=0, start=0, **fields):
    place = Place("litellm-logs", 0, committed, Log(start, end, end))
    partition = PartitionStatus(place, 0, "h/0", behind_ms)
    return Status("litellm-logs", "g", "stable", members, [partition], **fields)


def nodes(free=0.5, skew_ms=0):
    fs = {"total": {"total_in_bytes": 100 * GIB, "available_in_bytes": int(100 * GIB * free)}}
    return {"nodes": {"a": {"name": "n1", "timestamp": NOW_MS + skew_ms, "fs": fs}}}


def health(state="green", unassigned=0, active=10, data_nodes=3):
    return {
        "status": state,
        "unassigned_shards": unassigned,
        "active_shards": active,
        "initializing_shards": 0,
        "number_of_data_nodes": data_nodes,
    }


def indices(**settings):
    one = {"index.number_of_shards": "1", "index.number_of_replicas": "1"}
    one |= {f"index.{name.replace('__', '.')}": value for name, value in settings.items()}
    return {TODAY: {"settings": one}, "litellm-logs-2026.11.29": {"settings": {}}}


BLOCKED = {"settings": {"index.blocks.write": "true", "index.number_of_replicas": "1"}}


def setup(*changed, problem=""):
    whats = (
        "lifecycle policy litellm-logs",
        "component template litellm-logs@settings",
        "index template litellm-logs",
        f"index {TODAY}",
    )
    steps = {what: Step(what, "unchanged") for what in whats}
    return SetupView((*(steps | {step.what: step for step in changed}).values(),), problem)


WELL = {
    "now_ms": NOW_MS,
    "cluster": ({"litellm-logs": topic(), "litellm-logs.dlq": topic()}, 3),
    "topic_config": config(),
    "dead_letters_config": config(retention__ms=30 * DAY_MS),
    "broker_config": {"offsets.retention.minutes": "10080"},
    "missing_topic_rights": {"litellm-logs": set()},
    "missing_group_rights": {"llmlog-pipeline": set()},
    "status": status(),
    "newest_ms": NOW_MS - 1000,
    "kafka_certificates": [Certificate("k:9092", NOW_MS / 1000 + 90 * 86_400)],
    "root": {"version": {"number": "8.19.21"}},
    "notice": "",
    "health": health(),
    "nodes": nodes(),
    "http": {"nodes": {"a": {"http": {"max_content_length_in_bytes": 100 << 20}}}},
    "cluster_settings": {"defaults": {"cluster.max_shards_per_node": "1000"}},
    "privileges": {"cluster": {"monitor": True}, "index": {"litellm-logs": {"create_doc": True}}},
    "setup": setup(),
    "ilm": {"operation_mode": "RUNNING"},
    "indices": indices(),
    "pipelines": {},
    "elasticsearch_certificates": [Certificate("es:9200", NOW_MS / 1000 + 90 * 86_400)],
    "registry": "it answers",
}


def run(facts=None, settings=SETTINGS):
    """Return each finding by the name of its check."""

    def ask(name):
        def answer():
            value = (WELL | (facts or {}))[name]
            if isinstance(value, Exception):
                raise value
            return value

        return answer

    found = examine(new_table(settings, SERVER, User.WORKER), {name: ask(name) for name in WELL})
    return {finding.check.name: finding.seen for finding in found}


def test_a_healthy_deployment_is_green_in_each_line():
    found = run()
    assert {name: seen for name, seen in found.items() if seen.verdict is not Verdict.GREEN} == {}
    assert len(found) > 40
    assert all(seen.text and not seen.mend for seen in found.values())


def without(name):
    return {"cluster": ({n: t for n, t in WELL["cluster"][0].items() if n != name}, 3)}


def topics(brokers=3, **changes):
    one = topic(**changes)
    return {"cluster": ({"litellm-logs": one, "litellm-logs.dlq": topic()}, brokers)}


def source(**changes):
    return {"topic_config": config(**changes)}


def letters(**changes):
    return {"dead_letters_config": config(**{"retention__ms": 30 * DAY_MS, **changes})}


def certificate(days=None, problem=""):
    ends = None if days is None else NOW_MS / 1000 + days * 86_400
    return [Certificate("h:1", ends, problem)]


def differs(what, *differences):
    return {"setup": setup(Step(what, "updated", differences=differences))}


def created(what):
    return {"setup": setup(Step(what, "created"))}


ALTER = "kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name"
SETUP = "pipeline setup"
CURL = f"curl -X PUT {SERVER}/"

FAULTS = [
    ("kafka.connection", "red", {"cluster": KafkaUnreachable("Kafka does not answer")}, "check LL"),
    ("kafka.connection", "red", {"cluster": KafkaError("refuses: SASL")}, "password"),
    ("topic.exists", "red", without("litellm-logs"), f"{SETUP} --kafka-only"),
    ("dead_letters.exists", "red", without("litellm-logs.dlq"), f"{SETUP} --kafka-only"),
    ("topic.leaders", "red", topics(leaderless=[3]), "start the brokers"),
    ("topic.replication", "yellow", topics(replication=1) | source(min__insync__replicas=1),
     "kafka-reassign-partitions.sh"),
    ("topic.min_insync", "red", source(min__insync__replicas=4), f"{ALTER} litellm-logs"),
    ("topic.min_insync", "yellow", source(min__insync__replicas=3), "min.insync.replicas=2"),
    ("topic.min_insync", "yellow", source(min__insync__replicas=1), "min.insync.replicas=2"),
    ("topic.cleanup", "red", source(cleanup__policy="compact"), "cleanup.policy=delete"),
    ("dead_letters.cleanup", "red", letters(cleanup__policy="compact,delete"),
     f"{ALTER} litellm-logs.dlq --add-config cleanup.policy=delete"),
    ("topic.retention", "yellow", source(retention__ms=3_600_000), f"retention.ms={7 * DAY_MS}"),
    ("topic.retention", "yellow", source(retention__bytes=10**9), "retention.bytes=-1"),
    ("dead_letters.kept", "yellow", letters(retention__ms=6 * DAY_MS), f"ms={7 * DAY_MS}"),
    ("topic.sizes", "yellow", source(max__message__bytes=10**6), "max.message.bytes=8388608"),
    ("dead_letters.sizes", "yellow", letters(max__message__bytes=10**6),
     "litellm-logs.dlq --add-config max.message.bytes=8388608"),
    ("topic.rights", "red", {"missing_topic_rights": {"litellm-logs": {"Read"}}},
     "kafka-acls.sh --bootstrap-server k:9092 --add --allow-principal User:NAME --operation Read "
     "--topic litellm-logs"),
    ("group.rights", "red", {"missing_group_rights": {"g": {"Read", "Describe"}}},
     "--operation Describe --operation Read --group g"),
    ("group.status", "yellow", {"status": status(members=0)}, "pipeline consume"),
    ("group.status", "red", {"status": status(2, start=4)}, "pipeline status"),
    ("group.status", "red", {"status": status(unhealthy=["index x: closed"])}, "pipeline status"),
    ("group.offsets_kept", "yellow", {"broker_config": {"offsets.retention.minutes": "60"}},
     "offsets.retention.minutes=10080"),
    ("topic.clock", "yellow", {"newest_ms": NOW_MS + 120_000}, "clocks"),
    ("kafka.certificate", "red", {"kafka_certificates": certificate(problem="expired")}, "renew"),
    ("kafka.certificate", "red", {"kafka_certificates": certificate(6)}, "renew"),
    ("kafka.certificate", "yellow", {"kafka_certificates": certificate(29)}, "renew"),
    ("elasticsearch.connection", "red", {"root": ElasticsearchError("401")}, "user, key"),
    ("elasticsearch.version", "red", {"root": {"version": {"number": "7.17.0"}}}, "use Elastic"),
    ("elasticsearch.version", "red",
     {"root": {"version": {"number": "2.1.0", "distribution": "opensearch"}}}, "use Elastic"),
    ("elasticsearch.health", "red", {"health": health("red", 3)}, "allocation/explain"),
    ("elasticsearch.health", "yellow", {"health": health("yellow", 3)}, "start the nodes"),
    ("elasticsearch.nodes", "yellow", {"notice": "node http://b:9200: refused"}, "start the node"),
    ("elasticsearch.disk", "red", {"nodes": nodes(free=0.04)}, "delete old indices"),
    ("elasticsearch.disk", "yellow", {"nodes": nodes(free=0.14)}, "delete old indices"),
    ("elasticsearch.clock", "yellow", {"nodes": nodes(skew_ms=-90_000)}, "set both clocks"),
    ("elasticsearch.sizes", "yellow",
     {"http": {"nodes": {"a": {"http": {"max_content_length_in_bytes": 1 << 20}}}}}, "100mb"),
    ("elasticsearch.rights", "red",
     {"privileges": {"cluster": {}, "index": {"litellm-logs": {"create_doc": False}}}},
     f"{CURL}_security/role/litellm-logs-worker"),
    ("index.names", "red", {"setup": SetupView((), "litellm-logs is a plain index")}, SETUP),
    ("index.template", "red", created("index template litellm-logs"), SETUP),
    ("index.template", "yellow", differs("index template litellm-logs", "a: b -> c"), SETUP),
    ("index.settings", "red", created("component template litellm-logs@settings"), SETUP),
    ("index.lifecycle", "red", created("lifecycle policy litellm-logs"), SETUP),
    ("index.alias", "yellow", differs(f"index {TODAY}", "aliases: - -> {}"), SETUP),
    ("index.alias", "red", {"setup": setup(Step(f"index {TODAY}", "differs", "no _meta"))}, SETUP),
    ("index.lifecycle_runs", "yellow", {"ilm": {"operation_mode": "STOPPED"}},
     f"curl -X POST {SERVER}/_ilm/start"),
    ("index.blocks", "red", {"indices": indices(blocks__write="true")},
     f"{CURL}{TODAY}/_settings"),
    ("index.blocks", "red", {"indices": indices(blocks__read_only_allow_delete="true")},
     "read_only_allow_delete"),
    ("index.blocks", "red", {"indices": indices(verified_before_close="true")},
     f"curl -X POST {SERVER}/{TODAY}/_open"),
    ("index.blocks", "yellow",
     {"indices": indices() | {"litellm-logs-2026.11.01": {"settings":
                                                          {"index.blocks.write": "true"}}}},
     "litellm-logs-2026.11.01/_settings"),
    *(("index.blocks", "red", {"indices": indices() | {name: BLOCKED}}, f"{name}/_settings")
      for name in (f"{TODAY}-pay", "litellm-logs-2026.11", "litellm-logs-2026.w49-pay")),
    ("index.blocks", "yellow",
     {"indices": indices() | {"litellm-logs-2026.10-pay": {"settings":
                                                           {"index.blocks.write": "true"}}}},
     "litellm-logs-2026.10-pay/_settings"),
    ("index.shards", "red",  # room for one index more, and tomorrow needs two
     {"health": health(active=2998), "indices": indices() | {f"{TODAY}-pay": {"settings":
      {"index.number_of_shards": "1", "index.number_of_replicas": "1"}}}}, "max_shards_per_node"),
    ("index.pipelines", "red", {"indices": indices(default_pipeline="gone")}, "default_pipeline"),
    ("index.shards", "red", {"health": health(active=2999)}, "max_shards_per_node"),
    ("index.shards", "yellow", {"health": health(active=2970)}, "max_shards_per_node"),
    ("index.replicas", "yellow", {"indices": indices(number_of_replicas="0")}, "replicas"),
    ("elasticsearch.certificate", "yellow", {"elasticsearch_certificates": certificate(20)},
     "renew the certificate of h:1"),
    ("registry.connection", "red", {"registry": Unreachable("cannot be used now")}, "REGISTRY_URL"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "verdict", "facts", "mend"), FAULTS)
def test_one_fault_is_one_line_with_what_mends_it(name, verdict, facts, mend):
    found = run(facts)
    wrong = {n: s for n, s in found.items() if s.verdict in (Verdict.YELLOW, Verdict.RED)}
    assert list(wrong) == [name]
    assert wrong[name].verdict == verdict
    assert mend in wrong[name].mend
    assert wrong[name].text


WEEK = "litellm-logs-2026.w48"
"""A week that is over; as a text its name is above that of each day."""
GOOD = {"settings": {"index.number_of_shards": "1", "index.number_of_replicas": "1"}}


def bad(**settings):
    return {"settings": GOOD["settings"] | {f"index.{n}": value for n, value in settings.items()}}


@pytest.mark.parametrize(
    ("check", "verdict", "wrong"),
    [
        ("index.pipelines", "red", bad(default_pipeline="gone")),
        ("index.pipelines", "red", bad(final_pipeline="gone")),
        ("index.replicas", "yellow", bad(number_of_replicas="0")),
        ("index.shards", "red", bad(number_of_shards="2000")),
    ],
)
@pytest.mark.parametrize(
    ("index", "others"),
    [
        (TODAY, [WEEK]),
        (TODAY, [f"{TODAY}-pay"]),
        (f"{TODAY}-pay", [TODAY, f"{TODAY}-search"]),
        (TODAY, ["litellm-logs-2026.12.01"]),  # of a clock that is ahead
        (TODAY, ["litellm-logs-2026.11.30.copy"]),
        ("litellm-logs-2026.11", [TODAY]),
        ("litellm-logs-2026.11.29", ["litellm-logs-2026.11.29-pay", "litellm-logs-2026.w47"]),
    ],
)
def test_each_current_index_is_judged_and_named(check, verdict, wrong, index, others):
    """Whatever the order of their names; without one of now, those of the last day count."""
    seen = run({"indices": {index: wrong} | dict.fromkeys(others, GOOD)})[check]
    assert seen.verdict == verdict
    assert index in seen.text
    assert "max_shards" in seen.mend or f"/{index}/_settings" in seen.mend
    assert run({"indices": {index: GOOD}})[check].verdict is Verdict.GREEN


@pytest.mark.parametrize("past", [WEEK, "litellm-logs-2026.11.29-pay", "litellm-logs-2026.w48-x"])
def test_an_index_that_is_no_longer_current_is_not_judged(past):
    wrong = bad(final_pipeline="gone", number_of_replicas="0", number_of_shards="2000")
    found = run({"indices": {TODAY: GOOD, past: wrong}})
    names = ("index.pipelines", "index.replicas", "index.shards")
    assert {found[name].verdict for name in names} == {Verdict.GREEN}


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        ("index.pipelines", bad(final_pipeline="gone")),
        ("index.replicas", bad(number_of_replicas="0")),
    ],
)
def test_one_command_mends_all_current_indices(check, wrong):
    seen = run({"indices": {TODAY: wrong, f"{TODAY}-a": GOOD, f"{TODAY}-pay": wrong}})[check]
    assert f"{TODAY} (and 1 more)" in seen.text
    assert f"{CURL}{TODAY},{TODAY}-pay/_settings" in seen.mend


def test_there_is_a_fault_for_each_check():
    of_settings = {"kafka.secrecy", "elasticsearch.secrecy"}
    same_for_letters = {f"dead_letters.{n}" for n in
                        ("leaders", "replication", "min_insync", "retention")}  # fmt: skip
    elsewhere = of_settings | same_for_letters | {"group.retention"}
    assert run().keys() - {name for name, *_ in FAULTS} == elsewhere


@pytest.mark.parametrize(
    ("name", "environ"),
    [
        ("kafka.secrecy", {"LLMLOG_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}),
        ("elasticsearch.secrecy", {"LLMLOG_ELASTICSEARCH_API_KEY": "aWQ6a2V5"}),
    ],
)
def test_credentials_without_tls_are_yellow(name, environ):
    seen = run(settings=load(environ=environ))[name]
    assert seen.verdict is Verdict.YELLOW
    assert seen.mend.startswith("set LLMLOG_")


def test_the_commands_that_mend_can_be_read_by_a_shell():
    for name, _, facts, _ in FAULTS:
        mend = run(facts)[name].mend
        if mend.startswith(("curl", "kafka-configs", "kafka-acls", "pipeline")):
            assert len(shlex.split(mend)) > 1


def test_what_a_server_does_not_tell_is_skipped_and_not_wrong():
    nothing = {
        "topic_config": {}, "dead_letters_config": {}, "broker_config": {}, "newest_ms": None,
        "kafka_certificates": None, "elasticsearch_certificates": None, "privileges": None,
        "ilm": None, "indices": {}, "nodes": {}, "http": {}, "registry": None,
    }  # fmt: skip
    found = run(nothing)
    assert {seen.verdict for seen in found.values()} == {Verdict.GREEN, Verdict.SKIPPED}


def test_a_server_that_is_away_is_asked_once_and_one_line_is_red():
    asked = []

    def ask(name):
        def answer():
            asked.append(name)
            raise KafkaUnreachable("away")

        return answer

    table = new_table(SETTINGS, SERVER, User.WORKER)
    found = list(examine(table, {name: ask(name) for name in WELL}))
    wrong = [f.check.name for f in found if f.seen.verdict is Verdict.RED]
    assert "kafka.connection" in wrong
    assert "elasticsearch.connection" in wrong
    assert not [name for name in wrong if name.startswith(("topic.", "group.", "index."))]
    assert len(asked) == len(set(asked))


def test_a_check_is_skipped_after_a_red_one_and_after_a_fact_that_is_not_to_be_had():
    checks = [
        Check("a", "?", (), lambda: red("no", "mend")),
        Check("b", "?", (), lambda: green("x"), after=("a",)),
        Check("c", "?", ("fact",), lambda _: green("x"), "do this"),
        Check("d", "?", ("fact",), lambda _: green("x")),
        Check("e", "?", ("other",), green),
    ]
    facts = {"fact": lambda: 1 / 0, "other": lambda: "y"}

    def fails():
        raise Unreachable("away")

    found = list(examine(checks, facts | {"fact": fails}))
    assert [f.seen.verdict for f in found] == ["red", "skipped", "red", "skipped", "green"]
    assert [f.seen.text for f in found] == [
        "no", "not asked: see a", "away", "not asked: see c", "y"
    ]  # fmt: skip
    assert found[2].seen.mend == "do this"
    assert as_json(found)["verdict"] == "red"
    assert not as_json(found)["ok"]
    assert as_json(found[4:])["ok"]


@pytest.mark.parametrize("skews", [(-90_000, 5_000), (5_000, -90_000)])
def test_the_worst_clock_of_several_nodes_counts(skews):
    found = {str(n): nodes(skew_ms=skew)["nodes"]["a"] for n, skew in enumerate(skews)}
    seen = run({"nodes": {"nodes": found}})["elasticsearch.clock"]
    assert seen.verdict is Verdict.YELLOW
    assert "90 s behind" in seen.text


def test_records_that_wait_for_half_of_the_retention_are_in_danger():
    young = run({"status": status(2, behind_ms=3 * DAY_MS)})
    assert young["group.retention"].verdict is Verdict.GREEN
    old = run({"status": status(2, behind_ms=4 * DAY_MS)})["group.retention"]
    assert old.verdict is Verdict.RED
    assert "4 days old, and deleted after 7 days" in old.text
    assert f"retention.ms={28 * DAY_MS}" in old.mend
