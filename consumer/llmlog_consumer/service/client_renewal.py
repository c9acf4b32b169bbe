"""Owns when a worker replaces its clients, because a certificate has changed that they read once.

librdkafka reads certificates and keys when a client is made, and never again. So once a file has
changed, a thread tries the new files with a client of its own. Where a broker lets it in, the
worker drains, and goes on with new clients in the same process. One worker at a time does so: each
holds a lock on the file that has changed until its new client has joined the group.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from typing import TYPE_CHECKING, Final, TextIO

import structlog

from llmlog_common.errors import ConfigurationError, PipelineError, Unreachable
from llmlog_common.renewal import Renewal, files_in
from llmlog_common.settings import read_again
from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.kafka.admin import KafkaAdmin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmlog_common.settings import Settings

log = structlog.get_logger("llmlog.clients")

LOOK_SECONDS: Final = 5.0
"""Between two looks at the files."""
TRY_SECONDS: Final = 10.0
"""Time that a broker has to let the new client in."""


def why_refused(settings: Settings) -> str:
    """Say why no broker lets a client with these settings in; empty where one does."""
    try:
        KafkaAdmin(settings, patience_seconds=TRY_SECONDS).topics()
    except (PipelineError, Unreachable) as error:
        return str(error)
    return ""


class ClientRenewal:
    """What a worker asks at each step; it never waits.

    The worker's thread calls it; a short-lived thread tries new files.

    Args:
        settings: as loaded.
        refusal: says why no broker lets a client in; empty where one does.
        look_seconds: between two looks at the files.
        clock: monotonic seconds.

    Attributes:
        settings: of the clients that the worker has, or is to make.
        is_ready: the files have changed, a broker lets them in, and it is this worker's turn.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        refusal: Callable[[Settings], str] = why_refused,
        look_seconds: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.is_ready = False  # the thread sets it, the worker's takes it back
        self._refusal = refusal
        self._look_seconds = look_seconds
        self._clock = clock
        self._renewal = Renewal(settings, "kafka_", 0.0)
        self._files = settings.files_read_once("kafka_")
        self._next = clock() + look_seconds
        self._thread: threading.Thread | None = None
        self._turn: TextIO | None = None
        self._throttled = ThrottledLog(log)

    def look(self) -> bool:
        """Tell whether the worker has to replace its clients; begin to try files that changed."""
        now = self._clock()
        if self.is_ready or not self._files or now < self._next:
            return self.is_ready
        self._next = now + self._look_seconds
        is_trying = self._thread is not None and self._thread.is_alive()
        if self._turn is None and not is_trying and self._renewal.are_certificates_new:
            self._thread = threading.Thread(target=self._try, name="llmlog-renewal", daemon=True)
            self._thread.start()
        return False

    def begin(self) -> None:
        """Take the new settings: the old clients are closed, and new ones are made."""
        renewed = self._renewal.renew()
        self._renewal.accept(renewed)
        self.settings, self.is_ready = renewed.settings or self.settings, False
        log.info("the new certificate is used: Kafka's clients are replaced", why=renewed.what)

    def end(self) -> None:
        """Let the next worker have its turn: the new client has joined the group."""
        if self._turn is not None:
            self._turn.close()
            self._turn = None

    def _try(self) -> None:
        try:
            turn = _take_turn(self._files)
        except BlockingIOError:
            return  # another worker's
        try:
            why = self._refusal(read_again(self.settings, "kafka_"))
        except ConfigurationError as error:
            why = str(error)
        if why:
            self._throttled(
                logging.WARNING, "refused", "a new certificate is not used yet", why=why
            )
            if turn is not None:
                turn.close()
            return
        self._turn, self.is_ready = turn, True


def _take_turn(files: tuple[Path, ...]) -> TextIO | None:
    """Return the first file that can be read, locked; None where none can be.

    The lock ends with the process. A file system without locks lets every worker go at once.

    Raises:
        BlockingIOError: another process has it.
    """
    for path in (file for one in files for file in files_in(one)):
        try:
            file = path.open()
        except OSError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise
        except OSError:
            file.close()
            continue
        return file
    return None
