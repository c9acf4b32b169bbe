"""Owns the reading of a proxy's `config.yaml` with what it includes, as LiteLLM reads it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

CALLBACK_LISTS: Final = ("callbacks", "success_callback", "failure_callback")


class ConfigError(Exception):
    """The configuration cannot be read; the text names the file and says why."""


def read_config(path: Path) -> dict[Any, Any]:
    """Return the configuration: each included file is merged into what there is already.

    LiteLLM joins lists; every other value is replaced, a whole section too. An included file is
    looked for beside the file that names it, then beside the first one, and is read once.

    Raises:
        ConfigError: a file is missing, or is no YAML mapping.
    """
    merged = _read(path)
    pending = [(name, path) for name in _includes(merged, path)]
    seen = {path.resolve()}
    while pending:
        name, declared_in = pending.pop(0)
        found = _find(name, declared_in, path)
        if found.resolve() in seen:
            continue
        seen.add(found.resolve())
        included = _read(found)
        pending += [(other, found) for other in _includes(included, found)]
        for key, value in included.items():
            before = merged.get(key)
            joined = isinstance(value, list) and isinstance(before, list)
            merged[key] = [*before, *value] if joined else value  # type: ignore[misc]
    return merged


def callback_lists(config: dict[Any, Any]) -> dict[str, list[Any]]:
    """Return LiteLLM's lists of callbacks, whatever shape the file has."""
    section = config.get("litellm_settings")
    if not isinstance(section, dict):
        return {}
    lists = {name: section[name] for name in CALLBACK_LISTS if section.get(name)}
    return {name: one if isinstance(one, list) else [one] for name, one in lists.items()}


def _read(path: Path) -> dict[Any, Any]:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise ConfigError(f"cannot read {path}: run this with the proxy's Python") from None
    try:
        read = yaml.safe_load(path.read_text())
    except Exception as error:  # noqa: BLE001 - any file, and a foreign parser
        raise ConfigError(f"cannot read {path}: {type(error).__name__}: {error}") from None
    if not isinstance(read, dict):
        raise ConfigError(f"cannot read {path}: it is no YAML mapping")
    return read


def _includes(config: dict[Any, Any], path: Path) -> list[str]:
    names = config.pop("include", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: `include` has to be a list of files")
    return names


def _find(name: str, declared_in: Path, root: Path) -> Path:
    beside, beside_root = declared_in.parent / name, root.parent / name
    if found := next((one for one in (beside, beside_root) if one.exists()), None):
        return found
    raise ConfigError(f"{declared_in} includes {name}: there is no file {beside}")
