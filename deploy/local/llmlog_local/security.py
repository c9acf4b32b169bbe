"""Owns who may use a stack that asks: users, their passwords, rights and certificates, in a folder.

The names of topics and indices come from outside: this package knows none of the others.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from llmlog_local.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ADMIN: Final = "admin"
"""May do everything, on both servers."""
SERVER: Final = "server"
"""The name of the servers' certificate, and of the broker as a client of its own."""


@dataclass(frozen=True)
class Grant:
    """What a user may do with one thing of Kafka.

    Attributes:
        kind: `topic` or `group`.
        name: of the topic or group.
        operations: in Kafka's words: `Read`, `DescribeConfigs`.
    """

    kind: str
    name: str
    operations: Sequence[str]


@dataclass(frozen=True)
class Rights:
    """What a user may do.

    Attributes:
        kafka: topics and groups.
        role: of Elasticsearch, as the body of `PUT /_security/role/NAME`; None for no login there.
    """

    kafka: Sequence[Grant] = ()
    role: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Security:
    """Users and certificates of a stack.

    Attributes:
        folder: of passwords and certificates.
        rights: of each user but the admin, by its name.
        authority: that has issued the certificates.
    """

    folder: Path
    rights: Mapping[str, Rights]
    authority: Authority = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "authority", Authority(self.folder))
        for user in self.users:
            path = self.password_file(user)
            if not path.exists():
                path.touch(mode=0o600)
                path.write_text(secrets.token_urlsafe(24) + "\n", encoding="utf-8")

    @property
    def users(self) -> tuple[str, ...]:
        """All users, the admin first."""
        return (ADMIN, *self.rights)

    @property
    def server(self) -> Any:
        """The certificate of the servers."""
        return self.authority.get(SERVER)

    def password_file(self, user: str) -> Path:
        """The file that holds a user's password."""
        return self.folder / f"{user}.password"

    def password(self, user: str) -> str:
        """The user's password."""
        return self.password_file(user).read_text(encoding="utf-8").strip()

    def write_login_files(self, config: Path) -> None:
        """Write Elasticsearch's users and roles; a running node reads them again by itself."""
        import bcrypt  # noqa: PLC0415 - an extra

        names = [ADMIN, *(user for user, rights in self.rights.items() if rights.role)]
        hashes = {
            # Elasticsearch reads `2a` alone; for passwords without NUL both forms are the same.
            name: bcrypt.hashpw(self.password(name).encode(), bcrypt.gensalt(4, b"2a")).decode()
            for name in names
        }
        users = "".join(f"{name}:{digest}\n" for name, digest in hashes.items())
        roles = "".join(
            # JSON is YAML.
            f"{name}: {json.dumps(self.rights[name].role)}\n"
            for name in names
            if name != ADMIN
        )
        of_users = f"superuser:{ADMIN}\n" + "".join(
            f"{name}:{name}\n" for name in names if name != ADMIN
        )
        for file, text in (("users", users), ("roles.yml", roles), ("users_roles", of_users)):
            new = config / f".{file}.new"
            new.write_text(text, encoding="utf-8")
            new.chmod(0o600)
            new.replace(config / file)

    def kafka_settings(self, user: str) -> dict[str, str]:
        """The librdkafka properties by which a user signs in, with SCRAM over TLS."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": self.password(user),
            "ssl.ca.location": str(self.authority.ca_file),
        }
