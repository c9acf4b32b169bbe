"""What the packages import is what pyproject.toml declares: nothing comes by way of another."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"llmlog_common", "llmlog_schemas", "llmlog_producer", "llmlog_consumer", "llmlog_local"}
# litellm is there already, or the callback is never loaded; pydantic is half of pydantic-settings.
GIVEN = {"litellm", "pydantic"}


def imported(folder: Path) -> set[str]:
    """Return the top-level modules from outside that a package's code imports anywhere."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - OURS - GIVEN


def declared(*extras: str) -> set[str]:
    """Return the names of the distributions that an install with these extras brings by name."""
    wanted = [*PROJECT["dependencies"]]
    for extra in extras:
        wanted += PROJECT["optional-dependencies"][extra]
    return {re.match(r"[a-z0-9-]+", one)[0] for one in wanted}


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("schemas/llmlog_common", ()),
        ("schemas/llmlog_schemas", ()),
        ("producer/llmlog_producer", ()),
        ("consumer/llmlog_consumer", ("consumer", "console")),
        ("deploy/local/llmlog_local", ("consumer", "local")),
    ],
)
def test_every_import_is_declared(package: str, extras: tuple[str, ...]) -> None:
    distributions = packages_distributions()
    for module in imported(ROOT / package):
        names = {name.replace("_", "-").lower() for name in distributions.get(module, [module])}
        assert names & declared(*extras), module
