"""docs/permissions.md names the rights that `rights.py` has."""

from pathlib import Path

import pytest

from llmlog_common.settings import load
from llmlog_consumer.provision.rights import (
    User,
    elasticsearch_role,
    elasticsearch_users,
    kafka_rights,
)

SETTINGS = load(environ={"LLMLOG_GROUP": "G"})
PAGE = (Path(__file__).parents[2] / "docs/permissions.md").read_text()


def row_of(table_heading, user):
    """Return the cells of a user's row, in the table with this heading."""
    table = PAGE.split(table_heading)[1].split("\n\n")[0]
    (row,) = [line for line in table.splitlines() if line.startswith(f"| {user} |")]
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


@pytest.mark.parametrize("user", User)
def test_the_rights_in_kafka_are_documented(user):
    given = {right.name: ", ".join(right.operations) for right in kafka_rights(user, SETTINGS)}
    cells = row_of("| user | topic | dead-letter topic | audit topic |", user)
    names = [SETTINGS.topic, SETTINGS.dlq_topic, SETTINGS.audit_topic, "G", "G.gaps"]
    assert cells == [given.get(name, "") for name in names]


@pytest.mark.parametrize("user", elasticsearch_users())
def test_the_roles_in_elasticsearch_are_documented(user):
    role = elasticsearch_role(user, SETTINGS)
    cluster, indices = row_of("| user | cluster | indices |", user)
    assert cluster == ", ".join(role["cluster"])
    assert indices == ", ".join(role["indices"][0]["privileges"])
    assert role["indices"][0]["names"] == ["litellm-logs", "litellm-logs-2*"]


@pytest.mark.parametrize("user", User)
def test_it_is_said_what_each_user_runs(user):
    assert row_of("| user | runs |", user)
