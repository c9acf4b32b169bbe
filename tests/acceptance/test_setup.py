"""`pipeline setup` against real servers, and what commands do when Elasticsearch is half away."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from threading import Barrier

import httpx

from llmlog_common.settings import load
from llmlog_consumer.elasticsearch.patience import PatientElastic
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.provision.indices import index_steps
from llmlog_consumer.provision.steps import Step
from llmlog_consumer.provision.topics import topic_steps
from llmlog_schemas.fields import CURRENT_DOCUMENT_VERSION
from support.payloads import payload
from support.pipeline import Pipeline


def ndjson(payloads: list[dict]) -> str:
    return "\n".join(json.dumps(one) for one in payloads) + "\n"


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_every_command_asks_the_next_node_when_the_first_is_down(bare_pipeline: Pipeline) -> None:
    pipeline = bare_pipeline
    urls = f"http://127.0.0.1:{closed_port()},{pipeline.elasticsearch}"
    pipeline.environment["LLMLOG_ELASTICSEARCH_URL"] = urls
    pipeline.run("setup")
    pipeline.run("produce", "-", input=ndjson([payload(1), payload(2)]))
    pipeline.run("consume", "--until-end")
    assert json.loads(pipeline.run("verify", "--json").stdout)["documents"] == 2
    assert json.loads(pipeline.run("report", "--json").stdout)["events"] == 2
    pipeline.run("trace", payload(1)["litellm_call_id"])
    pipeline.run("dlq", "replay", "--dry-run")


def template_of(pipeline: Pipeline) -> dict:
    answer = pipeline.get(f"/_index_template/{pipeline.index}")
    return dict(answer["index_templates"][0]["index_template"])


def put(pipeline: Pipeline, path: str, body: dict | None = None) -> None:
    httpx.put(f"{pipeline.elasticsearch}{path}", json=body, timeout=60).raise_for_status()


def post(pipeline: Pipeline, path: str, body: dict | None = None) -> None:
    httpx.post(f"{pipeline.elasticsearch}{path}", json=body, timeout=60).raise_for_status()


def today(pipeline: Pipeline) -> str:
    (index,) = pipeline.get(f"/{pipeline.index}-2*/_alias?expand_wildcards=all")
    return str(index)


def take_out_of_the_alias(pipeline: Pipeline, index: str) -> None:
    action = {"remove": {"index": index, "alias": pipeline.index}}
    post(pipeline, "/_aliases", {"actions": [action]})


def test_what_a_user_has_added_is_there_after_the_next_setup(pipeline: Pipeline) -> None:
    index, layer = pipeline.index, f"{pipeline.index}-mine"
    put(pipeline, f"/_component_template/{layer}", {"template": {
        "mappings": {"properties": {"team": {"type": "keyword"}}}}})  # fmt: skip
    there = template_of(pipeline)
    there |= {"composed_of": [layer], "priority": 321, "_meta": {"owner": "a team"}}
    there["template"]["settings"] = {"index": {"refresh_interval": "1s", "number_of_replicas": 0}}
    there["template"]["aliases"]["another"] = {}
    there["template"]["mappings"]["properties"]["model"] = {"type": "text"}
    put(pipeline, f"/_index_template/{index}", there)
    shown = pipeline.run("setup", "--dry-run").stdout
    assert f"composed_of: [{layer}] -> [{index}@settings, {layer}, {index}@custom]" in shown
    assert "template.mappings.properties.model.type: text -> keyword" in shown
    assert template_of(pipeline)["composed_of"] == [layer]
    assert "would be updated" in shown
    done = pipeline.run("setup").stdout
    assert done == shown.replace("would be updated", "updated")
    now = template_of(pipeline)
    assert now["composed_of"] == [f"{index}@settings", layer, f"{index}@custom"]
    assert now["priority"] == 321
    assert now["_meta"]["owner"] == "a team"
    assert now["template"]["settings"]["index"]["refresh_interval"] == "1s"
    assert now["template"]["aliases"] == {"another": {}, index: {}}
    assert now["template"]["mappings"]["properties"]["model"]["type"] == "keyword"
    assert "updated" not in pipeline.run("setup").stdout


def test_the_custom_layer_decides_shards_replicas_refresh_and_fields(pipeline: Pipeline) -> None:
    custom = {
        "settings": {
            "number_of_shards": 3,
            "number_of_replicas": 0,
            "refresh_interval": "30s",
            "routing.allocation.total_shards_per_node": 9,
        },
        "mappings": {"properties": {"team": {"type": "keyword"}}},
    }
    put(pipeline, f"/_component_template/{pipeline.index}@custom", {"template": custom})
    assert "auto_expand_replicas: 0-1 -> (none)" in pipeline.run("setup").stdout
    other = f"{pipeline.index}-2020.01.01"
    put(pipeline, f"/{other}")
    settings = pipeline.get(f"/{other}/_settings")[other]["settings"]["index"]
    assert settings["number_of_shards"] == "3"
    assert settings["number_of_replicas"] == "0"
    assert settings["refresh_interval"] == "30s"
    assert settings["routing"]["allocation"]["total_shards_per_node"] == "9"
    assert "auto_expand_replicas" not in settings
    mapping = pipeline.get(f"/{other}/_mapping")[other]["mappings"]
    assert mapping["properties"]["team"] == {"type": "keyword"}
    assert mapping["_meta"]["llmlog_version"] == CURRENT_DOCUMENT_VERSION
    assert pipeline.index in pipeline.get(f"/{other}/_alias")[other]["aliases"]


def test_an_index_that_has_lost_the_alias_is_named_by_report_and_mended_by_setup(
    pipeline: Pipeline,
) -> None:
    pipeline.run("produce", "-", input=ndjson([payload(1)]))
    pipeline.run("consume", "--until-end")
    index = today(pipeline)
    take_out_of_the_alias(pipeline, index)
    blind = pipeline.run("report", check=False)
    assert blind.returncode == 4
    assert f"no index behind {pipeline.index}: {index} is not behind it" in blind.stderr
    put(pipeline, f"/{pipeline.index}-2020.01.01")
    partly = pipeline.run("report", "--json", check=False)
    assert partly.returncode == 4
    (left_out,) = json.loads(partly.stdout)["left_out"]
    assert left_out.startswith(f"{index} is not behind {pipeline.index}")
    assert f"aliases.{pipeline.index}: (none) -> {{}}" in pipeline.run("setup").stdout
    whole = json.loads(pipeline.run("report", "--json").stdout)
    assert (whole["events"], whole["left_out"]) == (1, [])
    assert "updated" not in pipeline.run("setup").stdout


def test_report_names_a_closed_index_and_counts_the_others(pipeline: Pipeline) -> None:
    pipeline.run("produce", "-", input=ndjson([payload(1), payload(2)]))
    pipeline.run("consume", "--until-end")
    other = f"{pipeline.index}-2020.01.01"
    put(pipeline, f"/{other}")
    post(pipeline, f"/{other}/_close")
    partly = pipeline.run("report", "--json", check=False)
    assert partly.returncode == 4
    assert f"{other} is closed" in partly.stderr
    report = json.loads(partly.stdout)
    assert report["events"] == 2
    assert report["left_out"] == [f"{other} is closed: `POST /INDEX/_open`"]


def test_report_without_any_index_says_what_is_right(bare_pipeline: Pipeline) -> None:
    done = bare_pipeline.run("report", check=False)
    assert done.returncode == 4
    assert f"no index behind {bare_pipeline.index}: no daily index exists" in done.stderr


def test_ten_setups_at_once_leave_what_one_leaves(bare_pipeline: Pipeline) -> None:
    settings = load(environ=bare_pipeline.environment)
    barrier = Barrier(10)

    def setup() -> list[Step]:
        elastic, admin = PatientElastic(settings), KafkaAdmin(settings)
        barrier.wait(60)
        steps = chain(topic_steps(settings, admin), index_steps(settings, elastic))
        done = [step.carry_out() for step in steps]
        elastic.close()
        return done

    with ThreadPoolExecutor(10) as threads:
        runs = [future.result() for future in [threads.submit(setup) for _ in range(10)]]
    for run in runs:
        assert {step.change for step in run} <= {"created", "unchanged"}
    for number, step in enumerate(runs[0]):
        if step.what.startswith(("topic", "index ")) and "template" not in step.what:
            created = [run[number].change for run in runs].count("created")
            assert created == 1, step.what
    assert "created" not in bare_pipeline.run("setup").stdout
    assert "updated" not in bare_pipeline.run("setup").stdout


def test_a_stronger_template_of_another_is_named_before_it_takes_our_index(
    bare_pipeline: Pipeline,
) -> None:
    pipeline, foreign = bare_pipeline, f"/_index_template/{bare_pipeline.index}-foreign"
    body = {"index_patterns": [f"{pipeline.index}-*"], "priority": 4321}
    put(pipeline, foreign, body)
    done = pipeline.run("setup", "--elasticsearch-only", check=False)
    assert done.returncode == 4
    assert f"{pipeline.index}-foreign ({pipeline.index}-*; priority 4321)" in done.stderr
    assert pipeline.get(f"/{pipeline.index}-2*/_alias") == {}
    equal = {**body, "priority": template_of(pipeline)["priority"]}
    httpx.delete(f"{pipeline.elasticsearch}/_index_template/{pipeline.index}").raise_for_status()
    put(pipeline, foreign, equal)
    for arguments in ((), ("--dry-run",)):
        done = pipeline.run("setup", "--elasticsearch-only", *arguments, check=False)
        assert done.returncode == 4
        assert f"{pipeline.index}-foreign" in done.stderr
    httpx.delete(f"{pipeline.elasticsearch}{foreign}").raise_for_status()
    pipeline.run("setup", "--elasticsearch-only")


def test_one_server_is_set_up_without_the_other(bare_pipeline: Pipeline) -> None:
    pipeline = bare_pipeline
    servers = dict(pipeline.environment)
    pipeline.environment["LLMLOG_ELASTICSEARCH_URL"] = "http://127.0.0.1:1"
    assert "index" not in pipeline.run("setup", "--kafka-only").stdout
    pipeline.environment |= servers | {"LLMLOG_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    assert "topic" not in pipeline.run("setup", "--elasticsearch-only").stdout
    pipeline.environment |= servers
    assert "created" not in pipeline.run("setup").stdout
    assert (
        pipeline.run("setup", "--kafka-only", "--elasticsearch-only", check=False).returncode == 2
    )


def test_files_that_are_installed_by_hand_are_what_setup_installs(bare_pipeline: Pipeline) -> None:
    pipeline, folder = bare_pipeline, bare_pipeline.folder / "out"
    servers = dict(pipeline.environment)
    pipeline.environment["LLMLOG_ELASTICSEARCH_URL"] = "http://127.0.0.1:1"
    pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    printed = pipeline.run("setup", "--print", str(folder)).stdout.splitlines()
    pipeline.environment |= servers
    assert sorted(printed) == sorted(str(path) for path in folder.rglob("*") if path.is_file())
    for kind, name in (("component", f"{pipeline.index}@settings"), ("index", pipeline.index)):
        path = f"_{kind}_template/{name}"
        body = json.loads((folder / "elasticsearch" / f"{path}.json").read_text())
        body["template"].get("settings", {}).get("index", {}).pop("lifecycle", None)
        put(pipeline, f"/{path}", body)
    assert ": updated" not in pipeline.run("setup").stdout
