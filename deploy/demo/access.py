"""Owns who runs which step: settings of each user, and what `curl` needs to sign in."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Final

import httpx
import psutil

from llmlog_common.listener_probe import answers_tls
from llmlog_local.ports import HOST
from llmlog_local.stack import LocalStack
from llmlog_local.state import read_state

if TYPE_CHECKING:
    from pathlib import Path

ALL: Final = "admin"
"""The one user of a stack without logins; may do everything."""
_PROBES: Final = 5
_PROBE_SECONDS: Final = 1.0
_PREFIX: Final = "LLMLOG_ELASTICSEARCH_"


class Access:
    """The stack's users; without security there is one, who may do everything.

    Args:
        folder: of the stack.
        is_secure: whether it asks for TLS, logins and rights.
    """

    def __init__(self, folder: Path, *, is_secure: bool) -> None:
        self._stack = LocalStack(folder)
        self.is_secure = is_secure

    @property
    def stack_options(self) -> tuple[str, ...]:
        """The options of `pipeline local up`."""
        return ("--secure", "--registry") if self.is_secure else ()

    def settings(self, user: str) -> dict[str, str]:
        """Return the settings with which a user reaches the servers."""
        return self._stack.environment(user if self.is_secure else ALL)

    def client(self, user: str) -> httpx.Client:
        """Return a client of Elasticsearch that is signed in."""
        settings = self.settings(user)
        url = settings[_PREFIX + "URL"]
        if not self.is_secure:
            return httpx.Client(base_url=url, timeout=30)
        context = ssl.create_default_context(cafile=settings[_PREFIX + "CA_CERTS"])
        login = (user, self.password(user))
        return httpx.Client(base_url=url, timeout=30, verify=context, auth=login)

    def password(self, user: str) -> str:
        """Return a user's password."""
        return self._file_of(user).read_text(encoding="utf-8").strip()

    def curl_options(self, user: str, below: str = "") -> str:
        """Return what `curl` needs to sign in: a file, since all see the words of a command.

        Args:
            user: who signs in.
            below: the way from where `curl` is run to the stack's folder.
        """
        if not self.is_secure:
            return ""
        authority = self.settings(user)[_PREFIX + "CA_CERTS"]
        path = self._stack.folder / f"{user}.curl"
        path.touch(mode=0o600)
        path.write_text(
            f'cacert = "{authority}"\nuser = "{user}:{self.password(user)}"\n', encoding="utf-8"
        )
        return f" -K {below}{path.name}"

    def plaintext_ports(self) -> list[int]:
        """Return the ports at which a server of the stack takes anything but TLS.

        The registry's library for transactions holds a port open to name itself by its number: it
        accepts no connection there, so nothing comes back.
        """
        states = read_state(self._stack.state_file).values()
        ports = {
            connection.laddr.port
            for state in states
            for process in _family(state.process.pid)
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        return sorted(port for port in ports if not _has_tls(port) and _reads(port))

    def _file_of(self, user: str) -> Path:
        return self._stack.folder / "security" / f"{user}.password"


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _has_tls(port: int) -> bool:
    """Tell whether a port speaks TLS; a server that wants a certificate may hang up on ours."""
    return any(answers_tls(HOST, port) for _ in range(_PROBES))


def _reads(port: int) -> bool:
    """Tell whether a server reads what comes without TLS: it answers, or hangs up."""
    with socket.create_connection((HOST, port), timeout=_PROBE_SECONDS) as connection:
        try:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            connection.recv(1)
        except TimeoutError:
            return False
        except OSError:
            pass
        return True
