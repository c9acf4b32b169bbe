"""Secrets and certificates in files, which are read again."""

import pytest

from llmlog_common.renewal import Renewal
from llmlog_common.settings import load

PREFIX = {
    "elasticsearch_": "LLMLOG_ELASTICSEARCH_CA_CERTS",
    "schema_registry_": "LLMLOG_SCHEMA_REGISTRY_CLIENT_CERT",
    "kafka_": "LLMLOG_KAFKA_SSL_KEY_LOCATION",
}


@pytest.mark.parametrize("prefix", PREFIX)
def test_a_certificate_is_read_again_when_its_file_has_changed(tmp_path, prefix):
    file = tmp_path / "one.pem"
    file.write_text("first")
    renewal = Renewal(load(environ={PREFIX[prefix]: str(file)}), prefix, 0.0)
    assert not renewal.are_certificates_new
    assert renewal.renew().settings is None
    file.write_text("second")
    assert renewal.are_certificates_new
    renewed = renewal.renew()
    assert renewed.settings is not None
    assert str(file) in renewed.what
    assert renewal.are_certificates_new
    renewal.accept(renewed)
    assert not renewal.are_certificates_new
    assert renewal.renew().settings is None


def test_a_secret_that_no_client_uses_yet_is_new_again(tmp_path):
    file = tmp_path / "key"
    file.write_text("one")
    settings = load(environ={"LLMLOG_ELASTICSEARCH_API_KEY_FILE": str(file)})
    renewal = Renewal(settings, "elasticsearch_", 0.0)
    file.write_text("two")
    for _ in range(2):
        renewed = renewal.renew()
        assert renewed.settings is not None
    renewal.accept(renewed)
    renewal.accept(renewal.renew())  # nothing new: nothing to accept
    assert renewal.renew().settings is None


def test_the_file_of_another_server_is_none_of_it(tmp_path):
    file = tmp_path / "one.pem"
    renewal = Renewal(load(environ={PREFIX["kafka_"]: str(file)}), "elasticsearch_", 0.0)
    file.write_text("here now")
    assert not renewal.are_certificates_new


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path):
    """Kubernetes replaces the folder behind a link, and touches no file."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    link = tmp_path / "ca.pem"
    link.symlink_to("one")
    renewal = Renewal(load(environ={PREFIX["elasticsearch_"]: str(link)}), "elasticsearch_", 0.0)
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(link)
    assert renewal.are_certificates_new
