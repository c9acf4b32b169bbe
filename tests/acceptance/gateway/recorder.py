"""A second LiteLLM callback: writes down every payload that LiteLLM hands out, one a line."""

import json
import os
import threading
from pathlib import Path

from litellm.integrations.custom_logger import CustomLogger


class Recorder(CustomLogger):
    """Takes the four hooks that the handler under test takes, and nothing else."""

    def __init__(self):
        super().__init__()
        self._lock = threading.Lock()

    def log_success_event(self, kwargs, response_obj, start_time, end_time):
        self._write(kwargs)

    def log_failure_event(self, kwargs, response_obj, start_time, end_time):
        self._write(kwargs)

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        self._write(kwargs)

    async def async_log_failure_event(self, kwargs, response_obj, start_time, end_time):
        self._write(kwargs)

    def _write(self, kwargs):
        line = json.dumps(kwargs.get("standard_logging_object"), default=str) + "\n"
        with self._lock, Path(os.environ["RECORDER_FILE"]).open("a") as file:
            file.write(line)


recorder = Recorder()
