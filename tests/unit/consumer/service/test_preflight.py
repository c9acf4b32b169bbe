"""What is said before workers start."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from llmlog_common.settings import load
from llmlog_consumer.kafka.admin import Topic
from llmlog_consumer.service import preflight


@pytest.mark.parametrize("passed", ["begins at the end of the topic: 450 records …", ""])
def test_what_a_group_without_offsets_passes_over_is_a_warning(monkeypatch, passed):
    class Admin:
        def __init__(self, _settings):
            pass

        def require_properties(self):
            pass

        def require(self, _topic):
            return Topic(4, 1)

        def begin(self, _topic, _partitions, *, latest):
            assert latest
            return passed

    class Elastic:
        def __init__(self, _settings):
            pass

        def close(self):
            pass

    monkeypatch.setattr(preflight, "KafkaAdmin", Admin)
    monkeypatch.setattr(preflight, "Elastic", Elastic)
    monkeypatch.setattr(preflight.provision, "require_template", lambda *_: None)
    monkeypatch.setattr(preflight, "log", preflight.structlog.get_logger())
    settings = load(environ={"LLMLOG_GROUP": "g"})
    with capture_logs() as logs:
        preflight.check(settings, latest=True, until_end=False, stop=threading.Event())
    said = {"event": "group has no offsets", "group": "g", "what": passed, "log_level": "warning"}
    assert logs == ([said] if passed else [])
