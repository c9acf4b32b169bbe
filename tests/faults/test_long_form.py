"""Every other fault, under more load: `make faults`."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions

from llmlog_consumer.delivery.circuit_breaker import MIN_RECORDS
from llmlog_consumer.elasticsearch.index_names import daily_index
from llmlog_local.elasticsearch import ElasticsearchServer
from llmlog_local.jars import ELASTICSEARCH_VERSIONS
from llmlog_local.ports import free_ports
from llmlog_schemas.convert import to_event
from support.fault_run import (
    LONG,
    Arena,
    Fault,
    Load,
    Run,
    another_elasticsearch,
    count,
    frozen,
    run_under_load,
    settle,
    stop,
)
from support.judge import judge
from support.payloads import encoded, payload, send
from support.pipeline import Pipeline, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SESSION = 6.0
POLL_INTERVAL = {"LLMLOG_KAFKA_CONSUMER_MAX_POLL_INTERVAL_MS": "12000"}
"""As short as it may be beside the session's time-out."""
ENDS_WITHIN = 60.0


def again(run: Run, family: list[psutil.Process] | None = None, *, code: int | None = 0) -> None:
    """See the consumer end by itself, leaving no process behind; start another."""
    family = run.family() if family is None else family
    ended = run.consuming.wait(ENDS_WITHIN)
    assert code is None or ended == code, run.said()[-4000:]
    _, alive = psutil.wait_procs(family, timeout=ENDS_WITHIN)
    assert not alive, f"left behind: {alive}"
    run.undisturbed = False
    run.consuming = run.consume()


# While it drains


