"""Owns a pair of servers for tests: they end with the process that runs them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmlog_local import jars
from llmlog_local.elasticsearch import ElasticsearchServer
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class RunningServers:
    """Two servers that answer; either can be stopped, killed and started again."""

    kafka: KafkaServer
    elasticsearch: ElasticsearchServer

    @property
    def environment(self) -> dict[str, str]:
        """The settings that make this project use them."""
        return {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "LLMLOG_ELASTICSEARCH_URL": self.elasticsearch.url,
        }


@contextmanager
def running_servers(
    folder: Path,
    *,
    kafka_properties: Mapping[str, str] | None = None,
    elasticsearch_settings: Mapping[str, str] | None = None,
    elasticsearch_version: str = jars.ELASTICSEARCH_VERSIONS[0],
) -> Iterator[RunningServers]:
    """Run both servers, started side by side on free ports, for the length of the block.

    Raises:
        LocalStackError: one did not start.
    """
    kafka_port, elasticsearch_port = free_ports(2)
    kafka = KafkaServer(folder / "kafka", kafka_port, properties=kafka_properties)
    elasticsearch = ElasticsearchServer(
        folder / "elasticsearch",
        elasticsearch_port,
        version=elasticsearch_version,
        settings=elasticsearch_settings,
    )
    try:
        for server in (kafka, elasticsearch):
            server.launch()
        for server in (kafka, elasticsearch):
            server.wait_ready()
        yield RunningServers(kafka, elasticsearch)
    finally:
        for server in (kafka, elasticsearch):
            server.stop()
