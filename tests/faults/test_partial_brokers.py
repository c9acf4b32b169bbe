"""One broker of three is gone, or full, or has forgotten: `make faults ONLY=partial`.

Partition 0 is on broker 3 alone, or on 3 and 2; all else is on broker 1.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import free_ports
from llmlog_local.testing import RunningServers
from support.fault_run import Arena
from support.partial_run import PartialRun, run_partially
from support.payloads import encoded
from support.pipeline import Pipeline, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

BAD = 30
OTHERS = (1, 2, 3)
DISK = "64m"
"""Of broker 3."""


@contextmanager
def cluster(folder: Path, third_folder: Path) -> Iterator[list[KafkaServer]]:
    """Run three brokers, of which the first is the controller."""
    ports = free_ports(4)
    host = "127.0.0.1"
    shared = {
        "controller.quorum.voters": f"1@{host}:{ports[3]}",
        "offsets.topic.num.partitions": "1",
        "broker.session.timeout.ms": "6000",
    }
    brokers = []
    for number, port in enumerate(ports[:3], start=1):
        listener = f"PLAINTEXT://{host}:{port}"
        own = {"node.id": str(number), "advertised.listeners": listener}
        if number == 1:
            own["listeners"] = f"{listener},CONTROLLER://{host}:{ports[3]}"
        else:
            own |= {"process.roles": "broker", "listeners": listener}
        home = third_folder if number == 3 else folder / f"broker-{number}"
        brokers.append(KafkaServer(home, port, heap="256m", properties=shared | own))
    try:
        brokers[0].launch()
        brokers[0].wait_ready()
        _place_coordinator(brokers[0].bootstrap_servers)
        for broker in brokers[1:]:
            broker.launch()
        for broker in brokers[1:]:
            broker.wait_ready()
        admin = AdminClient({"bootstrap.servers": brokers[0].bootstrap_servers})
        wait_until(lambda: len(admin.list_topics(timeout=10).brokers) == 3, what="three brokers")
        yield brokers
    finally:
        for broker in brokers:
            broker.kill()


def _place_coordinator(bootstrap: str) -> None:
    """Have the groups' topic created while there is one broker, which no fault takes away."""
    asker = Consumer({"bootstrap.servers": bootstrap, "group.id": "first"})
    wait_until(lambda: _is_answered(asker), what="the groups' coordinator")
    asker.close()


def _is_answered(asker: Consumer) -> bool:
    try:
        return bool(asker.committed([TopicPartition("any", 0)], 10))
    except KafkaException:
        return False


def place_topics(pipeline: Pipeline, bootstrap: str, first: list[int], **config: str) -> None:
    """Create the topics of a pipeline; partition 0 of the source is on those brokers."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    others = [[1, *first[1:]]] * 3  # each partition has as many replicas
    topics = [
        NewTopic(pipeline.topic, 4, replica_assignment=[first, *others], config=config),
        NewTopic(f"{pipeline.topic}.dlq", 1, replica_assignment=[[1]]),
    ]
    for made in admin.create_topics(topics).values():
        made.result(30)


def leader_of(pipeline: Pipeline, bootstrap: str) -> int:
    """Return the broker that leads partition 0; -1 for none."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topic = admin.list_topics(pipeline.topic, timeout=10).topics[pipeline.topic]
    return int(topic.partitions[0].leader)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.fixture
def brokers(
    arena: Arena, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[list[KafkaServer]]:
    """Three brokers; the third on a small disk where a test has asked for it."""
    small = "small_disk" in request.fixturenames
    third = request.getfixturevalue("small_disk") if small else tmp_path
    with cluster(tmp_path, third / "broker-3") as made:
        yield made


@pytest.fixture
def around(arena: Arena, brokers: list[KafkaServer]) -> Arena:
    """The arena with these brokers in the place of its own."""
    servers = RunningServers(brokers[0], arena.servers.elasticsearch)
    return Arena(servers, arena.kafka_proxy, arena.elastic_proxy)


def of_cluster(
    new_pipeline: Callable[..., Pipeline], around: Arena, first: list[int], **config: str
) -> Pipeline:
    """Return a pipeline of the three brokers, set up."""
    pipeline = new_pipeline()
    pipeline.environment |= around.servers.environment
    place_topics(pipeline, around.bootstrap, first, **config)
    pipeline.run("setup")
    return pipeline


def _lag(run: PartialRun, partition: int) -> int | None:
    """Return how many records of a partition are not settled; None where none has come yet."""
    row = run.status()["partitions"][partition]
    return int(row["lag"]) if row["log_end"] == 2 * BAD else None


def test_a_partition_has_no_leader(
    around: Arena, brokers: list[KafkaServer], new_pipeline: Callable[..., Pipeline]
) -> None:
    pipeline = of_cluster(new_pipeline, around, [3])

    def fault(run: PartialRun) -> None:
        brokers[2].kill()
        since = time.monotonic()
        run.wait_until_said("no leader", since, also="partition 0")
        run.measure_during()
        brokers[2].start()
        run.send_bad_part([encoded(seed) for seed in run.seeds(BAD)], partition=0)

    run_partially("a partition without leader", fault, around, pipeline, partitions=OTHERS)


def test_the_disk_of_one_broker_is_full(
    around: Arena,
    brokers: list[KafkaServer],
    small_disk: Path,
    new_pipeline: Callable[..., Pipeline],
) -> None:
    """Kafka gives the broker's log folder up, and its partition has no leader."""
    pipeline = of_cluster(new_pipeline, around, [3])

    def fault(run: PartialRun) -> None:
        ballast = small_disk / "ballast"
        with ballast.open("wb") as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
                    file.flush()
            except OSError:
                pass
        wait_until(lambda: not brokers[2].running, what="the broker gives up")
        since = time.monotonic()
        run.wait_until_said("no leader", since, also="partition 0")
        run.measure_during()
        ballast.unlink()
        brokers[2].start()

    run_partially("the disk of a broker full", fault, around, pipeline, partitions=OTHERS)


def test_a_log_is_truncated(
    around: Arena, brokers: list[KafkaServer], new_pipeline: Callable[..., Pipeline]
) -> None:
    """A replica that was behind leads, and other records stand where the group has read."""
    pipeline = of_cluster(
        new_pipeline, around, [3, 2], **{"unclean.leader.election.enable": "true"}
    )

    def fault(run: PartialRun) -> None:
        run.send_bad_part([encoded(seed) for seed in run.seeds(BAD)], partition=0)
        brokers[2].kill()
        wait_until(lambda: leader_of(pipeline, around.bootstrap) == 2, what="broker 2 leads")
        gone = [encoded(seed) for seed in run.seeds(BAD)]
        run.send_bad_part(gone, partition=0)
        run.load.extra -= len(gone)
        run.vanished = len(gone)
        run.wait(lambda: _lag(run, 0) == 0, what="they are documents")
        brokers[1].kill()
        brokers[2].start()
        wait_until(lambda: leader_of(pipeline, around.bootstrap) == 3, what="broker 3 leads")
        since = time.monotonic()
        run.send_bad_part([encoded(seed) for seed in run.seeds(BAD // 2)], partition=0)
        run.wait_until_said("partition 0", since, also="truncated")
        run.measure_during()
        pipeline.run("offsets", "accept-gap", f"{pipeline.topic}/0", "--yes")
        brokers[1].start()

    run_partially("a log truncated", fault, around, pipeline, partitions=OTHERS, loaded=OTHERS)
