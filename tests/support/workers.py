"""How pytest-xdist's workers share the tests out: in what order, and what stays together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

_TOGETHER = (
    r"tests/faults/",  # one arena, whose servers a fault kills
    r"tests/acceptance/console/",  # one console, and one browser
    r"tests/acceptance/test_gateway_journal\.py",  # one broker, which some tests stop
    r"tests/acceptance/test_gateway\.py.*\[\d[\d.]*",  # the scripts of one LiteLLM version
    r"tests/packaging/",  # one wheel
    r"tests/integration/test_outcomes_pinned\.py.*\[\d[\d.]*",  # one Elasticsearch version
    r"tests/integration/test_standstill\.py",  # one broker, whose files are written
    # servers with logins and access rights
    r"tests/integration/test_(secure|every_right|marked_secrets)\.py",
    r"tests/integration/test_refusals\.py",  # one broker, and one member that follows its faults
    r"tests/integration/test_gateway_heals\.py",  # one broker, whose topic goes
)
"""Patterns of test ids: tests that share servers of their own run in one worker, one by one.

A test's group is what its pattern matches, without the test's name.
"""

_FOLDERS = ("faults", "acceptance", "integration", "packaging", "contract", "unit")
"""Longest tests first: the many short ones fill the gaps at the end."""


def group(test_id: str) -> str:
    """Return the group of a test; its own id where it may run anywhere."""
    for pattern in _TOGETHER:
        if found := re.match(pattern, test_id):
            return re.sub(r"::.*\[", "[", found[0])
    return test_id


def rank(test_id: str) -> tuple[int, bool]:
    """Return a sort key: the folder, in it groups first."""
    folder = test_id.split("/")[1]
    number = _FOLDERS.index(folder) if folder in _FOLDERS else len(_FOLDERS)
    return number, group(test_id) == test_id


class Scheduler(LoadScopeScheduling):
    """Gives each worker that is free the next group, or the next test that has none."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False  # the order is that of `rank`
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
