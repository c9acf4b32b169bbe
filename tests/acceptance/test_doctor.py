"""`pipeline doctor` on real servers: one fault each, its line, and the remedy that it prints."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from itertools import pairwise

import httpx
import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from llmlog_common.settings import load
from llmlog_consumer.checks.doctor.examination import examine_deployment
from llmlog_consumer.checks.doctor.findings import Verdict
from llmlog_consumer.provision.rights import User
from llmlog_local.ports import free_ports
from support.payloads import ndjson, payload
from support.pipeline import Pipeline, wait_until

KNOWN = {
    "topic.replication", "dead_letters.replication", "group.status",
    "elasticsearch.disk", "elasticsearch.health",
}  # fmt: skip
"""Yellow on one broker, without a worker, on a machine whose disk may be nearly full, in a cluster
in which other tests have indices that lack a node."""


def admin_of(pipeline: Pipeline) -> AdminClient:
    return AdminClient(
        {"bootstrap.servers": pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]}
    )


def examine(pipeline: Pipeline) -> dict:
    """Return what is yellow or red, by check."""
    settings = load(environ=pipeline.environment)
    found = examine_deployment(settings, User.WORKER)
    return {
        f.check.name: f.seen
        for f in found
        if f.seen.verdict in (Verdict.YELLOW, Verdict.RED) and f.check.name not in KNOWN
    }


def set_topic(pipeline: Pipeline, topic: str, values: dict[str, str]) -> None:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    for key, value in values.items():
        entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        resource.add_incremental_config(entry)
    admin = admin_of(pipeline)
    admin.incremental_alter_configs([resource])[resource].result(30)


def set_source(**values: str) -> Callable[[Pipeline], None]:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return lambda pipeline: set_topic(pipeline, pipeline.topic, named)


def set_letters(**values: str) -> Callable[[Pipeline], None]:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return lambda pipeline: set_topic(pipeline, f"{pipeline.topic}.dlq", named)


def delete_topic(suffix: str) -> Callable[[Pipeline], None]:
    def delete(pipeline: Pipeline) -> None:
        name, admin = f"{pipeline.topic}{suffix}", admin_of(pipeline)
        admin.delete_topics([name])[name].result(30)
        wait_until(lambda: name not in admin.list_topics(timeout=30).topics)

    return delete


def ask(pipeline: Pipeline, method: str, path: str, body: object = None) -> None:
    url = f"{pipeline.elasticsearch}/{path}"
    httpx.request(method, url, json=body, timeout=60).raise_for_status()


def today(pipeline: Pipeline) -> str:
    (name,) = pipeline.get(f"/{pipeline.index}-2*/_settings")
    return name


def set_index(body: dict) -> Callable[[Pipeline], None]:
    return lambda pipeline: ask(pipeline, "PUT", f"{today(pipeline)}/_settings", body)


def remove_alias(pipeline: Pipeline) -> None:
    ask(pipeline, "DELETE", f"{today(pipeline)}/_alias/{pipeline.index}")


def change_template(pipeline: Pipeline) -> None:
    path = f"_index_template/{pipeline.index}"
    template = pipeline.get(f"/{path}")["index_templates"][0]["index_template"]
    template["template"]["mappings"]["properties"]["model"] = {"type": "long"}
    ask(pipeline, "PUT", path, template)


def delete_template(pipeline: Pipeline) -> None:
    ask(pipeline, "DELETE", f"_index_template/{pipeline.index}")


FAULTS: list[tuple[str, str, Callable[[Pipeline], None]]] = [
    ("topic.exists", "red", delete_topic("")),
    ("dead_letters.exists", "red", delete_topic(".dlq")),
    ("topic.cleanup", "red", set_source(cleanup__policy="compact")),
    ("dead_letters.cleanup", "red", set_letters(cleanup__policy="compact,delete")),
    ("topic.min_insync", "red", set_source(min__insync__replicas="2")),
    ("dead_letters.min_insync", "red", set_letters(min__insync__replicas="3")),
    ("topic.retention", "yellow", set_source(retention__ms="3600000")),
    ("topic.retention", "yellow", set_source(retention__bytes="1000000")),
    ("dead_letters.retention", "yellow", set_letters(retention__bytes="1000000")),
    ("dead_letters.kept", "yellow", set_letters(retention__ms=str(2 * 86_400_000))),
    ("topic.sizes", "yellow", set_source(max__message__bytes="100000")),
    ("dead_letters.sizes", "yellow", set_letters(max__message__bytes="100000")),
    ("index.blocks", "red", set_index({"index.blocks.write": True})),
    ("index.blocks", "red", set_index({"index.blocks.read_only_allow_delete": True})),
    ("index.blocks", "red", lambda p: ask(p, "POST", f"{today(p)}/_close")),
    ("index.pipelines", "red", set_index({"index.default_pipeline": "nowhere"})),
    ("index.alias", "yellow", remove_alias),
    ("index.template", "yellow", change_template),
    ("index.template", "red", delete_template),
]


def carry_out(pipeline: Pipeline, command: str) -> None:
    """Do what a remedy says, as a shell would."""
    program, *words = shlex.split(command)
    if program == "pipeline":
        pipeline.run(*words)
    elif program == "kafka-configs.sh":
        given = dict(pairwise(words))
        assert given["--bootstrap-server"] == pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]
        key, _, value = given["--add-config"].partition("=")
        set_topic(pipeline, given["--entity-name"], {key: value})
    else:
        assert program == "curl", command
        given = dict(pairwise(words))
        (url,) = [word for word in words if word.startswith("http")]
        body = json.loads(given["-d"]) if "-d" in given else None
        httpx.request(given["-X"], url, json=body, timeout=60).raise_for_status()


def test_each_fault_is_one_line_and_the_printed_remedy_mends_it(pipeline: Pipeline) -> None:
    assert examine(pipeline) == {}
    for name, verdict, break_it in FAULTS:
        break_it(pipeline)
        found = wait_until(lambda: examine(pipeline), what=f"{name} is seen")
        assert (list(found), found[name].verdict) == ([name], verdict), found
        carry_out(pipeline, found[name].mend)
        wait_until(lambda: examine(pipeline) == {}, what=f"{name} is mended")


@pytest.fixture
def foreign_template(pipeline: Pipeline) -> Iterator[str]:
    name = f"{pipeline.index}-foreign"
    body = {"index_patterns": [f"{pipeline.index}-*"], "priority": 10_000}
    ask(pipeline, "PUT", f"_index_template/{name}", body)
    yield name
    ask(pipeline, "DELETE", f"_index_template/{name}")


def test_a_stronger_template_of_another_is_named(pipeline: Pipeline, foreign_template: str) -> None:
    found = examine(pipeline)
    assert list(found) == ["index.names"]
    assert foreign_template in found["index.names"].text


def test_from_setup_to_the_canary_all_commands_answer_in_json(bare_pipeline: Pipeline) -> None:
    pipeline = bare_pipeline
    steps = [json.loads(line) for line in pipeline.run("setup", "--json").stdout.splitlines()]
    done = {step["what"] for step in steps if step["done"]}
    assert {f"topic {pipeline.topic}", f"index template {pipeline.index}"} <= done
    payloads = ndjson([payload(seed) for seed in range(3)])
    sent = pipeline.run("produce", "-", "--json", input=payloads)
    assert json.loads(sent.stdout) == {"topic": pipeline.topic, "sent": 3, "bad_lines": 0}
    totals = json.loads(pipeline.run("consume", "--until-end", "--json").stdout)
    assert (totals["consumed"], totals["indexed"], totals["dead"]) == (3, 3, 0)

    process = pipeline.start("consume")
    wait_until(lambda: "event=assigned" in pipeline.stderr_of(process))
    answer = json.loads(pipeline.run("doctor", "--json", "--end-to-end").stdout)
    verdicts = {check["check"]: check["verdict"] for check in answer["checks"]}
    assert verdicts["topic.clock"] == "green"
    hops = [verdict for name, verdict in verdicts.items() if name.startswith("canary.")]
    assert hops == ["green"] * 4, answer
    assert pipeline.count() == 3
    process.terminate()
    assert process.wait(300) == 0, pipeline.stderr_of(process)
    verified = pipeline.run("verify", "--json")
    proof = json.loads(verified.stdout)
    assert (proof["ok"], proof["records"], proof["events"]) == (True, 4, 3)
    assert "1 canaries" in verified.stderr


@pytest.mark.parametrize("server", ["KAFKA_BOOTSTRAP_SERVERS", "ELASTICSEARCH_URL"])
@pytest.mark.parametrize("fault", ["away", "tls"])
def test_a_server_that_is_away_or_has_no_tls_is_one_red_line(
    pipeline: Pipeline, server: str, fault: str
) -> None:
    (port,) = free_ports(1)
    setting, kafka = f"LLMLOG_{server}", server.startswith("KAFKA")
    if fault == "away":
        pipeline.environment[setting] = f"127.0.0.1:{port}" if kafka else f"http://127.0.0.1:{port}"
    elif kafka:
        pipeline.environment["LLMLOG_KAFKA_SECURITY_PROTOCOL"] = "SSL"
    else:
        pipeline.environment[setting] = pipeline.environment[setting].replace("http:", "https:")
    found = examine(pipeline)
    side = "kafka" if kafka else "elasticsearch"
    expected = {f"{side}.connection"} | ({f"{side}.certificate"} & found.keys())
    assert found.keys() == expected, found
    assert all(seen.verdict is Verdict.RED for seen in found.values())
    assert "LLMLOG_" in found[f"{side}.connection"].mend
