"""Servers that ask who one is: rights that are enough, and every wrong way to connect."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from llmlog_common.errors import PipelineError
from llmlog_common.settings import load
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.provision.rights import User
from llmlog_local.certificates import Authority
from llmlog_producer.check import check
from support.payloads import payload
from support.pipeline import SLOW, Pipeline, base_environment, wait_until
from support.secure import NAMES, SecureServers, run_as, secure_servers

pytestmark = pytest.mark.long

KNOWN_SECONDS = 2.0
"""Within which a mistake is named: the client knows of it after less than a second."""
K, E = "LLMLOG_KAFKA_", "LLMLOG_ELASTICSEARCH_"

Change = Callable[[SecureServers, Authority], dict[str, str]]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureServers]:
    with secure_servers(tmp_path_factory.mktemp("secure")) as running:
        yield running


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that no server trusts."""
    return Authority(tmp_path_factory.mktemp("other"))


@pytest.fixture
def pipeline(servers: SecureServers, tmp_path: Path) -> Iterator[Pipeline]:
    pipeline = Pipeline(base_environment({}), tmp_path, servers.elasticsearch.url, *NAMES.values())
    yield pipeline
    pipeline.kill_all()


def rights_in(answer: str) -> dict[str, str]:
    """Return what mends the rights, by the verdicts that `doctor` gives."""
    checks = [one for one in json.loads(answer)["checks"] if one["check"].endswith("rights")]
    found: dict[str, str] = {}
    for one in checks:
        if one["verdict"] != "skipped":
            found[one["verdict"]] = found.get(one["verdict"], "") + (one["mend"] or "")
    return found


def test_each_user_has_the_rights_for_its_commands(
    pipeline: Pipeline, servers: SecureServers
) -> None:
    def run(user: User, *arguments: str, **options: object) -> str:
        return run_as(pipeline, servers, user, *arguments, **options)

    run(User.SETUP, "setup")
    run(User.GATEWAY, "produce", "-", input=json.dumps(payload(1)))
    garbage = Producer({"bootstrap.servers": servers.kafka.bootstrap_servers,
                        **servers.security.kafka_settings("admin")})  # fmt: skip
    garbage.produce(NAMES["LLMLOG_TOPIC"], b"garbage")
    assert garbage.flush(60) == 0
    run(User.WORKER, "consume", "--until-end")
    proof = json.loads(run(User.READER, "verify", "--json"))
    assert (proof["documents"], proof["dead_letters"]) == (1, 1)
    assert "nothing waits" in run(User.READER, "status", check=False)
    assert "decode" in run(User.READER, "dlq", "list")
    run(User.OPERATOR, "dlq", "replay", "--yes")
    for user, less in ((User.WORKER, User.GATEWAY), (User.OPERATOR, User.READER)):
        assert set(rights_in(run(user, "doctor", "--as", user, "--json", check=False))) == {"green"}
        lacking = rights_in(run(less, "doctor", "--as", user, "--json", check=False))
        assert "--add --allow-principal User:" in lacking["red"]


# Mistakes: what is changed of the right settings, and the words that name it.

KAFKA_MISTAKES: dict[str, tuple[bool, Change, str]] = {
    # by certificate?, change, words
    "wrong password": (False, lambda *_: {K + "SASL_PASSWORD": "wrong"}, "invalid credentials"),
    "unknown user": (False, lambda *_: {K + "SASL_USERNAME": "x"}, "invalid credentials"),
    "wrong mechanism": (
        False,
        lambda *_: {K + "SASL_MECHANISM": "PLAIN"},
        "broker's supported mechanisms: SCRAM-SHA-512",
    ),
    "another authority": (
        False,
        lambda _, other: {K + "SSL_CA_LOCATION": str(other.ca_file)},
        "verify that ssl.ca.location is correctly configured",
    ),
    "no authority": (
        False,
        lambda *_: {K + "SSL_CA_LOCATION": "/etc/ssl/certs/ca-certificates.crt"},
        "ssl.ca.location",
    ),
    "no TLS": (
        False,
        lambda *_: {K + "SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
        "uses TLS: set security.protocol to SSL or SASL_SSL",
    ),
    "no SASL": (
        False,
        lambda *_: {K + "SECURITY_PROTOCOL": "SSL"},
        "asks for SASL: set security.protocol to SASL_SSL",
    ),
    "no certificate": (
        True,
        lambda *_: {K + "SSL_CERTIFICATE_LOCATION": "", K + "SSL_KEY_LOCATION": ""},
        "set kafka.ssl_certificate_location",
    ),
    "expired certificate": (
        True,
        lambda servers, _: of_certificate(servers.authority, "expired", days=-1),
        "renew the one of kafka.ssl_certificate_location",
    ),
    "a certificate of another authority": (
        True,
        lambda _, other: of_certificate(other, "worker"),
        "kafka.ssl_certificate_location",
    ),
    "another key": (
        True,
        lambda _, other: {K + "SSL_KEY_LOCATION": str(other.get("worker").key)},
        "key values mismatch",
    ),
    "SASL at a listener for certificates": (
        True,
        lambda servers, _: {
            name: value
            for name, value in servers.environment(User.WORKER).items()
            if "SASL" in name or "PROTOCOL" in name
        },
        "Request not valid in current SASL state",
    ),
}
SHORT = ("wrong password", "no TLS", "no certificate", "another authority")


def of_certificate(authority: Authority, name: str, days: int | None = None) -> dict[str, str]:
    """Return the settings for a client certificate, which ends in so many days."""
    ends = None if days is None else dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    issued = authority.issue(name, not_after=ends)
    return {
        K + "SSL_CERTIFICATE_LOCATION": str(issued.certificate),
        K + "SSL_KEY_LOCATION": str(issued.key),
    }


def mistaken(servers: SecureServers, other: Authority, name: str) -> dict[str, str]:
    """Return settings of a worker with one mistake."""
    by_certificate, change, _ = KAFKA_MISTAKES[name]
    right = servers.by_certificate("worker") if by_certificate else servers.environment("worker")
    return {key: value for key, value in (right | change(servers, other)).items() if value}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in SHORT else [pytest.mark.long])
        for name in KAFKA_MISTAKES
    ],
)
def test_a_wrong_way_to_connect_to_kafka_is_named_at_once(
    servers: SecureServers, other: Authority, name: str
) -> None:
    settings, words = load(environ=mistaken(servers, other, name)), KAFKA_MISTAKES[name][2]
    began = time.monotonic()
    with pytest.raises(PipelineError) as refusal:
        KafkaAdmin(settings).topics()
    assert words in str(refusal.value)
    assert refusal.value.exit_code in {2, 3}
    assert time.monotonic() - began < KNOWN_SECONDS * SLOW
    (finding,) = [one for one in check(settings, None) if one.what == "kafka" and one.exit_code]
    assert words in finding.message
    assert finding.exit_code == refusal.value.exit_code


