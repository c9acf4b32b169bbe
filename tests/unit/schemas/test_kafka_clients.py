"""The properties that the delivery contract rests on hold, whatever a user sets."""

from __future__ import annotations

import pytest

from llmlog_common.errors import ConfigurationError
from llmlog_common.kafka_clients import consumer_config, producer_config
from llmlog_common.settings import Settings, load

CONSUMER = {
    "auto.offset.reset": ("error", "latest"),
    "check.crcs": (True, "false"),
    "enable.auto.commit": (False, "true"),
    "enable.auto.offset.store": (False, "true"),
    "enable.partition.eof": (False, "true"),
    "group.id": ("g", "another"),
}
PRODUCER = {
    "acks": ("all", "1"),
    "enable.idempotence": (True, "false"),
}


@pytest.mark.parametrize("place", ["kafka", "kafka_consumer"])
@pytest.mark.parametrize("name", CONSUMER)
def test_a_user_cannot_change_how_a_member_reads_and_commits(name, place):
    """With `auto.offset.reset=latest`, records that retention deleted would be skipped silently."""
    ours, theirs = CONSUMER[name]
    assert consumer_config(Settings(group="g"))[name] == ours
    assert consumer_config(Settings(group="g", **{place: {name: theirs}}))[name] == ours


@pytest.mark.parametrize("place", ["kafka", "kafka_producer"])
@pytest.mark.parametrize("name", PRODUCER)
def test_a_user_cannot_change_how_a_producer_confirms(name, place):
    ours, theirs = PRODUCER[name]
    assert producer_config(Settings())[name] == ours
    assert producer_config(Settings(**{place: {name: theirs}}))[name] == ours


@pytest.mark.parametrize("name", ["auto.offset.reset", "enable.auto.commit", "acks"])
def test_a_user_who_tries_is_told(name):
    variable = f"LLMLOG_KAFKA_{name.replace('.', '_').upper()}"
    with pytest.raises(ConfigurationError, match=name):
        load(environ={variable: "latest"})


def test_a_producer_waits_for_an_absent_broker_as_long_as_it_takes():
    assert producer_config(Settings())["message.timeout.ms"] == 0
