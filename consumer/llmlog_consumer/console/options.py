"""Owns how the console is reached: the options of `pipeline console`, checked together."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.console.access.logins import MIN_TOKEN_CHARACTERS, TokenFile
from llmlog_consumer.console.access.origins import Origins, parse_urls
from llmlog_consumer.console.access.proxy import ProxyLogin, parse_networks
from llmlog_consumer.console.access.roles import parse_grants

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        host: address to listen on.
        port: to listen on.
        socket: path of a Unix socket to listen on, in the place of host and port.
        urls: addresses under which people reach the console.
        token_file: with names, roles and tokens.
        proxy_from: addresses from which a proxy's headers are believed.
        proxy_secret_file: with the secret that such a proxy sends.
        grants: `GROUP=ROLE,ROLE` for the groups that a proxy names.
        allow_replay: dead letters may be replayed.
        runbook: address of the documentation's folder, for links.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    socket: Path | None = None
    urls: Sequence[str] = ()
    token_file: Path | None = None
    proxy_from: Sequence[str] = ()
    proxy_secret_file: Path | None = None
    grants: Sequence[str] = ()
    allow_replay: bool = False
    runbook: str = ""

    @property
    def is_loopback(self) -> bool:
        """Tell whether only this machine can connect, so that a one-time link is printed."""
        if self.socket is not None:
            return False
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def origins(self) -> Origins:
        """Return the allow-lists.

        Raises:
            ConfigurationError: an address is missing or wrong.
        """
        urls = list(self.urls)
        if self.is_loopback:
            name = f"[{self.host}]" if ":" in self.host else self.host
            urls += [f"http://{host}:{self.port}" for host in {name, "localhost"}]
        if not urls:
            raise ConfigurationError(
                "--url is missing: give the address under which people reach the console, as "
                "https://console.example.org; requests for other addresses are refused"
            )
        return parse_urls(urls)

    def tokens(self) -> TokenFile | None:
        """Return the tokens of the file; None where none is given.

        Raises:
            ConfigurationError: the file is wrong.
        """
        return None if self.token_file is None else TokenFile(self.token_file)

    def proxy(self) -> ProxyLogin | None:
        """Return which proxies are believed; None where none is.

        Raises:
            ConfigurationError: the options do not fit together.
        """
        networks = parse_networks(self.proxy_from)
        if bool(networks) != (self.proxy_secret_file is not None):
            raise ConfigurationError(
                "--proxy-from and --proxy-secret-file belong together: an address alone proves "
                "nothing"
            )
        if not (networks or self.grants):
            return None
        if not (networks or self.socket):
            raise ConfigurationError(
                "--grant gives roles to groups that a proxy names: say where from with --socket, "
                "or with --proxy-from and --proxy-secret-file"
            )
        if not self.grants:
            raise ConfigurationError("--grant is missing: without it no group has a role")
        return ProxyLogin(
            parse_grants(self.grants),
            networks,
            self._read_secret(),
            secrets.token_hex(32),
            over_socket=self.socket is not None,
        )

    def check(self) -> None:
        """Check that there is a way in.

        Raises:
            ConfigurationError: there is none, or all may ask.
        """
        self.origins()
        if self.runbook and not self.runbook.startswith(("https://", "http://")):
            raise ConfigurationError(f"--runbook {self.runbook}: write https://HOST/FOLDER/")
        if not (self.is_loopback or self.token_file or self.grants):
            raise ConfigurationError(
                f"{self.socket or self.host} is reached by others: give --token-file, or a proxy "
                "with --grant; a link is printed for 127.0.0.1 alone"
            )

    def _read_secret(self) -> str:
        if self.proxy_secret_file is None:
            return ""
        try:
            secret = self.proxy_secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"--proxy-secret-file {self.proxy_secret_file}: {error}"
            ) from None
        if len(secret) < MIN_TOKEN_CHARACTERS:
            raise ConfigurationError(
                f"--proxy-secret-file {self.proxy_secret_file}: write at least "
                f"{MIN_TOKEN_CHARACTERS} characters"
            )
        return secret
