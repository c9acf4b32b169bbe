"""Owns how the checks of a deployment are put together, for the command line and the console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.checks.doctor.facts import questions
from llmlog_consumer.checks.doctor.findings import examine
from llmlog_consumer.checks.doctor.table import new_table
from llmlog_consumer.elasticsearch.addresses import read_addresses
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.offsets import KafkaOffsets
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmlog_common.settings import Settings
    from llmlog_consumer.checks.doctor.findings import Finding
    from llmlog_consumer.provision.rights import User

REQUEST_SECONDS: Final = 10.0


def examine_deployment(settings: Settings, user: User) -> Iterator[Finding]:
    """Yield each finding about the servers that the settings name.

    Args:
        settings: as loaded.
        user: whose rights are looked at.

    Raises:
        ConfigurationError: a setting cannot be used.
    """
    elastic = Elastic(settings, timeout=REQUEST_SECONDS)
    try:
        where = str(read_addresses(settings)[0])
    except ValueError as error:
        raise ConfigurationError(f"elasticsearch: {error}") from None
    admin = KafkaAdmin(settings, patience_seconds=REQUEST_SECONDS / 2)
    asked = questions(
        settings,
        user,
        admin=admin,
        offsets=KafkaOffsets(admin),
        elastic=elastic,
        registry=Registry.from_settings(settings),
    )
    return examine(new_table(settings, where, user), asked)
