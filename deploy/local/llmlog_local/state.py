"""Owns the stack's state file: the servers in the background, and their ports and logs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from llmlog_local.errors import LocalStackError
from llmlog_local.processes import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class ServerState:
    """One server of the stack, as it was when it answered.

    Attributes:
        name: of the server.
        version: of it.
        port: for clients.
        log: its path.
        process: that is the server.
        secure: it takes nothing but TLS.
        tls_port: of Kafka, for client certificates; None where it is not secure.
    """

    name: str
    version: str
    port: int
    log: str
    process: ProcessIdentity
    secure: bool = False
    tls_port: int | None = None


def read_state(path: Path) -> dict[str, ServerState]:
    """Read the servers by name; a missing file is an empty stack.

    Raises:
        LocalStackError: the file is damaged.
    """
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["servers"]
        servers = [
            ServerState(**{**entry, "process": ProcessIdentity(**entry["process"])})
            for entry in listed
        ]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise LocalStackError(
            f"{path} is damaged: end the servers that still run by hand, then delete it"
        ) from error
    return {server.name: server for server in servers}


def write_state(path: Path, servers: Mapping[str, ServerState]) -> None:
    """Replace the state in one step."""
    text = json.dumps({"servers": [asdict(server) for server in servers.values()]}, indent=2)
    new = path.with_suffix(".new")
    new.write_text(text + "\n", encoding="utf-8")
    new.replace(path)
