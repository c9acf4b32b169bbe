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


@pytest.mark.parametrize("prefix", ["elasticsearch_", "schema_registry_", "kafka_"])
@pytest.mark.parametrize("change", ["content", "new", "gone", "name", "link"])
def test_a_folder_of_authorities_is_new_when_one_of_its_files_is(tmp_path, prefix, change):
    folder, outside = tmp_path / "authorities", tmp_path / "outside"
    folder.mkdir()
    for name in ("a.pem", "b.pem"):
        (folder / name).write_text(name)
    outside.write_text("other")
    variable = {"kafka_": "KAFKA_SSL_CA_LOCATION"}.get(prefix, f"{prefix.upper()}CA_CERTS")
    renewal = Renewal(load(environ={f"LLMLOG_{variable}": str(folder)}), prefix, 0.0)
    assert not renewal.are_certificates_new
    if change == "content":
        (folder / "a.pem").write_text("renewed")
    elif change == "new":
        (folder / "c.pem").write_text("c.pem")
    elif change == "gone":
        (folder / "b.pem").unlink()
    elif change == "name":  # TLS libraries find an authority by its file's name
        (folder / "b.pem").rename(folder / "c.pem")
    else:
        (folder / "a.pem").unlink()
        (folder / "a.pem").symlink_to(outside)
    assert renewal.are_certificates_new
    renewal.accept(renewal.renew())
    assert not renewal.are_certificates_new


@pytest.mark.parametrize("before", [None, "file"])
def test_a_folder_in_the_place_of_nothing_or_of_a_file_is_a_change(tmp_path, before):
    path = tmp_path / "ca"
    if before:
        path.write_text("one")
    settings = load(environ={"LLMLOG_ELASTICSEARCH_CA_CERTS": str(path)})
    renewal = Renewal(settings, "elasticsearch_", 0.0)
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "a.pem").write_text("one")
    assert renewal.are_certificates_new


def test_a_folder_within_the_folder_is_none_of_its_files(tmp_path):
    """Kubernetes makes some for a moment while it replaces the files behind their links."""
    (tmp_path / "a.pem").write_text("one")
    settings = load(environ={"LLMLOG_ELASTICSEARCH_CA_CERTS": str(tmp_path)})
    renewal = Renewal(settings, "elasticsearch_", 0.0)
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "a.pem").write_text("two")
    (tmp_path / "..data_tmp").symlink_to("..2026")
    assert not renewal.are_certificates_new
