"""When a worker replaces its clients for a certificate that has changed."""

from __future__ import annotations

import pytest

from llmlog_common.settings import load
from llmlog_consumer.service.client_renewal import ClientRenewal
from support.pipeline import wait_until


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "client.pem"
    path.write_text("old")
    return path


@pytest.fixture
def new(file):
    """Return a function that makes what one worker asks."""

    def make(refusal=lambda _: "", variable="LLMLOG_KAFKA_SSL_CERTIFICATE_LOCATION"):
        settings = load(environ={variable: str(file)})
        return ClientRenewal(settings, refusal=refusal, look_seconds=0.0)

    return make


def test_without_a_change_nothing_is_replaced(new):
    renewal = new(refusal=lambda _: pytest.fail("tried"))
    assert not any(renewal.look() for _ in range(10))


def test_settings_without_files_are_never_looked_at():
    renewal = ClientRenewal(load(environ={}), look_seconds=0.0)
    assert not renewal.look()


@pytest.mark.parametrize(
    "variable",
    [
        "LLMLOG_KAFKA_SSL_CERTIFICATE_LOCATION",
        "LLMLOG_KAFKA_SSL_CA_LOCATION",
        "LLMLOG_KAFKA_CONSUMER_SSL_KEY_LOCATION",
        "LLMLOG_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE",
    ],
)
def test_a_file_that_a_broker_accepts_makes_it_due(new, file, variable):
    renewal = new(variable=variable)
    file.write_text("new")
    wait_until(renewal.look, 5, "the new file is tried")
    renewal.begin()
    assert not renewal.is_ready
    renewal.end()
    assert not any(renewal.look() for _ in range(10))


def test_a_password_is_given_to_the_client_that_there_is(new, file):
    renewal = new(variable="LLMLOG_KAFKA_SASL_PASSWORD_FILE")
    file.write_text("new")
    assert not any(renewal.look() for _ in range(10))


def test_a_file_that_no_broker_accepts_is_not_used_until_one_does(new, file):
    refusals = ["alert certificate unknown", "", ""]
    tried = []

    def refusal(_settings):
        tried.append(refusals[len(tried)])
        return tried[-1]

    renewal = new(refusal=refusal)
    file.write_text("new")
    # Asked in this order: a look behind the first try begins the second one.
    wait_until(lambda: len(tried) == 1 or renewal.look(), 5)
    assert not renewal.is_ready
    wait_until(renewal.look, 5, "the file is tried again")
    assert tried == refusals[:2]
    renewal.end()


def test_one_worker_at_a_time_replaces_its_clients(new, file):
    first, second = new(), new()
    file.write_text("new")
    wait_until(first.look, 5)
    first.begin()
    assert not any(second.look() for _ in range(50)), "the first has not joined yet"
    first.end()
    wait_until(second.look, 5, "the second has its turn")
    second.end()


def test_one_worker_at_a_time_does_so_for_a_folder_of_authorities_too(tmp_path):
    folder = tmp_path / "authorities"
    folder.mkdir()
    (folder / "one.pem").write_text("old")
    settings = load(environ={"LLMLOG_KAFKA_SSL_CA_LOCATION": str(folder)})
    first, second = (
        ClientRenewal(settings, refusal=lambda _: "", look_seconds=0.0) for _ in range(2)
    )
    (folder / "one.pem").write_text("new")
    wait_until(first.look, 5)
    assert not any(second.look() for _ in range(50)), "the first has not joined yet"
    first.end()
    wait_until(second.look, 5, "the second has its turn")
    second.end()
