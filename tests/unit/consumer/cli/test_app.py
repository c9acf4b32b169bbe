"""What every command does before its own work."""

from __future__ import annotations

import pytest
import structlog

from llmlog_consumer.cli.app import app
from llmlog_consumer.cli.options import set_up


@pytest.fixture(autouse=True)
def _defaults():
    yield
    structlog.reset_defaults()


def test_log_lines_of_a_command_go_to_stderr_and_leave_stdout_to_data(capsys):
    assert app.registered_callback is not None
    assert app.registered_callback.callback is set_up
    set_up()
    structlog.get_logger("llmlog.elasticsearch").info("node is back", node="http://a:9200")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "node is back" in printed.err
