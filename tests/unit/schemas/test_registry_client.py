"""A registry's client whose credentials are changed in their files while it is used."""

import logging

import pytest

from llmlog_common.settings import load
from llmlog_schemas.registry_client import RenewingClient


class RefusedError(Exception):
    http_status_code = 401


class FakeClient:
    """A client of a registry that takes the password `new`."""

    def __init__(self, settings):
        self._password = settings.schema_registry_password.get_secret_value()

    def get_schema(self, schema_id):
        if self._password != "new":
            raise RefusedError
        return schema_id


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "password"
    path.write_text("old")
    return path


@pytest.fixture
def settings(file):
    environ = {"URL": "http://x:1", "USERNAME": "me", "PASSWORD_FILE": str(file)}
    return load(environ={f"LLMLOG_SCHEMA_REGISTRY_{name}": v for name, v in environ.items()})


@pytest.mark.parametrize("fault", [OSError(24, "Too many open files"), ValueError("half of a URL")])
def test_a_client_that_cannot_be_made_for_a_moment_is_made_at_the_next_refusal(
    settings, file, caplog, monkeypatch, fault
):
    faults = [None, fault]

    def new_client(current):
        if faults and (now := faults.pop(0)):
            raise now
        return FakeClient(current)

    client = RenewingClient(settings, new_client, interval_seconds=0.0)
    file.write_text("new")
    monkeypatch.setattr(logging.getLogger("llmlog.kafka"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        with pytest.raises(type(fault)):
            client.get_schema(1)
        assert "read again" not in caplog.text
        assert client.get_schema(1) == 1
    assert f"credentials read again from {file}" in caplog.text


@pytest.mark.parametrize("name", ["", "ca.pem"], ids=["folder", "file"])
def test_a_new_authority_is_read_again_when_tls_fails(tmp_path, name):
    authority = tmp_path / "authorities" / "ca.pem"
    authority.parent.mkdir()
    authority.write_text("old")

    class TlsClient:
        def __init__(self, _settings):
            self._trusted = authority.read_text()

        def get_schema(self, schema_id):
            if self._trusted != "new":
                raise ConnectionError("CERTIFICATE_VERIFY_FAILED")
            return schema_id

    ca_certs = str(authority.parent / name)
    environ = {"URL": "https://x:1", "CA_CERTS": ca_certs}
    settings = load(environ={f"LLMLOG_SCHEMA_REGISTRY_{key}": v for key, v in environ.items()})
    client = RenewingClient(settings, TlsClient)
    with pytest.raises(ConnectionError):
        client.get_schema(1)
    authority.write_text("new")
    assert client.get_schema(1) == 1
