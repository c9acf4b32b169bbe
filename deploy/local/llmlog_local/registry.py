"""Owns the handle of a Schema Registry server: Apicurio, with Confluent's interface."""

from __future__ import annotations

import json
import shutil
import ssl
import tarfile
import urllib.request
from typing import TYPE_CHECKING, ClassVar

from llmlog_local import jars
from llmlog_local.errors import LocalStackError, RegistryStartError
from llmlog_local.ports import HOST
from llmlog_local.server import Server, repeat_flag

if TYPE_CHECKING:
    from pathlib import Path

    from llmlog_local.security import Security

_PATH = "/apis/ccompat/v7"
"""Where it answers as Confluent's registry does."""


class RegistryServer(Server):
    """A Schema Registry on 127.0.0.1; its schemas are in memory, and end with it.

    Args:
        folder: Its program and log.
        port: HTTP, or HTTPS where there is security.
        heap: The Java heap.
        security: Its certificate. It asks for no login.
    """

    name: ClassVar[str] = "registry"
    start_error: ClassVar[type[LocalStackError]] = RegistryStartError

    def __init__(
        self, folder: Path, port: int, *, heap: str = "256m", security: Security | None = None
    ) -> None:
        super().__init__(folder, port, version=jars.REGISTRY_VERSION, heap=heap)
        self.lock_file = jars.REGISTRY_LOCK
        self.security = security

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http{'s' if self.security else ''}://{HOST}:{self.port}{_PATH}"

    def _prepare(self) -> list[str]:
        self._unpack()
        kind = "ssl-" if self.security else ""
        settings = {"quarkus.http.host": HOST, f"quarkus.http.{kind}port": str(self.port)}
        if self.security is not None:
            settings |= {
                "quarkus.http.insecure-requests": "disabled",
                "quarkus.http.ssl.certificate.files": str(self.security.server.certificate),
                "quarkus.http.ssl.certificate.key-files": str(self.security.server.key),
            }
        return [
            "llmlog_local.nodes.registry",
            "--heap",
            self.heap,
            *repeat_flag("--setting", settings),
        ]

    def _unpack(self) -> None:
        program = self.folder / "program"
        if program.exists():
            return
        (archive,) = jars.classpath(self.lock_file)
        scratch = self.folder / "program.new"
        shutil.rmtree(scratch, ignore_errors=True)
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        scratch.rename(program)

    def _is_ready(self) -> bool:
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self.security is not None:
            context = ssl.create_default_context(cafile=str(self.security.authority.ca_file))
            handlers.append(urllib.request.HTTPSHandler(context=context))
        try:
            opener = urllib.request.build_opener(*handlers)
            with opener.open(f"{self.url}/subjects", timeout=5) as answer:
                return isinstance(json.load(answer), list)
        except (OSError, ValueError):  # urllib's errors are OSErrors
            return False
