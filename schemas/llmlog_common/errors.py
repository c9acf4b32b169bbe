"""The errors that end a command, each with its exit code. Pure.

PipelineError (1)
├── ConfigurationError (2)   a setting, a file or an option is wrong: the text names it
├── KafkaError (3)           the cluster refuses, or a topic is missing
├── ElasticsearchError (4)   Elasticsearch refuses, or the template or the alias is missing
├── WorkerError (5)          a worker keeps crashing
├── CircuitOpenError (6)     the circuit breaker is open: nearly every record fails
├── DifferenceError (7)      `pipeline verify` found an event lost or doubled
├── DeploymentError (8)      `pipeline doctor` found something that does not work
└── BehindError (10)         what was asked about cannot be told of all records yet

`Unreachable` is no `PipelineError`: workers wait for a server that does not answer.
"""

from __future__ import annotations

from typing import ClassVar


class PipelineError(Exception):
    """An error that a person has to act on. Its text is one line and says what to do."""

    exit_code: ClassVar[int] = 1


class ConfigurationError(PipelineError):
    """A setting, an option or a file is wrong. The text names it and its place."""

    exit_code = 2


class KafkaError(PipelineError):
    """Kafka refuses: credentials, permissions, a missing topic."""

    exit_code = 3


class ElasticsearchError(PipelineError):
    """Elasticsearch refuses: credentials, permissions, a missing template or alias."""

    exit_code = 4


class WorkerError(PipelineError):
    """A worker keeps crashing."""

    exit_code = 5


class CircuitOpenError(PipelineError):
    """Nearly every record fails for one cause: the deployment is wrong, not the documents."""

    exit_code = 6


class DifferenceError(PipelineError):
    """An event is neither a document nor a dead letter, or it is two documents."""

    exit_code = 7


class DeploymentError(PipelineError):
    """Something of the deployment does not work: `pipeline doctor` has named it."""

    exit_code = 8


class BehindError(PipelineError):
    """What was asked about cannot be told of all records yet: some cannot be read."""

    exit_code = 10


class Unreachable(Exception):  # noqa: N818 - a condition to wait out, not an error to report
    """A server does not answer. Workers wait for it; other commands end with the exit code."""

    exit_code: ClassVar[int] = 1


class KafkaUnreachable(Unreachable):
    """No broker answers."""

    exit_code = 3


class KafkaRightMissing(KafkaUnreachable):
    """This user may not do what is needed; it is waited for, as it may be granted at any time."""


class ElasticsearchUnreachable(Unreachable):
    """No node answers, or one answers with 429 or 5xx."""

    exit_code = 4


class ElasticsearchCutOff(ElasticsearchUnreachable):
    """The connection was closed during a request, which may have been too large."""


class ElasticsearchTimedOut(ElasticsearchUnreachable):
    """The connection is open, and no answer came in time; the request may have been too large."""
