"""`pipeline version`."""

from __future__ import annotations

from importlib.metadata import version as version_of

import confluent_kafka

from llmlog_consumer.cli.options import JsonOption
from llmlog_consumer.cli.output import write_json, write_table
from llmlog_schemas.codec import CURRENT_VERSION, current_fingerprint


def version(as_json: JsonOption = False) -> None:
    """Print the versions of the package, the schema and the client libraries.

    Example: pipeline version --json
    """
    versions = {
        "llmlog-pipeline": version_of("llmlog-pipeline"),
        "schema": f"v{CURRENT_VERSION} ({current_fingerprint()})",
        "confluent-kafka": confluent_kafka.__version__,
        "librdkafka": confluent_kafka.libversion()[0],
        "elasticsearch": version_of("elasticsearch"),
        "fastavro": version_of("fastavro"),
    }
    if as_json:
        write_json(versions)
    else:
        write_table(("component", "version"), list(versions.items()))
