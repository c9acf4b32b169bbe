"""Owns the handle of an Elasticsearch server: a node that is a cluster of its own."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import urllib.request
import zipfile
from base64 import b64encode
from typing import TYPE_CHECKING, Any, ClassVar

from llmlog_local import jars
from llmlog_local.errors import ElasticsearchStartError, LocalStackError
from llmlog_local.ports import HOST, free_ports
from llmlog_local.security import ADMIN
from llmlog_local.server import LOGGING, Server, repeat_flag

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmlog_local.security import Security

_MODULE = "transport-netty4"
_CORE_JARS = (
    "x-pack-core", "x-pack-template-resources", "http", "commons-", "unboundid-ldapsdk",
    "slf4j-api", "log4j-slf4j2-impl", "log4j-1.2-api",
)  # fmt: skip
_SECURITY = {
    "transport.type": "security4",
    "http.type": "security4",
    "xpack.security.enabled": "true",
    "xpack.security.http.ssl.enabled": "true",
    "xpack.security.http.ssl.key": "server.key",
    "xpack.security.http.ssl.certificate": "server.pem",
    "xpack.security.transport.ssl.enabled": "true",
    "xpack.security.transport.ssl.key": "server.key",
    "xpack.security.transport.ssl.certificate": "server.pem",
    "xpack.security.transport.ssl.certificate_authorities": "ca.pem",
}
_DESCRIPTOR = f"META-INF/es-plugins/{_MODULE}/plugin-descriptor.properties"


class ElasticsearchServer(Server):
    """A real Elasticsearch node on 127.0.0.1.

    Args:
        folder: Its home: data, modules and log.
        port: HTTP.
        version: One of `jars.ELASTICSEARCH_VERSIONS`.
        heap: The Java heap.
        settings: Further or different node settings, such as `thread_pool.write.queue_size`; a
            node with `discovery.seed_hosts` is not a cluster of its own.
        transport_port: For other nodes; a free one at each start if None.
        security: Users, certificates and rights: it serves HTTPS then, to users alone.

    Raises:
        LocalUsageError: there is no such version here.
    """

    name: ClassVar[str] = "elasticsearch"
    start_error: ClassVar[type[LocalStackError]] = ElasticsearchStartError

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        version: str = jars.ELASTICSEARCH_VERSIONS[0],
        heap: str = "512m",
        settings: Mapping[str, str] | None = None,
        transport_port: int | None = None,
        security: Security | None = None,
    ) -> None:
        super().__init__(folder, port, version=version, heap=heap)
        self.settings = dict(settings or {})
        self.transport_port = transport_port
        self.lock_file = jars.elasticsearch_lock(version)
        self.security = security
        if security is not None:
            self.lock_file = jars.secure_elasticsearch_lock(version)

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http{'s' if self.security else ''}://{HOST}:{self.port}"

    def _prepare(self) -> list[str]:
        transport = self.transport_port or free_ports(1)[0]
        settings = {
            "path.home": str(self.folder),
            "node.name": "n1",
            "http.port": str(self.port),
            "transport.port": str(transport),
            "network.host": HOST,
            "cluster.routing.allocation.disk.threshold_enabled": "false",
            **(_SECURITY if self.security else {}),
            **self.settings,
        }
        if "discovery.seed_hosts" not in settings:
            settings.setdefault("discovery.type", "single-node")
        classpath = jars.classpath(self.lock_file)
        plain = {jar.name for jar in jars.read_lock(jars.elasticsearch_lock(self.version))}
        lay_out_home(self.folder, [jar for jar in classpath if jar.name in plain])
        if self.security is not None:
            _add_security(self.folder, classpath, plain, self.version)
            self._write_security(self.security)
        (self.folder / "config" / "log4j2.properties").write_text(LOGGING, encoding="utf-8")
        return [
            "llmlog_local.nodes.elasticsearch",
            "--heap",
            self.heap,
            *(["--secure"] if self.security else []),
            *repeat_flag("--setting", settings),
        ]

    def _write_security(self, security: Security) -> None:
        config = self.folder / "config"
        security.write_login_files(config)
        for source, name in (
            (security.server.key, "server.key"),
            (security.server.certificate, "server.pem"),
            (security.authority.ca_file, "ca.pem"),
        ):
            (config / name).touch(mode=0o600)
            shutil.copyfile(source, config / name)

    def _is_ready(self) -> bool:
        # The process id tells this node from another that happens to hold the port.
        local = self._get("/_nodes/_local/process")
        if local is None or self._popen is None:
            return False
        if {node["process"]["id"] for node in local["nodes"].values()} != {self._popen.pid}:
            return False
        health = self._get("/_cluster/health?wait_for_status=yellow&timeout=1s&master_timeout=1s")
        return health is not None and not health["timed_out"] and self._get("/") is not None

    def _get(self, path: str) -> Any:
        request = urllib.request.Request(self.url + path)  # noqa: S310 - of our own server
        # Without the proxies of the environment: 127.0.0.1 needs none.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self.security is not None:
            login = f"{ADMIN}:{self.security.password(ADMIN)}"
            request.add_header("authorization", f"Basic {b64encode(login.encode()).decode()}")
            context = ssl.create_default_context(cafile=str(self.security.authority.ca_file))
            handlers.append(urllib.request.HTTPSHandler(context=context))
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=5) as answer:
                return json.load(answer)
        except (OSError, ValueError):  # urllib's errors are OSErrors
            return None


def lay_out_home(home: Path, classpath: list[Path]) -> None:
    """Create an Elasticsearch home: links to the jars, and the module that serves HTTP."""
    lib, module = home / "lib", home / "modules" / _MODULE
    for folder in (lib, module):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (lib, module, home / "config", home / "plugins", home / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    for jar in classpath:
        _link(jar, (module if jar.name.startswith(("netty-", _MODULE)) else lib) / jar.name)
        if jar.name.startswith(_MODULE):
            with zipfile.ZipFile(jar) as archive:
                text = archive.read(_DESCRIPTOR).decode()
            # Loaded from the class path: the jars beside it are no Java modules.
            text = re.sub("(?m)^modulename.*$", "", text)
            (module / "plugin-descriptor.properties").write_text(text, encoding="utf-8")


def _add_security(home: Path, classpath: list[Path], plain: set[str], version: str) -> None:
    """Add the two modules that ask users who they are, with the jars that are theirs alone."""
    own = [jar for jar in classpath if jar.name not in plain]
    core = [jar for jar in own if jar.name.startswith(_CORE_JARS)]
    of_http = [jar for jar in classpath if jar.name.startswith(("netty-", _MODULE))]
    rest = [jar for jar in own if jar not in core]
    modules = (
        ("x-pack-core", "core.XPackPlugin", "", core),
        ("x-pack-security", "security.Security", "x-pack-core", [*rest, *of_http]),
    )
    for name, plugin, extended, of_module in modules:
        folder = home / "modules" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for jar in of_module:
            _link(jar, folder / jar.name)
        (folder / "plugin-descriptor.properties").write_text(
            f"name={name}\ndescription={name}\nversion={version}\n"
            f"elasticsearch.version={version}\njava.version=17\nhas.native.controller=false\n"
            f"extended.plugins={extended}\nclassname=org.elasticsearch.xpack.{plugin}\n",
            encoding="utf-8",
        )


def _link(jar: Path, target: Path) -> None:
    try:
        target.symlink_to(jar.absolute())
    except OSError:
        shutil.copy(jar, target)
