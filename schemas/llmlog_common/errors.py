"""The errors that end a command, each with its exit code.

PipelineError (1)
├── ConfigurationError (2)   a setting, a file, an option: name it and its place
├── KafkaError (3)           the cluster refuses, or what we need of it is missing
├── ElasticsearchError (4)   the same of Elasticsearch
├── WorkerError (5)          a worker could not be kept alive
├── CircuitOpenError (6)     the circuit between failed records and dead letters is open
└── DifferenceError (7)      `pipeline verify` found something lost or doubled

`Unreachable` is beside the tree on purpose: not to be reached is a reason to wait, not to end.
"""

from __future__ import annotations

from typing import ClassVar


class PipelineError(Exception):
    """Something a person has to act on; its text is one line and says what to do."""

    exit_code: ClassVar[int] = 1


class ConfigurationError(PipelineError):
    """A setting, option or file is wrong; the text names it and its place."""

    exit_code = 2


class KafkaError(PipelineError):
    """Kafka answered, and the answer is no: credentials, permissions, a missing topic."""

    exit_code = 3


class ElasticsearchError(PipelineError):
    """Elasticsearch answered, and the answer is no: credentials, template, alias."""

    exit_code = 4


class WorkerError(PipelineError):
    """A worker kept dying."""

    exit_code = 5


class CircuitOpenError(PipelineError):
    """Nearly every record fails with one cause: the deployment is wrong, not the documents."""

    exit_code = 6


class DifferenceError(PipelineError):
    """An event is neither document nor letter, or is two documents."""

    exit_code = 7


class Unreachable(Exception):  # noqa: N818 - a condition to wait out, not an error to report
    """A server does not answer; who can wait, waits. Who cannot, ends with its exit code."""

    exit_code: ClassVar[int] = 1


class KafkaUnreachable(Unreachable):
    """No broker answers."""

    exit_code = 3


class ElasticsearchUnreachable(Unreachable):
    """No node answers, or the answer is "not now"."""

    exit_code = 4


class ElasticsearchCutOff(ElasticsearchUnreachable):
    """The connection was closed in the middle of a request: it may have been too large."""
