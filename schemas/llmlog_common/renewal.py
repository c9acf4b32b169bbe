"""Owns the reading of secrets and certificates again, while those of the start are in use.

A secret is rotated in two places, its file and its server, in any order. So the files are read
again after a refusal, at most once in `INTERVAL_SECONDS`. A file that cannot be used at that moment
is named; the values read before stay. What was read counts as taken once a client uses it: where
none can be made of it for a moment, the next refusal reads it again. A certificate is refused by no
status: its file is looked at from time to time, and read again once it has changed.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from llmlog_common.errors import ConfigurationError
from llmlog_common.settings import read_again

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from llmlog_common.settings import Settings

INTERVAL_SECONDS: Final = 2.0


class Renewed(NamedTuple):
    """What reading again has brought.

    Attributes:
        settings: with the new values; None where nothing new was read.
        what: one line for the log, of new settings once they are used; empty where there is nothing
            to say.
        digest: of the certificates as they were then.
    """

    settings: Settings | None
    what: str = ""
    digest: str = ""


class Renewal:
    """The secrets and certificates of one server that come from files. Any thread may call it.

    Args:
        settings: as loaded.
        prefix: of the names of that server's settings: `elasticsearch_`.
        interval_seconds: the files are read once in so long.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        prefix: str,
        interval_seconds: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._prefix = prefix
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._certificates = settings.files_read_once(prefix)
        names = (*settings.files_of(prefix), *map(str, self._certificates))
        self._files = ", ".join(dict.fromkeys(names))
        self._lock = threading.Lock()
        self._next = 0.0
        self._digest = _digest_of(self._certificates)  # under `_lock`

    def renew(self) -> Renewed:
        """Read the files again, unless they were read a moment ago; None where all is as it was.

        What is new stays new until it is accepted.
        """
        if not self._files:
            return Renewed(None)
        with self._lock:
            now = self._clock()
            if now < self._next:
                return Renewed(None)
            self._next = now + self._interval_seconds
            try:
                new = read_again(self._settings, self._prefix)
            except ConfigurationError as error:
                return Renewed(None, f"the values read before are kept: {error}")
            digest = _digest_of(self._certificates)
            if new.values == self._settings.values and digest == self._digest:
                return Renewed(None)
            return Renewed(new, f"credentials read again from {self._files}", digest)

    def accept(self, renewed: Renewed) -> None:
        """Take note that a client uses what was read; nothing where nothing new was."""
        if renewed.settings is not None:
            with self._lock:
                self._settings, self._digest = renewed.settings, renewed.digest

    @property
    def are_certificates_new(self) -> bool:
        """Tell whether a file of a certificate or a key has another content than is used."""
        return bool(self._certificates) and _digest_of(self._certificates) != self._digest


def files_in(path: Path) -> list[Path]:
    """Return the files of a folder, sorted, without those of its folders; otherwise the path."""
    try:
        if path.is_dir():
            return sorted(file for file in path.iterdir() if file.is_file())
    except OSError:
        pass
    return [path]


def _digest_of(paths: Iterable[Path]) -> str:
    """Return a digest of names and contents of files, and of those in folders.

    A file that cannot be read counts as empty.
    """
    digest = hashlib.sha256()
    for file in (file for path in paths for file in files_in(path)):
        try:
            content = file.read_bytes() if file.is_file() else b""
        except OSError:
            content = b""
        for part in (os.fsencode(file), content):
            digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()
