"""Owns the errors of the local stack: one line each, saying what to do, with an exit code.

LocalStackError                 1   anything else, such as a folder that cannot be written
├── LocalUsageError             2   a taken port, a missing extra, an unknown version
├── KafkaStartError             3
├── ElasticsearchStartError     4
└── RegistryStartError          4
"""

from __future__ import annotations

from typing import ClassVar


class LocalStackError(Exception):
    """Something about the local stack failed; the message says what to do about it."""

    exit_code: ClassVar[int] = 1


class LocalUsageError(LocalStackError):
    """The request itself cannot be met: a taken port, a missing extra, an unknown version."""

    exit_code: ClassVar[int] = 2


class KafkaStartError(LocalStackError):
    """Kafka ended, or did not answer in time."""

    exit_code: ClassVar[int] = 3


class ElasticsearchStartError(LocalStackError):
    """Elasticsearch ended, or did not answer in time."""

    exit_code: ClassVar[int] = 4


class RegistryStartError(LocalStackError):
    """The Schema Registry ended, or did not answer in time."""

    exit_code: ClassVar[int] = 4


MISSING_EXTRA = "the local stack needs more: install the wheel with its extra, `[local]`"
