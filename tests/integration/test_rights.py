"""The rights that `pipeline setup --print` hands out are enough, on a broker that asks for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from llmlog_common.settings import load
from llmlog_consumer.provision.rights import User, kafka_rights
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import HOST, free_ports
from support.payloads import payload
from support.pipeline import Pipeline

PASSWORD = "secret"
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


@pytest.fixture
def users(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A broker for users with passwords: its address for the super user, and for all others."""
    port, users_port, controller = free_ports(3)
    accounts = " ".join(f'user_{user}="{PASSWORD}"' for user in User)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule"
    properties = {
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller},"
        f"USERS://{HOST}:{users_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port},USERS://{HOST}:{users_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
        "USERS:SASL_PLAINTEXT",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.users.plain.sasl.jaas.config": f"{login} required {accounts};",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with KafkaServer(tmp_path / "kafka", port, properties=properties):
        yield f"{HOST}:{port}", f"{HOST}:{users_port}"


def grant(bootstrap: str, pipeline: Pipeline) -> None:
    """Give each user its rights."""
    settings = load(environ=pipeline.environment)
    bindings = [
        AclBinding(
            ResourceType[right.kind.upper()], right.name, ResourcePatternType.LITERAL,
            f"User:{user}", "*", OPERATIONS[operation], AclPermissionType.ALLOW,
        )
        for user in User
        for right in kafka_rights(user, settings)
        for operation in right.operations
    ]  # fmt: skip
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_acls(bindings).values():
        future.result(30)


def rights_in(answer: str) -> dict[str, str]:
    """Return what mends the rights in Kafka, by the verdicts that `doctor` gives."""
    checks = [c for c in json.loads(answer)["checks"] if c["check"].endswith("rights")]
    kafka = [check for check in checks if not check["check"].startswith("elasticsearch")]
    return {check["verdict"]: check["mend"] or "" for check in kafka}


def test_each_user_has_the_rights_for_its_commands(
    users: tuple[str, str], bare_pipeline: Pipeline
) -> None:
    pipeline = bare_pipeline
    grant(users[0], pipeline)
    pipeline.environment |= {
        "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": users[1],
        "LLMLOG_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "LLMLOG_KAFKA_SASL_MECHANISM": "PLAIN",
        "LLMLOG_KAFKA_SASL_PASSWORD": PASSWORD,
    }

    def run(user: User, *arguments: str, **options: object) -> str:
        pipeline.environment["LLMLOG_KAFKA_SASL_USERNAME"] = user
        return str(pipeline.run(*arguments, **options).stdout)

    run(User.SETUP, "setup")
    run(User.GATEWAY, "produce", "-", input=json.dumps(payload(1)))
    garbage = Producer({"bootstrap.servers": users[0]})
    garbage.produce(pipeline.topic, b"garbage")
    assert garbage.flush(60) == 0
    run(User.WORKER, "consume", "--until-end")
    proof = json.loads(run(User.OPERATOR, "verify", "--json"))
    assert (proof["documents"], proof["dead_letters"]) == (1, 1)
    assert "nothing waits" in run(User.OPERATOR, "status", check=False)
    for user, others in ((User.WORKER, User.GATEWAY), (User.OPERATOR, User.WORKER)):
        # Its exit code is for the whole cluster, in which others have indices too.
        assert rights_in(run(user, "doctor", "--as", user, "--json", check=False)) == {"green": ""}
        lacking = rights_in(run(others, "doctor", "--as", user, "--json", check=False))
        assert "--add --allow-principal User:" in lacking["red"]
    assert "decode" in run(User.OPERATOR, "dlq", "list")
    run(User.OPERATOR, "dlq", "replay", "--yes")