def test_worker_killed_while_it_drains(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        victim = run.worker()
        run.consuming.send_signal(signal.SIGTERM)
        run.kill(victim)
        again(run)

    run_under_load("worker killed in a drain", fault, arena, pipeline, records=LONG)


def test_supervisor_killed_while_it_drains(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        run.consuming.send_signal(signal.SIGTERM)
        run.kill(run.consuming)
        again(run, code=-signal.SIGKILL)

    run_under_load(
        "supervisor killed in a drain", fault, arena, pipeline, records=LONG, bad_share=0.05
    )


def test_broker_killed_while_it_drains(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        run.consuming.send_signal(signal.SIGTERM)
        arena.servers.kafka.kill()
        arena.servers.kafka.start()
        again(run)

    run_under_load("broker killed in a drain", fault, arena, pipeline, records=LONG)


def test_elasticsearch_killed_while_it_drains(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        run.consuming.send_signal(signal.SIGTERM)
        arena.servers.elasticsearch.kill()
        arena.servers.elasticsearch.start()
        again(run)

    run_under_load("Elasticsearch killed in a drain", fault, arena, pipeline, records=LONG)


def test_broker_frozen_while_it_drains(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        family = run.family()
        with frozen(arena.servers.kafka.pid):
            run.consuming.send_signal(signal.SIGTERM)
            run.consuming.wait(ENDS_WITHIN)
        again(run, family, code=None)

    run_under_load("broker frozen in a drain", fault, arena, pipeline, records=LONG, bad_share=0.05)


def test_elasticsearch_frozen_while_it_drains(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        family = run.family()
        with frozen(arena.servers.elasticsearch.pid):
            run.consuming.send_signal(signal.SIGTERM)
            run.consuming.wait(ENDS_WITHIN)
        again(run, family)

    run_under_load("Elasticsearch frozen in a drain", fault, arena, pipeline, records=LONG)


# Killed and frozen


def test_everything_of_ours_killed_while_elasticsearch_hangs(
    arena: Arena, pipeline: Pipeline
) -> None:
    def fault(run: Run) -> None:
        with frozen(arena.servers.elasticsearch.pid):
            run.wait(lambda: run.status()["in_flight"] > 0)
            for worker in run.worker_processes():
                run.kill(worker)
            run.kill(run.consuming)
            run.consuming.wait(10)
            run.consuming = run.consume()
            run.wait_for_line("event=waiting")
        run.wait_for_progress()

    run_under_load("killed while ES hangs", fault, arena, pipeline, records=LONG)


def test_worker_frozen(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        with frozen(run.worker().pid):
            run.wait(lambda: run.status()["members"] == 1, what="it is missed")
            run.outlast(12.0)

    run_under_load(
        "worker frozen", fault, arena, pipeline, records=LONG, settings=POLL_INTERVAL,
        bad_share=0.05,
    )  # fmt: skip


def test_elasticsearch_frozen(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        with frozen(arena.servers.elasticsearch.pid):
            run.outlast(20.0)
        assert "partitions lost" not in run.said(), "the poll goes on while it waits"

    run_under_load(
        "Elasticsearch frozen", fault, arena, pipeline, records=LONG, settings=POLL_INTERVAL
    )


def test_broker_frozen(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        with frozen(arena.servers.kafka.pid):
            run.outlast(2 * SESSION)

    run_under_load("broker frozen", fault, arena, pipeline, records=LONG, bad_share=0.05)


# The network


def kafka_cut(run: Run) -> None:
    for _ in range(5):
        before = run.arena.kafka_proxy.connections
        run.arena.kafka_proxy.reset()
        run.wait(lambda b=before: run.arena.kafka_proxy.connections > b, what="a reconnect")
    run.wait_for_progress()


def kafka_cuts_answers(run: Run) -> None:
    before = run.arena.kafka_proxy.connections
    run.arena.kafka_proxy.cut_after(20_000)
    run.wait(lambda: run.arena.kafka_proxy.connections > before + 8)
    run.arena.kafka_proxy.mend()


def kafka_slow(run: Run) -> None:
    run.arena.kafka_proxy.delay(0.4)
    run.outlast(SESSION)
    run.arena.kafka_proxy.mend()


def kafka_half_open(run: Run) -> None:
    run.arena.kafka_proxy.hang()
    run.outlast(2 * SESSION)
    run.arena.kafka_proxy.mend()


def kafka_unreachable(run: Run) -> None:
    run.arena.kafka_proxy.stop()
    run.outlast(2 * SESSION)
    run.arena.kafka_proxy.start()


def elastic_slow(run: Run) -> None:
    run.arena.elastic_proxy.delay(0.7)
    run.wait_for_progress()
    run.outlast(SESSION)
    run.arena.elastic_proxy.mend()


def elastic_half_open(run: Run) -> None:
    """Answers never come, and the requests may have been carried out."""
    run.arena.elastic_proxy.hang()
    run.outlast(2 * SESSION)
    run.arena.elastic_proxy.reset()
    run.arena.elastic_proxy.mend()


def elastic_unreachable(run: Run) -> None:
    run.arena.elastic_proxy.stop()
    run.wait_for_line("waiting for Elasticsearch")
    run.arena.elastic_proxy.start()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("Kafka's connections cut", kafka_cut),
        ("Kafka's answers cut", kafka_cuts_answers),
        ("Kafka slow", kafka_slow),
        ("Kafka half open", kafka_half_open),
        ("Kafka unreachable", kafka_unreachable),
        ("Elasticsearch slow", elastic_slow),
        ("Elasticsearch half open", elastic_half_open),
        ("Elasticsearch unreachable", elastic_unreachable),
    ],
)
def test_network(arena: Arena, pipeline: Pipeline, name: str, fault: Fault) -> None:
    settings = arena.through_proxies() | POLL_INTERVAL
    run_under_load(
        name, fault, arena, pipeline, records=LONG, bad_share=0.05, settings=settings
    )  # fmt: skip


# Elasticsearch says no


def flood_stage(run: Run) -> None:
    (index,) = run.pipeline.get(f"/{run.pipeline.index}-*/_settings")
    block = "index.blocks.read_only_allow_delete"
    run.elastic("PUT", f"/{index}/_settings", json={block: True})
    run.wait_for_line("flood-stage")
    assert "deployment is wrong" not in run.said(), "a full disk is waited for"
    run.elastic("PUT", f"/{index}/_settings", json={block: None})


def write_block(run: Run) -> None:
    (index,) = run.pipeline.get(f"/{run.pipeline.index}-*/_settings")
    run.elastic("PUT", f"/{index}/_settings", json={"index.blocks.write": True})
    run.wait(lambda: "remove the block" in str(run.status()["unhealthy"]))
    run.elastic("PUT", f"/{index}/_settings", json={"index.blocks.write": None})


def closed_index(run: Run) -> None:
    (index,) = run.pipeline.get(f"/{run.pipeline.index}-*/_settings")
    run.elastic("POST", f"/{index}/_close")
    run.wait(lambda: "open the index" in str(run.status()["unhealthy"]))
    run.elastic("POST", f"/{index}/_open")


def held_and_rebalanced(run: Run) -> None:
    """A hold is no reason to keep partitions from others, nor to lose what is held."""
    (index,) = run.pipeline.get(f"/{run.pipeline.index}-*/_settings")
    run.elastic("POST", f"/{index}/_close")
    run.wait_for_line("indexing paused: the deployment is wrong")
    other = run.consume(workers=1)
    run.wait(lambda: "assigned" in run.pipeline.stderr_of(other))
    other.send_signal(signal.SIGTERM)
    assert other.wait(ENDS_WITHIN) == 0
    run.elastic("POST", f"/{index}/_open")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("flood-stage block", flood_stage),
        ("write block", write_block),
        ("closed index", closed_index),
        ("closed index and a rebalance", held_and_rebalanced),
    ],
)
def test_elasticsearch_refuses(arena: Arena, pipeline: Pipeline, name: str, fault: Fault) -> None:
    run_under_load(name, fault, arena, pipeline, records=LONG)


@pytest.mark.parametrize("version", ELASTICSEARCH_VERSIONS)
def test_push_back_storm(
    arena: Arena, new_pipeline: Callable[..., Pipeline], tmp_path: Path, version: str
) -> None:
    """A queue of one, less room than one bulk takes, and another client that writes."""
    with another_elasticsearch(
        tmp_path, version, node__processors="1", thread_pool__write__queue_size="1",
        indexing_pressure__memory__limit="400kb",
    ) as server:  # fmt: skip
        pipeline = new_pipeline(server.url)
        pipeline.environment["LLMLOG_KAFKA_CONSUMER_FETCH_WAIT_MAX_MS"] = "500"

        def fault(run: Run) -> None:
            run.wait_for_line("es_rejected_execution_exception")
            run.wait_for_progress()

        run_under_load(f"429 storm on {version}", fault, arena, pipeline, records=LONG)


def test_elasticsearch_9(
    arena: Arena, new_pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    with another_elasticsearch(tmp_path, ELASTICSEARCH_VERSIONS[1]) as server:

        def fault(run: Run) -> None:
            server.kill()
            run.wait_for_line("waiting for Elasticsearch")
            server.start()

        pipeline = new_pipeline(server.url)
        run_under_load(
            "Elasticsearch 9 killed", fault, arena, pipeline, records=LONG, bad_share=0.05
        )


def test_record_over_the_request_limit(
    arena: Arena, new_pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    with another_elasticsearch(tmp_path, http__max_content_length="1mb") as server:
        pipeline = new_pipeline(server.url)
        large = b'{"messages":"' + b"x" * 1_500_000 + b'"}'
        oversize = [encoded(seed, document=large) for seed in range(3)]

        def fault(run: Run) -> None:
            send(arena.bootstrap, pipeline.topic, oversize, **{"message.max.bytes": 4_000_000})
            run.load.bad += len(oversize)
            run.load.extra += len(oversize)
            run.wait(lambda: len(_letters(pipeline)) == len(oversize))

        run_under_load("record over the limit", fault, arena, pipeline, records=LONG)
        assert {letter["stage"] for letter in _letters(pipeline)} == {"oversize"}


def _letters(pipeline: Pipeline) -> list[dict]:
    lines = pipeline.run("dlq", "list", "--json").stdout.splitlines()
    return [json.loads(line) for line in lines]


# Dead letters


def test_bad_documents_of_all_kinds(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        run.wait(lambda: _letters(pipeline))

    run_under_load("5 % bad of ten kinds", fault, arena, pipeline, records=LONG, bad_share=0.05)


def test_dead_letter_topic_gone(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        admin, name = run.admin(), f"{pipeline.topic}.dlq"
        admin.delete_topics([name])[name].result(30)
        run.load.bad_share = 0.05
        run.wait_for_line("dead-letter topic refuses letters")
        assert run.unsettled() > 0, "held, and not dropped"
        pipeline.run("setup")

    run_under_load("dead-letter topic gone", fault, arena, pipeline, records=LONG)


def test_everything_is_bad(arena: Arena, pipeline: Pipeline) -> None:
    """The breaker trips and nothing is lost; then an operator accepts the cause."""
    began = time.monotonic()
    load = Load(arena.bootstrap, pipeline.topic, LONG)
    load.value = lambda number: f"garbage {number}".encode()  # type: ignore[method-assign]
    load.start()
    load.finish()
    load.bad = LONG
    run = Run(arena, pipeline, load, {}, 2)
    tripped = pipeline.run("consume", "--workers", "2", "--until-end", check=False)
    assert tripped.returncode == 6, tripped.stderr[-3000:]
    assert len(_letters(pipeline)) < run.workers * MIN_RECORDS, "each worker has a breaker"
    fingerprint = _letters(pipeline)[0]["fingerprint"]
    run.consuming = run.consume("--accept", fingerprint)
    settle(run)
    stop(run)
    count(run, "everything is bad", began)


# What happens to a topic


def test_transaction_markers_and_aborts(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        producer = Producer(
            {"bootstrap.servers": arena.bootstrap, "transactional.id": pipeline.topic}
        )
        producer.init_transactions(30)
        for number in range(40):
            producer.begin_transaction()
            for seed in range(20):
                value = encoded(2_000_000_000 + number * 100 + seed)
                producer.produce(pipeline.topic, value, partition=number % 4)
            producer.flush(30)
            if number % 2:
                producer.abort_transaction(30)
            else:
                producer.commit_transaction(30)
                run.load.extra += 20

    run = run_under_load("transactions and aborts", fault, arena, pipeline, records=LONG)
    # Behind the last record of each partition stands a marker: the end is reached all the same.
    for aborted in (False, True):
        producer = Producer(
            {"bootstrap.servers": arena.bootstrap, "transactional.id": pipeline.topic}
        )
        producer.init_transactions(30)
        producer.begin_transaction()
        for partition in range(4):
            value = encoded(2_100_000_000 + partition + 10 * aborted)
            producer.produce(pipeline.topic, value, partition=partition)
        producer.flush(30)
        (producer.abort_transaction if aborted else producer.commit_transaction)(30)
        pipeline.run("consume", "--workers", "2", "--until-end", "--timeout", "60")
        assert run.unsettled() == 0
    judged = judge(arena.bootstrap, pipeline.elasticsearch, pipeline.topic, pipeline.index)
    judged.assert_exact()


def test_topic_grows(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        admin = run.admin()
        grown = admin.create_partitions([NewPartitions(pipeline.topic, 7)])
        grown[pipeline.topic].result(30)
        for partition in (4, 5, 6):
            values = [encoded(2_000_000_000 + 1000 * partition + n) for n in range(50)]
            send(arena.bootstrap, pipeline.topic, values, partition=partition)
        run.load.extra += 150

    # Clients look for new partitions this often; the default is five minutes.
    settings = {"LLMLOG_KAFKA_TOPIC_METADATA_REFRESH_INTERVAL_MS": "2000"}
    run_under_load("topic grows", fault, arena, pipeline, records=LONG, settings=settings)


def test_retention_overtakes_a_stopped_group(arena: Arena, pipeline: Pipeline) -> None:
    """What is gone is gone: said, accepted, recorded; and nothing else is lost."""
    began = time.monotonic()

    def fault(run: Run) -> None:
        run.consuming.send_signal(signal.SIGTERM)
        assert run.consuming.wait(ENDS_WITHIN) == 0
        values = [encoded(2_000_000_000 + n) for n in range(300)]
        send(arena.bootstrap, pipeline.topic, values, partition=1)
        run.load.extra += len(values)
        admin = run.admin()
        end = run.ends()[1]
        gone = TopicPartition(pipeline.topic, 1, end - 100)
        admin.delete_records([gone])[gone].result(30)
        run.consuming = run.consume()
        run.wait_for_line("stands still")
        pipeline.run("offsets", "accept-gap", f"{pipeline.topic}/1", "--yes")
        run.undisturbed = False

    load = Load(arena.bootstrap, pipeline.topic, LONG)
    run = Run(arena, pipeline, load, {}, 2)
    run.consuming = run.consume()
    load.start()
    run.wait_for_documents(LONG // 10)
    fault(run)
    load.finish()
    settle(run)
    stop(run)
    verdict = judge(arena.bootstrap, pipeline.elasticsearch, pipeline.topic, pipeline.index)
    assert not verdict.lost
    assert not verdict.doubled
    proof = json.loads(pipeline.run("verify", "--json").stdout)
    assert proof["ok"]
    (gap,) = proof["accepted_gaps"]
    assert gap["records"] >= 200
    assert len(verdict.documents) <= LONG + 300 - 200
    run.row("retention overtakes", verdict, began)


def test_from_latest_and_idle_partitions(arena: Arena, pipeline: Pipeline) -> None:
    """A group begins once: what came while it was down is not skipped at the next start."""
    old = [encoded(2_000_000_000 + n) for n in range(50)]
    send(arena.bootstrap, pipeline.topic, old, partition=0)
    run = Run(arena, pipeline, Load(arena.bootstrap, pipeline.topic, LONG), {}, 2)
    began = time.monotonic()
    run.consuming = run.consume("--from", "latest")
    run.wait_for_line("assigned")
    stop(run)
    # Nothing was consumed; now every partition gets records, the idle ones as well.
    run.load.start()
    wait_until(lambda: run.load.delivered >= LONG // 2)
    run.consuming = run.consume("--from", "latest")
    run.load.finish()
    settle(run)
    stop(run)
    verdict = judge(arena.bootstrap, pipeline.elasticsearch, pipeline.topic, pipeline.index)
    assert len(verdict.lost) == len(old), "what was there before the group began, and no more"
    assert not verdict.doubled
    assert len(verdict.documents) == LONG
    verdict.lost.clear()
    run.row("--from latest, idle partitions", verdict, began)


def test_template_deleted_at_a_days_change(arena: Arena, pipeline: Pipeline) -> None:
    started = payload(1)["startTime"] - 3 * 86_400
    yesterday = f"/{daily_index(pipeline.index, int(started * 1000))}"

    def fault(run: Run) -> None:
        run.elastic("DELETE", f"/_index_template/{pipeline.index}")
        values = [
            encoded(seed, **to_event(payload(seed, startTime=started + seed / 1000)))
            for seed in range(200)
        ]
        send(arena.bootstrap, pipeline.topic, values)
        run.load.extra += len(values)
        run.wait(lambda: "pipeline setup" in str(run.status()["unhealthy"]))
        assert httpx.head(pipeline.elasticsearch + yesterday).status_code == 404
        pipeline.run("setup")

    run_under_load("template gone at midnight", fault, arena, pipeline, records=LONG)
    mapping = pipeline.get(f"{yesterday}/_mapping")
    assert next(iter(mapping.values()))["mappings"]["_meta"]["llmlog_version"] == 1


def test_three_nodes_lose_their_master(
    arena: Arena, new_pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    ports = free_ports(6)
    transports = ports[3:]
    nodes = [
        ElasticsearchServer(
            tmp_path / f"n{number}",
            ports[number],
            heap="256m",
            transport_port=transports[number],
            settings={
                "node.name": f"n{number}",
                "discovery.seed_hosts": ",".join(f"127.0.0.1:{port}" for port in transports),
                "cluster.initial_master_nodes": "n0,n1,n2",
            },
        )
        for number in range(3)
    ]
    try:
        for node in nodes:
            node.launch()
        for node in nodes:
            node.wait_ready()

        def fault(run: Run) -> None:
            elected = run.elastic("GET", "/_cat/master?h=node").text.strip()
            (master,) = [node for node in nodes if node.settings["node.name"] == elected]
            others = [node for node in nodes if node is not master]
            urls = ",".join(node.url for node in nodes)
            assert run.settings["LLMLOG_ELASTICSEARCH_URL"] == urls
            master.kill()
            run.pipeline.elasticsearch = others[0].url
            run.wait_for_progress()
            others[1].kill()  # no quorum is left
            run.wait_for_line("waiting for Elasticsearch")
            for node in (master, others[1]):
                node.launch()
            for node in (master, others[1]):
                node.wait_ready()

        pipeline = new_pipeline(nodes[0].url)
        wait_until(
            lambda: (
                pipeline.get("/_cluster/health?wait_for_status=green&timeout=5s")["status"]
                == "green"
            )
        )
        settings = {"LLMLOG_ELASTICSEARCH_URL": ",".join(node.url for node in nodes)}
        run_under_load(
            "three nodes lose their master", fault, arena, pipeline, records=LONG,
            settings=settings,
        )  # fmt: skip
    finally:
        for node in nodes:
            node.kill()


def test_members_killed_as_they_join(arena: Arena, pipeline: Pipeline) -> None:
    """More of them than there are partitions, gone before they have anything."""

    def fault(run: Run) -> None:
        started: list[subprocess.Popen[str]] = []
        for _ in range(4):
            other = run.consume(workers=3)
            started.append(other)
            run.wait(lambda o=other: "consuming" in pipeline.stderr_of(o))
            run.kill(other)
            other.wait(10)

    run_under_load("members killed as they join", fault, arena, pipeline, records=LONG)
