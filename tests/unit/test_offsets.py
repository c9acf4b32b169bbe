"""What `pipeline offsets` says of places that the log has not."""

from __future__ import annotations

from llmlog_consumer.cli.offsets import _gap


def test_what_retention_took_and_a_topic_made_anew_are_told_apart():
    assert _gap(5, 12, 40) == "offsets 5 to 12 (7 records at most) are no longer there"
    anew = _gap(5000, 0, 30)
    assert anew.startswith("the log ends at offset 30, before the committed 5000: the topic")
    assert anew.endswith("everything it has now, from 0 on, is read")
