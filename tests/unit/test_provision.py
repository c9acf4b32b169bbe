"""What setup makes where nothing is there."""

from __future__ import annotations

from datetime import timedelta

import pytest

from llmlog_consumer import provision
from llmlog_schemas.settings import load


class Admin:
    """A cluster of one broker without topics."""

    def __init__(self):
        self.created = {}

    def topics(self):
        return {}, 1

    def create(self, name, _partitions, _replication, config):
        self.created[name] = timedelta(milliseconds=int(config["retention.ms"])).days


@pytest.mark.parametrize(("retention", "letters"), [("7 days", 30), ("90 days", 90)])
def test_letters_are_kept_as_long_as_their_records(retention, letters):
    admin, settings = Admin(), load(environ={"LLMLOG_RETENTION": retention})
    steps = list(provision.topics(settings, admin, dry_run=False))
    assert admin.created == {"litellm-logs": int(retention[:2]), "litellm-logs.dlq": letters}
    assert steps[1].detail.endswith(f"kept {letters} days")
