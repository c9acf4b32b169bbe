"""Each privilege that docs/permissions.md gives is needed: without it the check names it.

What runs already waits for a right that is taken away, and goes on by itself once it is back.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from llmlog_common.settings import load
from llmlog_consumer.checks.doctor.examination import examine_deployment
from llmlog_consumer.checks.doctor.findings import as_json
from llmlog_consumer.provision.rights import User, elasticsearch_role, elasticsearch_users
from support.payloads import payload
from support.pipeline import SLOW, Pipeline, base_environment, wait_until
from support.secure import NAMES, SecureServers, run_as, secure_servers

pytestmark = pytest.mark.long

SETTINGS = load(environ=NAMES)
TOPIC = NAMES["LLMLOG_TOPIC"]
RELOAD_SECONDS = 5.5
"""Elasticsearch looks at its file of roles every five seconds."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureServers]:
    with secure_servers(tmp_path_factory.mktemp("rights")) as running:
        yield running


@pytest.fixture
def pipeline(servers: SecureServers, tmp_path: Path) -> Iterator[Pipeline]:
    pipeline = Pipeline(base_environment({}), tmp_path, servers.elasticsearch.url, *NAMES.values())
    run_as(pipeline, servers, User.SETUP, "setup")
    yield pipeline
    pipeline.kill_all()


def rights_of(servers: SecureServers, user: str) -> tuple[set[str], str]:
    """Return the verdicts of the checks of rights, and all that they say."""
    settings = load(environ=servers.environment(user))
    findings = list(examine_deployment(settings, User(user)))
    found = [one for one in as_json(findings)["checks"] if one["check"].endswith("rights")]
    return {one["verdict"] for one in found} - {"skipped"}, json.dumps(found)


def is_implied(operation: str, operations: tuple[str, ...]) -> bool:
    """Tell whether Kafka's own authorizer gives an operation with the others anyway."""
    return operation == "Describe" and bool({"Read", "Write"} & set(operations))


def set_roles(servers: SecureServers, changed: dict[str, dict[str, Any]]) -> None:
    """Change roles, and wait until Elasticsearch has read them."""
    servers.set_roles(changed)
    threading.Event().wait(RELOAD_SECONDS)


def without(user: User, number: int) -> tuple[str, dict[str, Any]] | None:
    """Return the privilege of a user with this number, and the role without it."""
    role = elasticsearch_role(user, SETTINGS)
    indices = role["indices"][0]
    every = [*role["cluster"], *indices["privileges"]]
    if number >= len(every):
        return None
    lacking = every[number]
    return lacking, {
        "cluster": [name for name in role["cluster"] if name != lacking],
        "indices": [{**indices, "privileges": [n for n in indices["privileges"] if n != lacking]}],
    }


@pytest.mark.usefixtures("pipeline")
def test_every_privilege_in_elasticsearch_is_needed(servers: SecureServers) -> None:
    """One of each user is taken at a time; all users lack one at once."""
    wrong: list[tuple[Any, ...]] = []
    number = 0
    while lacking := {
        user: found for user in elasticsearch_users() if (found := without(user, number))
    }:
        set_roles(servers, {user: role for user, (_, role) in lacking.items()})
        for user, (name, _) in lacking.items():
            verdicts, said = rights_of(servers, user)
            if "red" not in verdicts or name not in said:
                wrong.append((user, name, said))
        number += 1
    set_roles(servers, {})
    assert not wrong
    for user in elasticsearch_users():
        assert rights_of(servers, user)[0] == {"green"}


NOTICED = {("topic", TOPIC, "Read"), ("topic", f"{TOPIC}.dlq", "Write"), ("group", TOPIC, "Read")}
"""What running workers use again and again; of the others they ask as they start."""


class Workers:
    """Two workers that run, and what they have settled."""

    def __init__(self, pipeline: Pipeline, servers: SecureServers) -> None:
        self._pipeline, self._servers = pipeline, servers
        self._letters = Producer({"bootstrap.servers": servers.kafka.bootstrap_servers,
                                  **servers.security.kafka_settings("admin")})  # fmt: skip
        self.sent = 0
        pipeline.environment = base_environment(servers.environment(User.WORKER))
        pipeline.open_page()
        self._environment = pipeline.environment
        self.process = pipeline.start("consume", "--workers", "2")

    def send(self) -> None:
        """Send an event, and a record that becomes a letter."""
        self.sent += 1
        given = json.dumps(payload(self.sent))
        run_as(self._pipeline, self._servers, User.GATEWAY, "produce", "-", input=given)
        self._letters.produce(TOPIC, b"garbage")
        assert self._letters.flush(60) == 0
        self._pipeline.environment = self._environment

    def wait_settled(self, after: str) -> None:
        """Wait until all of them are settled, and the process is ready."""
        wait_until(
            lambda: (
                self.counts() == (self.sent, self.sent)
                and self._pipeline.ask_page("/readyz")[0] == 200
            ),
            what=f"all is settled after {after}",
        )

    def wait_said(self, what: str) -> None:
        """Wait until the process is not ready, and says that something is not allowed."""

        def is_said() -> bool:
            status, text = self._pipeline.ask_page("/readyz")
            return status == 503 and any(word in text for word in ("uthoriz", "grant", "may not"))

        wait_until(is_said, what=f"{what} is said")

    def counts(self) -> tuple[float, float]:
        """Return how many were indexed, and how many became letters."""
        values = self._pipeline.metrics()
        indexed, dead = (values.get(("records_total", kind), 0) for kind in ("indexed", "dead"))
        return indexed, dead


def test_workers_wait_for_each_right_and_go_on_with_it(
    pipeline: Pipeline, servers: SecureServers
) -> None:
    """Each right is taken from running workers; what comes meanwhile is settled once it is back."""
    workers = Workers(pipeline, servers)
    workers.send()
    workers.wait_settled("the start")
    for grant in servers.security.rights[User.WORKER].kafka:
        for operation in grant.operations:
            if is_implied(operation, tuple(grant.operations)):
                continue
            right = (grant.kind, grant.name, operation)
            with servers.without(User.WORKER, *right):
                workers.send()
                if right in NOTICED:
                    workers.wait_said(str(right))
            workers.wait_settled(str(right))
    found = without(User.WORKER, 1)
    assert found is not None
    assert found[0] == "create_doc"
    set_roles(servers, {User.WORKER: found[1]})
    workers.send()
    workers.wait_said("create_doc")
    set_roles(servers, {})
    workers.wait_settled("create_doc")
    workers.process.terminate()
    assert workers.process.wait(60 * SLOW) == 0
    assert "worker died" not in pipeline.stderr_of(workers.process)
    proof = json.loads(run_as(pipeline, servers, User.READER, "verify", "--json"))
    sent = workers.sent
    assert (proof["ok"], proof["documents"], proof["dead_letters"]) == (True, sent, sent)
