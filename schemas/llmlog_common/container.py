"""Owns the question whether this process runs in a container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_MARKS: Final = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""Files that Docker and Podman put into each container."""
_VARIABLE: Final = "KUBERNETES_SERVICE_HOST"


def is_in_container(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether this is a container.

    Args:
        environ: whose variables alone are looked at; by default this process's, and its files.
    """
    if environ is not None:
        return _VARIABLE in environ
    return _VARIABLE in os.environ or any(mark.exists() for mark in _MARKS)
