"""An error that is not caught, in a process of its own: what is printed of it."""

import subprocess
import sys

import pytest

SECRET = "Hunter2-do-not-print"
BEGIN = f"""
import threading
from llmlog_common.credentials import remember
from llmlog_consumer.__main__ import main
remember(["{SECRET}"])
def fail():
    password = "{SECRET}"
    raise ValueError("Invalid header value b'ApiKey {SECRET}\\n'")
"""
IN_A_THREAD = """
def run():
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    threading.Thread(target=exit).start()
main(run)
"""
WHEN_FREED = """
class Freed:
    def __del__(self):
        fail()
main(lambda: Freed() and None)
"""


@pytest.mark.parametrize("way", ["main(fail)", IN_A_THREAD, WHEN_FREED])
def test_a_traceback_names_the_error_without_its_secret(way):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + way], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" in done.stderr
    assert "Invalid header value b'ApiKey …" in done.stderr
    assert SECRET not in done.stderr
    assert done.stderr.count("Traceback") == 1