ELASTICSEARCH_MISTAKES: dict[str, tuple[Change, str]] = {
    "wrong password": (lambda *_: {E + "PASSWORD": "wrong"}, "401 security_exception"),
    "no login": (lambda *_: {E + "PASSWORD": "", E + "USERNAME": ""}, "missing authentication"),
    "a key that is none": (
        lambda *_: {E + "PASSWORD": "", E + "USERNAME": "", E + "API_KEY": "a2V5OnNlY3JldA=="},
        "401 security_exception",
    ),
    "another authority": (
        lambda _, other: {E + "CA_CERTS": str(other.ca_file)},
        "set elasticsearch.ca_certs",
    ),
    "another fingerprint": (
        lambda *_: {E + "CA_CERTS": "", E + "SSL_ASSERT_FINGERPRINT": "0" * 64},
        "set elasticsearch.ssl_assert_fingerprint",
    ),
    "http at https": (
        lambda servers, _: {E + "URL": servers.elasticsearch.url.replace("https", "http")},
        "begin the URL with https://",
    ),
}


@pytest.mark.parametrize("name", ELASTICSEARCH_MISTAKES)
def test_a_wrong_way_to_connect_to_elasticsearch_is_named_at_once(
    servers: SecureServers, other: Authority, name: str
) -> None:
    change, words = ELASTICSEARCH_MISTAKES[name]
    right = servers.environment("worker") | change(servers, other)
    elastic = Elastic(load(environ={key: value for key, value in right.items() if value}))
    began = time.monotonic()
    with pytest.raises(PipelineError) as refusal:
        elastic.demand("GET", "/_cluster/health")
    assert words in str(refusal.value)
    assert refusal.value.exit_code == 4
    assert time.monotonic() - began < KNOWN_SECONDS * SLOW
    elastic.close()


def test_a_worker_goes_on_with_the_certificate_that_replaces_its_own(
    pipeline: Pipeline, servers: SecureServers, tmp_path: Path
) -> None:
    """The file is replaced under load; the worker's process stays, and nothing is lost."""
    run_as(pipeline, servers, "setup", "setup")
    own = servers.by_certificate("worker")
    of_kafka = {name: value for name, value in own.items() if name.startswith(K)}
    right = {
        name: value
        for name, value in servers.environment("worker").items()
        if not name.startswith(K + "SASL")
    }
    pipeline.environment = base_environment(right | of_kafka)
    process = pipeline.start("consume", "--workers", "2")

    def said(words: str, times: int = 1) -> bool:
        return pipeline.stderr_of(process).count(words) >= times

    wait_until(lambda: said("event=assigned", 2), what="both workers have joined")
    servers.authority.issue("worker")  # over its files
    wait_until(lambda: said("the new certificate is used", 2), what="both workers have new clients")
    environment = pipeline.environment
    run_as(pipeline, servers, "gateway", "produce", "-", input=json.dumps(payload(7)))
    pipeline.environment = environment
    process.terminate()
    assert process.wait(60) == 0
    assert "worker died" not in pipeline.stderr_of(process)
    run_as(pipeline, servers, "worker", "consume", "--until-end")
    assert json.loads(run_as(pipeline, servers, "reader", "verify", "--json"))["ok"]
