"""What `pipeline offsets` says of places that the log has not."""

from __future__ import annotations

import pytest

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.cli import offsets
from llmlog_consumer.cli.offsets import _gap


def test_what_retention_took_and_a_topic_made_anew_are_told_apart():
    assert _gap(5, 12, 40) == "offsets 5 to 12 (7 records at most) are no longer there"
    anew = _gap(5000, 0, 30)
    assert anew.startswith("the log ends at offset 30, before the committed 5000: the topic")
    assert anew.endswith("everything it has now, from 0 on, is read")


class Busy:
    """A topic to which 20 records are written, and settled, with each look."""

    def __init__(self, _settings):
        self.end = 100

    def require(self, _topic):
        return self

    partitions = 1

    def committed(self, _topic, _partitions):
        self.end += 20
        return {0: self.end}

    def watermarks(self, _topic, _partitions):
        self.end += 20
        return {0: (0, self.end)}

    def gaps(self, _topic):
        return {}


def test_what_is_written_meanwhile_is_no_gap(monkeypatch, capsys):
    monkeypatch.setattr(offsets, "KafkaAdmin", Busy)
    offsets.show(as_json=False, config=None)
    assert "range" not in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match="has no gap"):
        offsets.accept_gap("litellm-logs/0", yes=True, config=None)
