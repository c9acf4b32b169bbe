"""A SASL password that is changed in its file while a client uses it."""

import logging

import pytest
from confluent_kafka import KafkaError, Producer

from llmlog_common.kafka_clients import admin_config, consumer_config, new_client, producer_config
from llmlog_common.kafka_password import PasswordFile
from llmlog_common.settings import Settings, load
from support.pipeline import wait_until

REFUSED = KafkaError(KafkaError._AUTHENTICATION)


class FakeClient:
    def __init__(self, config=None, logger=None):
        self.config, self.credentials = config or {}, []

    def set_sasl_credentials(self, username, password):
        self.credentials.append((username, password))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "password"
    path.write_text("one")
    return path


@pytest.fixture
def settings(file):
    return load(
        environ={
            "LLMLOG_KAFKA_SASL_USERNAME": "me",
            "LLMLOG_KAFKA_SASL_PASSWORD_FILE": str(file),
            "LLMLOG_KAFKA_CONSUMER_SASL_USERNAME": "consumer",
        }
    )


def password_file(settings, properties=Settings.producer_properties, report=None):
    password = PasswordFile(settings, properties, interval_seconds=0.02, wait_seconds=60)
    client = FakeClient()
    password.attach(client, report)
    return password, client


def test_a_refusal_gives_the_client_the_new_password(settings, file, caplog):
    reports = []
    password, client = password_file(settings, report=reports.append)
    file.write_text("two")
    with caplog.at_level(logging.WARNING):
        logging.getLogger("llmlog.kafka").propagate = True
        password(REFUSED)
        wait_until(lambda: str(file) in caplog.text, what="the new password")
    assert client.credentials == [("me", "two")]
    assert reports == [REFUSED]
    assert "two" not in caplog.text.replace(str(file), "")


def test_the_file_may_change_after_the_refusal_and_be_broken_before(settings, file):
    password, client = password_file(settings, Settings.consumer_properties)
    file.unlink()
    password(REFUSED)
    password(REFUSED)
    file.write_text("")
    file.write_text("two")
    wait_until(lambda: client.credentials, what="the new password")
    assert client.credentials == [("consumer", "two")]


def test_another_error_is_reported_and_reads_nothing(settings, file):
    reports = []
    password, client = password_file(settings, report=reports.append)
    file.write_text("two")
    password(KafkaError(KafkaError._TRANSPORT))
    assert len(reports) == 1
    assert client.credentials == []


@pytest.mark.parametrize("config_of", [producer_config, consumer_config, admin_config])
def test_each_client_of_a_password_from_a_file_is_watched(settings, file, config_of):
    reports = []
    config = config_of(settings) | {"error_cb": reports.append}
    client = new_client(FakeClient, config)
    assert not [name for name in client.config if name.startswith("llmlog")]
    file.write_text("two")
    client.config["error_cb"](REFUSED)
    wait_until(lambda: client.credentials, what="the new password")
    assert reports == [REFUSED]


def test_librdkafka_takes_the_watched_configuration(settings):
    new_client(Producer, producer_config(settings))


def test_a_client_without_a_password_from_a_file_is_as_before():
    config = producer_config(load(environ={"LLMLOG_KAFKA_SASL_PASSWORD": "one"}))
    assert "error_cb" not in new_client(FakeClient, config).config


def test_the_old_password_is_not_given_again_because_something_else_is_new(tmp_path, file, caplog):
    authority = tmp_path / "ca.pem"
    authority.write_text("old")
    settings = load(
        environ={
            "LLMLOG_KAFKA_SASL_USERNAME": "me",
            "LLMLOG_KAFKA_SASL_PASSWORD_FILE": str(file),
            "LLMLOG_KAFKA_SSL_CA_LOCATION": str(authority),
        }
    )
    readings = []

    def properties(current):
        readings.append(current)
        return current.producer_properties()

    password, client = password_file(settings, properties)
    authority.write_text("new")
    readings.clear()
    logging.getLogger("llmlog.kafka").propagate = True
    with caplog.at_level(logging.WARNING):
        password(REFUSED)
        wait_until(lambda: len(readings) > 2, 5, "it is read more than once")
        assert client.credentials == []
        assert "read again" not in caplog.text
        file.write_text("two")
        wait_until(lambda: client.credentials, what="the new password")
    assert client.credentials == [("me", "two")]
