"""Owns the run of the console: its sockets, its threads, and its end."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.checks.doctor.examination import examine_deployment
from llmlog_consumer.checks.sources import Sources
from llmlog_consumer.checks.status_reader import read_status
from llmlog_consumer.checks.trace import Tracer
from llmlog_consumer.console.access.logins import OneTimeLinks
from llmlog_consumer.console.access.sessions import Sessions
from llmlog_consumer.console.app import Console, build_app
from llmlog_consumer.console.gate import Gate
from llmlog_consumer.console.history import History, take_sample
from llmlog_consumer.console.queries.letters import KAFKA_SECONDS, LetterDesk
from llmlog_consumer.console.servers import TIMEOUT_SECONDS, Searcher
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.audit import AuditLog
from llmlog_consumer.kafka.offsets import KafkaOffsets
from llmlog_schemas.event import event_time_ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmlog_common.settings import Settings
    from llmlog_consumer.console.options import Options

_SOCKET_MODE: Final = 0o660
_BACKLOG: Final = 128
_CONCURRENCY: Final = 200
_STOP_SECONDS: Final = 5
_BEFORE_MS: Final = 60_000
"""Clocks of gateway and broker differ: the topic is read from so long before the call on."""


def run(settings: Settings, options: Options, say: Callable[[str], None]) -> None:
    """Serve the console until a signal ends it.

    Args:
        settings: of the deployment.
        options: how it is reached.
        say: prints a line for the person who has started it.

    Raises:
        ConfigurationError: the options do not fit together, or the address cannot be had.
    """
    options.check()
    console = connect(settings, options, say)
    listener = listen(options)
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(console),
            # Only `access/proxy.py` believes a proxy's headers.
            proxy_headers=False,
            server_header=False,
            log_config=None,
            access_log=False,
            limit_concurrency=_CONCURRENCY,
            timeout_graceful_shutdown=_STOP_SECONDS,
            ws="none",
            lifespan="off",
        )
    )
    console.history.start()
    try:
        if console.links is not None:
            console.links.renew()
        else:
            say(f"the console listens on {options.socket or f'{options.host}:{options.port}'}")
        for number in (signal.SIGINT, signal.SIGTERM):  # which uvicorn raises again at its end
            signal.signal(number, lambda *_: sys.exit(0))
        server.run(sockets=[listener])
    finally:
        console.history.close()
        console.jobs.close()
        if options.socket is not None:
            options.socket.unlink(missing_ok=True)


def connect(settings: Settings, options: Options, say: Callable[[str], None]) -> Console:
    """Return the console with the clients of its servers.

    Raises:
        ConfigurationError: a setting or an option cannot be used as it is.
    """
    gate = Gate(
        options.origins(),
        Sessions(),
        f"llmlog_console_{options.port}",
        options.tokens(),
        options.proxy(),
    )
    searcher = Searcher(settings)
    admin = KafkaAdmin(settings, patience_seconds=KAFKA_SECONDS)
    offsets = KafkaOffsets(admin)
    history = History(
        lambda: take_sample(lambda: read_status(settings, admin, offsets), searcher.count)
    )
    links = None
    if options.is_loopback:
        name = f"[{options.host}]" if ":" in options.host else options.host
        base = f"http://{name}:{options.port}"
        links = OneTimeLinks(
            lambda secret: say(f"Open the console (once): {base}/login?link={secret}")
        )

    def trace(event_id: str, report: Callable[[str, int, int], None]) -> dict[str, Any]:
        sources = Sources.connect(settings, report, timeout=TIMEOUT_SECONDS)
        since_ms = event_time_ms(event_id) - _BEFORE_MS
        found = Tracer(sources).trace(event_id, since_ms=since_ms, scan=True)
        return found.as_json() | {"notes": found.notes}

    return Console(
        settings,
        gate,
        searcher,
        history,
        LetterDesk(settings),
        AuditLog(settings, "console"),
        trace,
        lambda user: examine_deployment(settings, user),
        links,
        allow_replay=options.allow_replay,
        runbook=options.runbook,
    )


def listen(options: Options) -> socket.socket:
    """Return the socket that the console listens on.

    Raises:
        ConfigurationError: the address cannot be had.
    """
    if options.socket is not None:
        return _listen_on_path(options.socket)
    try:
        listener = socket.create_server(
            (options.host, options.port),
            family=socket.AF_INET6 if ":" in options.host else socket.AF_INET,
            backlog=_BACKLOG,
        )
        # Connections inherit it. Without it each answer's body waits 40 ms for the other side.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise ConfigurationError(
            f"--host {options.host} --port {options.port}: {error.strerror or error}: "
            "give another --port"
        ) from None
    return listener


def _listen_on_path(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()  # of a console that was killed
        previous = os.umask(0o777 & ~_SOCKET_MODE)  # never wider, not even for a moment
        try:
            listener.bind(str(path))
        finally:
            os.umask(previous)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"--socket {path}: {error.strerror or error}") from None
    return listener


def say_to_stderr(line: str) -> None:
    """Print a line for the person who has started the console."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
