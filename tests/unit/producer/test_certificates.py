"""A gateway's Kafka client is replaced when a certificate that it has read once changes."""

import pytest

from llmlog_common.errors import ConfigurationError
from llmlog_common.settings import load
from llmlog_producer.sending.kafka_producer import KafkaProducer
from support.fakes.gateway import FakeProducer


def test_a_client_with_new_files_is_made_of_the_settings_as_they_are_now(tmp_path):
    secret, key = tmp_path / "secret", tmp_path / "key.pem"
    for file in (secret, key):
        file.write_text("old")
    made = []

    def create(_kind, config):
        made.append(FakeProducer(config))
        return made[-1]

    settings = load(
        environ={
            "LLMLOG_KAFKA_SSL_KEY_LOCATION": str(key),
            "LLMLOG_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE": str(secret),
        }
    )
    producer = KafkaProducer(settings, lambda *_: None, lambda *_: None, create=create)
    assert not producer.is_outdated
    for file, new in ((key, "a"), (secret, "b")):
        file.write_text(new)
        assert producer.is_outdated
    producer.limit_batches(10_000)  # which makes a new client
    assert not producer.is_outdated
    assert made[-1].config["sasl.oauthbearer.client.secret"] == "b"
    assert made[-1].config["batch.size"] == 10_000 - 512
    assert made[0].config["sasl.oauthbearer.client.secret"] == "old"


def test_files_of_which_no_client_can_be_made_for_a_moment_stay_new(tmp_path):
    key = tmp_path / "key.pem"
    key.write_text("old")
    faults = [None, ConfigurationError("too many open files"), None]

    def create(_kind, config):
        if fault := faults.pop(0):
            raise fault
        return FakeProducer(config)

    settings = load(environ={"LLMLOG_KAFKA_SSL_KEY_LOCATION": str(key)})
    producer = KafkaProducer(settings, lambda *_: None, lambda *_: None, create=create)
    key.write_text("new")
    with pytest.raises(ConfigurationError):
        producer.limit_batches(10_000)
    assert producer.is_outdated
    producer.rebuild()
    assert not producer.is_outdated
