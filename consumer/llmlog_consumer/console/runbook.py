"""Owns which part of the documentation is about what a page shows. Pure."""

from __future__ import annotations

from typing import Final

CHECKS: Final[dict[str, str]] = {
    "kafka.certificate": "operations.md#llmlogcertificateends",
    "elasticsearch.certificate": "operations.md#llmlogcertificateends",
    "topic.rights": "configuration.md#rights",
    "group.rights": "configuration.md#rights",
    "elasticsearch.rights": "configuration.md#rights",
    "elasticsearch.nodes": "configuration.md#several-nodes",
    "group.": "operations.md#llmloglagging",
    "dead_letters.": "dead-letters.md#replaying",
    "index.blocks": "operations.md#llmlogpausedscope",
    "index.pipelines": "dead-letters.md#ingest-pipelines",
    "index.": "cli.md#pipeline-setup",
    "elasticsearch.": "configuration.md#elasticsearch",
    "registry.": "configuration.md#schema-registry",
    "": "configuration.md#kafka",
}
"""By the beginning of a check's name; the first row that fits counts."""

VERDICTS: Final[dict[str, str]] = {
    "behind": "operations.md#llmloglagging",
    "stopped": "operations.md#llmlogconsumerdown",
    "stuck": "operations.md#llmlognothingsettled",
    "unhealthy": "operations.md#llmlogunhealthyworker",
}
"""By the health that `pipeline status` tells; there is nothing to do about the others."""

STAGES: Final[dict[str, str]] = {
    stage: f"dead-letters.md#{stage}"
    for stage in ("decode", "transform", "expired", "oversize", "index")
}
"""By the stage at which a record failed."""


def of_check(name: str) -> str:
    """Return the part that is about a check of `pipeline doctor`."""
    return next(part for begin, part in CHECKS.items() if name.startswith(begin))
