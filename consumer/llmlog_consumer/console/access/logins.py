"""Owns what a session is opened with: the one-time link, and the tokens of a file."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import deque
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.console.access.roles import parse_roles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmlog_consumer.console.access.roles import Role

MIN_TOKEN_CHARACTERS: Final = 32
MAX_FAILURES: Final = 10
"""Wrong tokens of one source in `FAILURE_SECONDS` after which none is looked at for that long."""
FAILURE_SECONDS: Final = 60.0
MAX_SOURCES: Final = 1000
IPV6_BITS: Final = 64
_PARTS: Final = 3


class OneTimeLinks:
    """The link that opens one session; the next one is shown where this one was used.

    Args:
        show: is told each new secret.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._lock = threading.Lock()
        self._secret = ""  # under `_lock`

    def renew(self) -> None:
        """Make a new link, and show it."""
        with self._lock:
            self._secret = secrets.token_urlsafe(32)
        self._show(self._secret)

    def use(self, secret: str) -> bool:
        """Tell whether this is the link's secret; it works once."""
        with self._lock:
            is_right = bool(self._secret) and hmac.compare_digest(
                secret.encode(), self._secret.encode()
            )
            if is_right:
                self._secret = ""
        if is_right:
            self.renew()
        return is_right


class TokenFile:
    """The tokens of a file, a line each: `NAME ROLE,ROLE TOKEN`. It is read again when it changes.

    So a line that is taken away ends the sessions that were opened with it. A file that is absent
    or wrong has no tokens. Any thread may call it.

    Args:
        path: of the file.

    Raises:
        ConfigurationError: it cannot be read, or a line is wrong.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None  # under `_lock`
        self._tokens: dict[str, tuple[str, frozenset[Role]]] = {}  # under `_lock`
        self._tokens = read_tokens(path)
        self._stamp = self._look()

    def check(self, token: str) -> tuple[str, str] | None:
        """Return the name and the proof of a token; None where it is in no line."""
        proof = digest(token)
        for known, (name, _) in self._read().items():
            if hmac.compare_digest(known, proof):
                return name, known
        return None

    def roles_of(self, proof: str) -> frozenset[Role] | None:
        """Return the roles that a proof gives now; None where its line is gone."""
        found = self._read().get(proof)
        return None if found is None else found[1]

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _read(self) -> dict[str, tuple[str, frozenset[Role]]]:
        stamp = self._look()
        with self._lock:
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._tokens = read_tokens(self._path)
                except ConfigurationError:
                    self._tokens = {}
            return self._tokens


def digest(token: str) -> str:
    """Return what is kept of a token in its place."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def read_tokens(path: Path) -> dict[str, tuple[str, frozenset[Role]]]:
    """Return name and roles of each token's digest.

    Raises:
        ConfigurationError: the file cannot be read, or a line is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--token-file {path}: {error}") from None
    tokens: dict[str, tuple[str, frozenset[Role]]] = {}
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != _PARTS:
            raise ConfigurationError(f"{where}: write NAME ROLE,ROLE TOKEN")
        name, roles, token = words
        if len(token) < MIN_TOKEN_CHARACTERS:
            raise ConfigurationError(f"{where}: a token has {MIN_TOKEN_CHARACTERS} characters")
        tokens[digest(token)] = (name, parse_roles(roles, where))
    return tokens


class FailureBound:
    """The bound of wrong logins, for each source by itself. Any thread may call it.

    So a stranger keeps no other person out. Sessions that are open are never asked.

    Args:
        clock: monotonic seconds.
        max_sources: that are remembered; the one that failed longest ago is forgotten first.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, max_sources: int = MAX_SOURCES
    ) -> None:
        self._clock = clock
        self._max_sources = max_sources
        self._lock = threading.Lock()
        self._failures: dict[str, deque[float]] = {}  # under `_lock`

    def is_reached(self, source: str) -> bool:
        """Tell whether too many logins from a source failed of late."""
        with self._lock:
            failed = self._failures.get(source)
            if failed is None or len(failed) < MAX_FAILURES:
                return False
            return failed[0] > self._clock() - FAILURE_SECONDS

    def count(self, source: str) -> None:
        """Count a login that failed."""
        with self._lock:
            failed = self._failures.pop(source, deque[float](maxlen=MAX_FAILURES))
            failed.append(self._clock())
            self._failures[source] = failed
            while len(self._failures) > self._max_sources:
                del self._failures[next(iter(self._failures))]


def name_source(address: str) -> str:
    """Return whom an address counts as: of IPv6 a whole network, which one household has.

    Args:
        address: of the connection; empty for that of a Unix socket.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return "socket"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network((parsed, IPV6_BITS), strict=False))
    return str(parsed)
