"""Owns what a proxy in front says about a person, and when it is believed. Pure.

The names are those of oauth2-proxy. They are believed over a Unix socket, and from a listed address
that sends the shared secret; from anywhere else they are ignored.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.console.access.roles import Person, roles_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from llmlog_consumer.console.access.roles import Role

USER: Final = "x-forwarded-user"
EMAIL: Final = "x-forwarded-email"
GROUPS: Final = "x-forwarded-groups"
FORWARDED_FOR: Final = "x-forwarded-for"
SECRET: Final = "x-llmlog-proxy-secret"  # noqa: S105 - the name of a header
MAX_HEADER_CHARACTERS: Final = 8192


class ProxyRefusedError(Exception):
    """A proxy that is believed said something that cannot be right."""


@dataclass(frozen=True)
class ProxyLogin:
    """The rule which proxies are believed, and what their groups may.

    Attributes:
        grants: roles of each group.
        networks: from which a proxy may ask.
        secret: that it has to send from there; empty: no address is believed.
        over_socket: the console listens on a Unix socket, whose permissions say who may ask.
        key: makes the tokens of forms.
    """

    grants: Mapping[str, frozenset[Role]]
    networks: Sequence[IPv4Network | IPv6Network] = ()
    secret: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    over_socket: bool = False

    def believes(self, peer: str, secrets: Sequence[str]) -> bool:
        """Tell whether the headers of a request may name a person.

        Args:
            peer: address that the request comes from; empty where it is not known.
            secrets: values of the secret's header.
        """
        if self.over_socket:
            return True
        if not self.secret or len(secrets) != 1:
            return False
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        is_listed = any(address in network for network in self.networks)
        return is_listed and hmac.compare_digest(secrets[0].encode(), self.secret.encode())

    def read(self, headers: Sequence[tuple[str, str]]) -> Person | None:
        """Return the person whom a believed proxy names; None where it names none.

        Args:
            headers: of the request, names in small letters.

        Raises:
            ProxyRefusedError: a header is there twice, or too long.
        """
        values: dict[str, str] = {}
        for name, value in headers:
            if name in {USER, EMAIL, GROUPS}:
                if name in values:
                    raise ProxyRefusedError(f"the proxy sent {name} twice")
                if len(value) > MAX_HEADER_CHARACTERS:
                    raise ProxyRefusedError(f"the proxy sent a {name} that is too long")
                values[name] = value.strip()
        name = values.get(EMAIL) or values.get(USER) or ""
        if not name:
            return None
        groups = [group.strip() for group in values.get(GROUPS, "").split(",")]
        csrf = hmac.new(self.key.encode(), name.encode(), hashlib.sha256).hexdigest()
        return Person(name, roles_of(groups, self.grants), csrf, "proxy")


def parse_networks(addresses: Iterable[str]) -> list[IPv4Network | IPv6Network]:
    """Return the networks that `--proxy-from` names.

    Raises:
        ConfigurationError: one of them is no address.
    """
    networks = []
    for address in addresses:
        try:
            networks.append(ip_network(address))
        except ValueError as error:
            raise ConfigurationError(f"--proxy-from {address}: {error}") from None
    return networks
