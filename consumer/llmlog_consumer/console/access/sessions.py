"""Owns the sessions: a signed cookie names one, and it ends when it is revoked or old."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from itsdangerous import BadSignature, Signer

if TYPE_CHECKING:
    from collections.abc import Callable

LIFETIME_SECONDS: Final = 12 * 3600.0
MAX_SESSIONS: Final = 1000
"""Sessions that are kept; the oldest ends when there are more."""
_ID_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Session:
    """One login.

    Attributes:
        name: of the person.
        way: of the login: `link` or `token`.
        proof: what the login was made with; the login ends when that is taken away.
        csrf: the token of this session's forms.
        opened: monotonic seconds.
    """

    name: str
    way: str
    proof: str
    csrf: str
    opened: float


class Sessions:
    """The open sessions, in memory: they end with the process. Any thread may call it.

    Args:
        clock: monotonic seconds.
        key: signs the cookies; by default a new one for each process.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, key: str | None = None
    ) -> None:
        self._clock = clock
        self._signer = Signer(key or secrets.token_hex(_ID_BYTES), salt="llmlog-console")
        self._lock = threading.Lock()
        self._open: dict[str, Session] = {}  # under `_lock`

    def open(self, name: str, way: str, proof: str = "") -> str:
        """Begin a session, and return its cookie."""
        number = secrets.token_urlsafe(_ID_BYTES)
        session = Session(name, way, proof, secrets.token_urlsafe(_ID_BYTES), self._clock())
        with self._lock:
            while len(self._open) >= MAX_SESSIONS:
                del self._open[next(iter(self._open))]
            self._open[number] = session
        return self._signer.sign(number).decode()

    def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None where there is none any more."""
        number = self._unsign(cookie)
        with self._lock:
            session = self._open.get(number)
            if session is not None and self._clock() - session.opened > LIFETIME_SECONDS:
                del self._open[number]
                return None
            return session

    def revoke(self, cookie: str) -> None:
        """End the session of a cookie."""
        with self._lock:
            self._open.pop(self._unsign(cookie), None)

    def _unsign(self, cookie: str) -> str:
        try:
            return self._signer.unsign(cookie).decode()
        except (BadSignature, UnicodeDecodeError):
            return ""
