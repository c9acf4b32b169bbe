"""Jars are exactly the locked ones, or refused."""

import hashlib
import re

import pytest

from llmlog_local import jars
from llmlog_local.errors import LocalStackError, LocalUsageError

ALL_LOCKS = sorted(jars.LOCKS.glob("*.toml"))


@pytest.fixture
def one_jar(tmp_path, monkeypatch):
    """A cache with one jar, and the lock file for it."""
    monkeypatch.setenv("M2_REPO", str(tmp_path / "cache"))
    jar = tmp_path / "cache" / "org" / "acme" / "anvil" / "1.0" / "anvil-1.0.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"anvil")
    lock = tmp_path / "anvil.toml"
    sha256 = hashlib.sha256(b"anvil").hexdigest()
    lock.write_text(
        f'[[jar]]\ngroup = "org.acme"\nartifact = "anvil"\nversion = "1.0"\nsha256 = "{sha256}"\n'
    )
    return lock, jar


def test_a_cached_jar_with_the_locked_hash_is_used(one_jar):
    lock, jar = one_jar
    assert jars.classpath(lock) == [jar]


def test_a_tampered_jar_is_refused_by_name(one_jar):
    lock, jar = one_jar
    jar.write_bytes(b"anvil, with something added")
    with pytest.raises(LocalStackError, match=r"anvil-1\.0\.jar is not the locked one.*delete"):
        jars.classpath(lock)


def test_a_tampered_lock_is_refused_by_name(one_jar):
    lock, _ = one_jar
    lock.write_text(re.sub('sha256 = "....', 'sha256 = "0000', lock.read_text()))
    with pytest.raises(LocalStackError, match=r"anvil-1\.0\.jar is not the locked one"):
        jars.classpath(lock)


def test_a_download_that_is_not_the_locked_jar_never_enters_the_cache(one_jar):
    lock, jar = one_jar
    jar.unlink()

    class Downloader:
        """jgo's context and every step from it to a file, without a network."""

        def __init__(self, repository):
            self.repo_cache = repository

        def project(self, *_):
            return self

        at_version = artifact = project

        def resolve(self):
            found = self.repo_cache / "fetched.jar"
            found.write_bytes(b"something else")
            return found

    with pytest.raises(LocalStackError, match=r"anvil-1\.0\.jar is not the locked one"):
        jars.classpath(lock, open_repository=Downloader)
    assert not jar.exists()
    assert [path.name for path in (jars.cache_folder()).iterdir()] == ["org"]


def test_an_unknown_version_is_an_error_that_names_the_known_ones():
    with pytest.raises(LocalUsageError, match="choose one of 8"):
        jars.elasticsearch_lock("7.0.0")


@pytest.mark.parametrize("lock", ALL_LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_pins_every_jar_once_and_names_no_host(lock):
    locked = jars.read_lock(lock)
    assert len(locked) > 40 or lock == jars.REGISTRY_LOCK  # which is one archive
    assert len({(jar.group, jar.artifact) for jar in locked}) == len(locked)
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in locked)
    assert "://" not in lock.read_text()


def test_every_version_has_a_lock():
    known = {jars.KAFKA_LOCK, *map(jars.elasticsearch_lock, jars.ELASTICSEARCH_VERSIONS)}
    secure = jars.secure_elasticsearch_lock(jars.SECURE_ELASTICSEARCH_VERSION)
    assert known | {secure, jars.REGISTRY_LOCK} == set(ALL_LOCKS)


def test_a_version_without_its_security_module_is_refused():
    with pytest.raises(LocalUsageError, match=r"choose 8"):
        jars.secure_elasticsearch_lock("9.5.3")
