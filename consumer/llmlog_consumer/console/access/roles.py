"""Owns the roles: what a person may see and do, and which groups have them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from llmlog_common.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Role(StrEnum):
    """A right of a person, for all teams alike."""

    NUMBERS = "numbers"
    """Counts, costs, times, names of teams, keys and models; causes of dead letters."""
    CONTENTS = "contents"
    """Prompts, answers, tools, error texts, end users, e-mail addresses, values of letters."""
    REPLAY = "replay"
    """Dry runs and replays of dead letters."""


ALL: frozenset[Role] = frozenset(Role)


@dataclass(frozen=True, slots=True)
class Person:
    """A person with the rights of one request.

    Attributes:
        name: that the audit topic shows.
        roles: at this moment.
        csrf: the token that has to come with each request that changes something.
        way: of the login: `link`, `token` or `proxy`.
    """

    name: str
    roles: frozenset[Role]
    csrf: str
    way: str

    def may(self, role: Role) -> bool:
        """Tell whether the person has a role."""
        return role in self.roles


def parse_roles(text: str, where: str) -> frozenset[Role]:
    """Return the roles that a text such as `numbers,contents` names.

    Args:
        text: names with commas between.
        where: for the error's text.

    Raises:
        ConfigurationError: there is no such role.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        return frozenset(Role(name) for name in names)
    except ValueError:
        known = ", ".join(Role)
        raise ConfigurationError(f"{where}: {text!r} names no role; roles are {known}") from None


def parse_grants(grants: Iterable[str]) -> dict[str, frozenset[Role]]:
    """Return the roles of each group.

    Args:
        grants: `GROUP=ROLE,ROLE`, as `--grant` has them.

    Raises:
        ConfigurationError: a grant has no group, or names no role that there is.
    """
    roles: dict[str, frozenset[Role]] = {}
    for grant in grants:
        group, equals, names = grant.rpartition("=")
        if not (group and equals and names):
            raise ConfigurationError(f"--grant {grant}: write GROUP=ROLE,ROLE")
        roles[group] = roles.get(group, frozenset()) | parse_roles(names, f"--grant {grant}")
    return roles


def roles_of(groups: Iterable[str], grants: Mapping[str, frozenset[Role]]) -> frozenset[Role]:
    """Return the roles of a person in these groups; an unknown group has none."""
    return frozenset().union(*(grants.get(group, frozenset()) for group in groups))
