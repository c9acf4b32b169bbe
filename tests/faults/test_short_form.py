"""The most telling faults, with few records: they run with every `make test`."""

from __future__ import annotations

import signal
import subprocess

import psutil
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from support.fault_run import SHORT, UNAUTHORIZED, Arena, Run, run_under_load
from support.pipeline import SLOW, Pipeline


def test_kill_9_of_a_worker(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        run.kill(run.worker())
        run.wait_for_line("worker died, starting it again")

    run_under_load("worker killed", fault, arena, pipeline, bad_share=0.05)


def test_kill_9_of_the_supervisor(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        family = run.family()
        run.kill(run.consuming)
        run.consuming.wait(10)
        _, alive = psutil.wait_procs(family, timeout=30 * SLOW)
        assert not alive, "no orphan is left"
        run.consuming = run.consume()

    run_under_load("supervisor killed", fault, arena, pipeline)


def test_kill_9_of_the_broker(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        arena.servers.kafka.kill()
        run.wait_for_line("event=Kafka")
        arena.servers.kafka.start()

    run_under_load("broker killed", fault, arena, pipeline, bad_share=0.05)


def test_kill_9_of_elasticsearch(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        arena.servers.elasticsearch.kill()
        run.wait_for_line("waiting for Elasticsearch")
        arena.servers.elasticsearch.start()

    run_under_load("Elasticsearch killed", fault, arena, pipeline)


def test_credentials_refused_for_a_while(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        arena.elastic_proxy.answer(*UNAUTHORIZED)
        run.wait(lambda: "check the credentials" in str(run.status()["unhealthy"]))
        arena.elastic_proxy.mend()

    run = run_under_load(
        "401 for a while", fault, arena, pipeline, settings=arena.through_proxies()
    )
    assert "resumed" in run.said()


def test_dead_letter_topic_refuses(arena: Arena, pipeline: Pipeline) -> None:
    def limit(run: Run, number: int) -> None:
        entry = ConfigEntry(
            "max.message.bytes", str(number), incremental_operation=AlterConfigOpType.SET
        )
        resource = ConfigResource(
            ResourceType.TOPIC, f"{pipeline.topic}.dlq", incremental_configs=[entry]
        )
        admin = run.admin()  # kept until it has answered
        admin.incremental_alter_configs([resource])[resource].result(30)

    def fault(run: Run) -> None:
        limit(run, 100)
        run.wait_for_line("dead-letter topic refuses letters")
        run.wait(lambda: f"{pipeline.topic}.dlq" in str(run.status()["unhealthy"]))
        limit(run, 8 * 1024 * 1024)

    run_under_load("dead-letter topic refuses", fault, arena, pipeline, bad_share=0.05)


def test_elasticsearch_through_a_cutting_proxy(arena: Arena, pipeline: Pipeline) -> None:
    def fault(run: Run) -> None:
        arena.elastic_proxy.cut_after(1500)
        run.wait_for_line("waiting for Elasticsearch")
        before = arena.elastic_proxy.connections
        run.wait(lambda: arena.elastic_proxy.connections > before + 5)
        arena.elastic_proxy.mend()

    run_under_load(
        "Elasticsearch's answers cut", fault, arena, pipeline, settings=arena.through_proxies()
    )


def test_rebalance_storm(arena: Arena, pipeline: Pipeline) -> None:
    rounds = 3 if SHORT <= 5_000 else 8

    def fault(run: Run) -> None:
        others: list[subprocess.Popen[str]] = []
        for number in range(rounds):
            others.append(run.consume(workers=1))
            newest = others[-1]
            run.wait(lambda p=newest: "assigned" in pipeline.stderr_of(p))
            if number % 2:
                run.kill(others.pop(0))
        for other in others:
            other.send_signal(signal.SIGTERM)
        for other in others:
            assert other.wait(60 * SLOW) == 0, pipeline.stderr_of(other)[-4000:]

    run_under_load("rebalance storm", fault, arena, pipeline, bad_share=0.05)
