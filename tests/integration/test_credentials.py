"""A password that is changed on a real broker, and in its file, while clients use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from llmlog_common.kafka_clients import consumer_config, new_client, producer_config
from llmlog_common.settings import load
from llmlog_local.kafka import HOST, KafkaServer
from llmlog_local.ports import free_ports
from support.pipeline import wait_until

USER = "llmlog"


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AdminClient, str]]:
    """A broker with a listener that asks for a password."""
    port, sasl, controller = free_ports(3)
    properties = {
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listeners": f"PLAINTEXT://{HOST}:{port},SASL://{HOST}:{sasl},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port},SASL://{HOST}:{sasl}",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT"
        ),
        "sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.sasl.scram-sha-256.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
    }
    with KafkaServer(tmp_path_factory.mktemp("kafka"), port, properties=properties) as server:
        admin = AdminClient({"bootstrap.servers": server.bootstrap_servers})
        admin.create_topics([NewTopic(USER, 1, 1)])[USER].result(30)
        yield admin, f"{HOST}:{sasl}"


def set_password(admin: AdminClient, password: str) -> None:
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    change = UserScramCredentialUpsertion(USER, info, password.encode())
    admin.alter_user_scram_credentials([change])[USER].result(30)


def test_running_clients_use_the_new_password_of_their_file(
    broker: tuple[AdminClient, str], tmp_path: Path
) -> None:
    admin, address = broker
    file = tmp_path / "password"
    file.write_text("old\n")
    set_password(admin, "new")
    settings = load(
        environ={
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": address,
            "LLMLOG_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "LLMLOG_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
            "LLMLOG_KAFKA_SASL_USERNAME": USER,
            "LLMLOG_KAFKA_SASL_PASSWORD_FILE": str(file),
        }
    )
    refusals: list[str] = []

    def refused(error: object) -> None:
        refusals.append(str(error))

    producer = new_client(Producer, producer_config(settings) | {"error_cb": refused})
    consumer = new_client(Consumer, consumer_config(settings) | {"error_cb": refused})
    consumer.subscribe([USER])
    delivered: list[object] = []
    producer.produce(USER, b"x", on_delivery=lambda error, _: delivered.append(error))

    def turn() -> None:
        producer.poll(0.05)
        consumer.consume(1, 0.05)

    wait_until(lambda: turn() or len(refusals) >= 2, what="both are refused")
    file.write_text("new\n")
    wait_until(lambda: turn() or (delivered and consumer.assignment()), what="both are let in")
    assert delivered == [None]
    consumer.close()
