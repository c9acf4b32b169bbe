"""Owns the jars of a server: lock files, and a classpath that is checked against them.

A maintainer re-locks with `python -m llmlog_local.jars lock`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlog_local.errors import MISSING_EXTRA, LocalStackError, LocalUsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LOCKS = Path(__file__).parent / "locks"
KAFKA_VERSION = "4.1.0"
ELASTICSEARCH_VERSIONS = ("8.19.21", "9.5.3")
KAFKA_LOCK = LOCKS / f"kafka-{KAFKA_VERSION}.toml"
SECURE_ELASTICSEARCH_VERSION = ELASTICSEARCH_VERSIONS[0]
"""The one whose security module is published."""
REGISTRY_VERSION = "2.6.13.Final"
REGISTRY_LOCK = LOCKS / f"registry-{REGISTRY_VERSION}.toml"

# Parts of the security module for logins by SAML, which no public repository has.
_UNPUBLISHED = (
    *(
        f"org.opensaml:opensaml-{part}"
        for part in (
            "core", "messaging-api", "messaging-impl", "profile-api", "profile-impl", "saml-api",
            "saml-impl", "security-api", "security-impl", "soap-api", "soap-impl", "storage-api",
            "storage-impl", "xmlsec-api", "xmlsec-impl",
        )
    ),
    "net.shibboleth.utilities:java-support",
    "net.jcip:jcip-annotations",
    "com.google.guava:listenablefuture",
)  # fmt: skip

_MAX_DOWNLOADS = 16
_MAX_ATTEMPTS = 3
_SCRATCH = ".llmlog-"
_ABANDONED_SECONDS = 3600


@dataclass(frozen=True, order=True)
class Jar:
    """One locked jar, or an archive of some."""

    group: str
    artifact: str
    version: str
    sha256: str
    classifier: str = ""
    packaging: str = "jar"

    @property
    def name(self) -> str:
        """The file's name."""
        of_which = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{of_which}.{self.packaging}"

    @property
    def path(self) -> Path:
        """Its place below a Maven repository."""
        return Path(*self.group.split("."), self.artifact, self.version, self.name)


def elasticsearch_lock(version: str) -> Path:
    """The lock file of an Elasticsearch version.

    Raises:
        LocalUsageError: there is none for this version.
    """
    if version not in ELASTICSEARCH_VERSIONS:
        known = ", ".join(ELASTICSEARCH_VERSIONS)
        raise LocalUsageError(f"no Elasticsearch {version} here: choose one of {known}")
    return LOCKS / f"elasticsearch-{version}.toml"


def secure_elasticsearch_lock(version: str) -> Path:
    """The lock file of an Elasticsearch version with its security module.

    Raises:
        LocalUsageError: there is none for this version.
    """
    if version != SECURE_ELASTICSEARCH_VERSION:
        raise LocalUsageError(
            f"no Elasticsearch {version} with security here: choose {SECURE_ELASTICSEARCH_VERSION}"
        )
    return LOCKS / f"elasticsearch-{version}-secure.toml"


def cache_folder() -> Path:
    """The Maven repository that jars are kept in: `M2_REPO`, or `~/.m2/repository`."""
    return Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository")


def read_lock(path: Path) -> list[Jar]:
    """Read a lock file, in its order."""
    return [Jar(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["jar"]]


def classpath(
    lock_file: Path, *, open_repository: Callable[[Path], Any] | None = None
) -> list[Path]:
    """Return exactly the locked jars, in lock order, each with the locked sha256.

    Jars that are not in the cache are downloaded first; a line on stderr reports it.

    Args:
        lock_file: of a server.
        open_repository: returns jgo's context that downloads into a folder; default: Maven Central.

    Raises:
        LocalStackError: a jar, cached or downloaded, is not the locked one.
        LocalUsageError: a download is needed and the extra is not installed.
    """
    fetch(lock_file, open_repository=open_repository)
    cache, locked = cache_folder(), read_lock(lock_file)
    with ThreadPoolExecutor(_MAX_DOWNLOADS) as threads:
        return list(threads.map(lambda jar: _verify(cache / jar.path, jar), locked))


def fetch(*lock_files: Path, open_repository: Callable[[Path], Any] | None = None) -> None:
    """Download the jars of these locks that the cache lacks, in parallel.

    Args:
        lock_files: of servers.
        open_repository: see `classpath`.

    Raises:
        LocalStackError: a download failed, or is not the locked jar.
        LocalUsageError: a download is needed and the extra is not installed.
    """
    cache = cache_folder()
    locked = {jar for lock_file in lock_files for jar in read_lock(lock_file)}
    missing = sorted(jar for jar in locked if not (cache / jar.path).exists())
    if missing:
        names = " and ".join(lock_file.stem for lock_file in lock_files)
        print(f"downloading {len(missing)} jars of {names}, once", file=sys.stderr)  # noqa: T201
        _download(missing, cache, open_repository or _maven)


def _verify(path: Path, jar: Jar) -> Path:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != jar.sha256:
        raise LocalStackError(
            f"{jar.name} is not the locked one (sha256 {sha256[:12]}…, locked {jar.sha256[:12]}…): "
            f"delete {path} and try again; if it comes back, do not use it"
        )
    return path


def _download(jars: list[Jar], cache: Path, open_repository: Callable[[Path], Any]) -> None:
    # Into a scratch repository first: a jar enters the cache whole and checked, or not at all,
    # even if this process is killed or another one downloads the same.
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(cache)
        with (
            _machine_trust(),
            tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=cache) as scratch,
            ThreadPoolExecutor(_MAX_DOWNLOADS) as threads,
        ):
            context = open_repository(Path(scratch))
            list(threads.map(lambda jar: _download_one(context, jar, cache), jars))
    except OSError as error:
        raise LocalStackError(f"cannot keep jars in {cache}: {error}; set M2_REPO") from error


