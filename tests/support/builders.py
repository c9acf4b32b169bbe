"""Loads the scripts of `deploy/` that build files, which are in no package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

DEPLOY = Path(__file__).parents[2] / "deploy"


def load_builder(name: str) -> ModuleType:
    """Return `deploy/NAME/build.py` as a module."""
    spec = importlib.util.spec_from_file_location(f"{name}_build", DEPLOY / name / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
