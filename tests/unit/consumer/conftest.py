"""What every unit test of the consumer leaves as it was."""

from __future__ import annotations

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logging_as_before():
    """Undo what a command under test configures: its stream is closed when the test is over."""
    yield
    structlog.reset_defaults()