def _remove_abandoned(cache: Path) -> None:
    """Remove scratch folders of killed downloads, but none that may still be in use."""
    for folder in cache.glob(f"{_SCRATCH}*"):
        if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _download_one(context: Any, jar: Jar, cache: Path) -> None:
    component = context.project(jar.group, jar.artifact).at_version(jar.version)
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        try:
            fetched = _verify(
                Path(component.artifact(jar.classifier, jar.packaging).resolve()), jar
            )
            break
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            (context.repo_cache / jar.path).unlink(missing_ok=True)
            if attempt == _MAX_ATTEMPTS:
                raise LocalStackError(
                    f"cannot download {jar.name}: check the network and try again ({error})"
                ) from error
    target = cache / jar.path
    target.parent.mkdir(parents=True, exist_ok=True)
    fetched.replace(target)


def _maven(repository: Path) -> Any:
    try:
        from jgo.maven import MavenContext  # noqa: PLC0415 - an extra, which is slow to import
    except ImportError as error:
        raise LocalUsageError(MISSING_EXTRA) from error
    return MavenContext(repo_cache=repository, timeout=60)


@contextmanager
def _machine_trust() -> Iterator[None]:
    """Let downloads trust this machine's certificate authorities, a company's own included.

    Only meanwhile: a TLS context that was made before cannot be used while the module `ssl` has
    another class.
    """
    try:
        import truststore  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise LocalUsageError(MISSING_EXTRA) from error
    truststore.inject_into_ssl()
    try:
        yield
    finally:
        truststore.extract_from_ssl()


def lock(coordinates: list[str], lock_file: Path, leave_out: Sequence[str] = ()) -> None:
    """Resolve Maven coordinates again and write the jars with their sha256.

    Args:
        coordinates: `group:artifact:version` of each.
        lock_file: is written.
        leave_out: `group:artifact` of dependencies that are not needed.
    """
    from jgo.env import EnvironmentBuilder, EnvironmentSpec  # noqa: PLC0415 - as above

    cache = cache_folder()
    builder = EnvironmentBuilder(context=_maven(cache), cache_dir=cache.parent / "jgo")
    spec = EnvironmentSpec(name=lock_file.stem, coordinates=coordinates, exclusions=list(leave_out))
    lines = ["# Written by `python -m llmlog_local.jars lock`.", f"coordinates = {coordinates}"]
    for dependency in builder.resolve_lockfile(spec).dependencies:
        if dependency.packaging != "jar" or dependency.classifier:
            raise LocalStackError(f"{dependency} is no plain jar: teach llmlog_local.jars about it")
        lines += [
            "",
            "[[jar]]",
            f'group = "{dependency.groupId}"',
            f'artifact = "{dependency.artifactId}"',
            f'version = "{dependency.version}"',
            f'sha256 = "{dependency.sha256}"',
        ]
    lock_file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _lock_all() -> None:
    # The `!` keeps log4j's own dependency management from choosing an older kafka-clients.
    log4j = "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3!"
    lock([f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", log4j], KAFKA_LOCK)
    for version in ELASTICSEARCH_VERSIONS:
        parts = ("org.elasticsearch:elasticsearch", "org.elasticsearch.plugin:transport-netty4")
        lock([f"{part}:{version}" for part in parts], elasticsearch_lock(version))
    version = SECURE_ELASTICSEARCH_VERSION
    secure = (*parts, *(f"org.elasticsearch.plugin:x-pack-{part}" for part in ("core", "security")))
    lock([f"{part}:{version}" for part in secure], secure_elasticsearch_lock(version), _UNPUBLISHED)
    _lock_registry()


def _lock_registry() -> None:
    """Write the lock of the Schema Registry, which is published as one archive."""
    names = {"group": "io.apicurio", "artifact": "apicurio-registry-app"}
    shape = {"version": REGISTRY_VERSION, "classifier": "all", "packaging": "tar.gz"}
    component = _maven(cache_folder()).project(*names.values()).at_version(REGISTRY_VERSION)
    with Path(component.artifact("all", "tar.gz").resolve()).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    rows = (f'{key} = "{value}"' for key, value in {**names, **shape, "sha256": sha256}.items())
    head = "# Written by `python -m llmlog_local.jars lock`.\n\n[[jar]]\n"
    REGISTRY_LOCK.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["fetch"]:
        fetch(KAFKA_LOCK, *map(elasticsearch_lock, ELASTICSEARCH_VERSIONS))
    elif sys.argv[1:] == ["lock"]:
        with _machine_trust():
            _lock_all()
    else:
        raise SystemExit("usage: python -m llmlog_local.jars fetch|lock")
