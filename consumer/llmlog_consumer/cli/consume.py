"""The command `pipeline consume`."""

from __future__ import annotations

import json
import signal
import threading
import time
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer

from llmlog_common.errors import CircuitOpenError, PipelineError, Unreachable
from llmlog_common.settings import load
from llmlog_consumer.cli.dlq.completion import complete_fingerprint
from llmlog_consumer.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from llmlog_common.settings import Settings
    from llmlog_consumer.checks.status import Status
    from llmlog_consumer.service.health import Subject
    from llmlog_consumer.service.supervisor import Supervisor
    from llmlog_consumer.worker.task import Task


class From(StrEnum):
    """Where a group without offsets begins."""

    EARLIEST = "earliest"
    LATEST = "latest"


def consume(
    workers: Annotated[int, typer.Option("--workers", min=1, help="Worker processes.")] = 1,
    begin: Annotated[
        From, typer.Option("--from", help="Where a group without any offsets begins.")
    ] = From.EARLIEST,
    until_end: Annotated[
        bool,
        typer.Option("--until-end", help="Stop when everything that was there is settled."),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0.0, metavar="S", help="With --until-end: give up after."),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            "--accept",
            metavar="FINGERPRINT",
            help="Let this cause through the circuit breaker; may be repeated.",
            autocompletion=complete_fingerprint,
        ),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Index the topic into Elasticsearch as members of one consumer group.

    The first SIGTERM or Ctrl-C drains: what was consumed is indexed and committed. The second
    leaves at once; what was not committed is delivered again, and lands on the same documents.

    Example: pipeline consume --workers 4
    """
    # No other command needs these; together they take 7 MB.
    import structlog
    from setproctitle import setproctitle

    from llmlog_consumer import log_setup
    from llmlog_consumer.elasticsearch.connection import Elastic
    from llmlog_consumer.kafka.admin import KafkaAdmin
    from llmlog_consumer.kafka.offsets import KafkaOffsets
    from llmlog_consumer.log_stream import LAST_LINES_SECONDS, open_stderr
    from llmlog_consumer.service import preflight
    from llmlog_consumer.service.until_end import WaitLines

    if timeout is not None and not until_end:
        raise typer.BadParameter("--timeout goes with --until-end")
    settings = load(config=config)
    setproctitle("pipeline consume")
    stderr, log = open_stderr(), structlog.get_logger("llmlog")
    log_setup.configure(
        stream=cast("TextIO", stderr), form=settings.log_format, level=settings.log_level
    )
    subject = _serve_page(settings)
    deadline = None if timeout is None else time.monotonic() + timeout
    stop = threading.Event()
    _handle_signals(lambda *_: stop.set())
    elastic, admin = Elastic(settings), KafkaAdmin(settings)
    offsets = KafkaOffsets(admin)
    try:
        task = preflight.check(
            settings,
            admin,
            offsets,
            elastic,
            latest=begin is From.LATEST,
            until_end=until_end,
            stop=stop,
            accepted=frozenset(accept or ()),
            deadline=deadline,
            on_wait=subject.wait_for,
        )
    except Unreachable as error:  # only a deadline ends the waiting for a server
        raise _too_late(timeout, str(error)) from None
    if task is None or stop.is_set():
        if until_end:
            raise PipelineError(_STOPPED)
        return
    supervisor = _new_supervisor(settings, task, workers, log)
    log.info(
        "consuming",
        topic=settings.topic,
        group=settings.group,
        index=settings.index,
        workers=workers,
        until="the end" if until_end else "a signal",
    )
    ends = task.until or {}

    def look() -> Status:
        from llmlog_consumer.checks.status_reader import read_status

        return read_status(settings, admin, offsets)

    lines = WaitLines(lambda: look().waits_for(ends))
    try:
        with (
            lines if until_end else nullcontext(),
            _watch_servers(settings, subject, supervisor, look)
            if settings.metrics_port
            else nullcontext(),
        ):
            finished = supervisor.run(deadline)
    finally:
        _tell_totals(log, supervisor.totals, as_json=as_json)
        stderr.flush(LAST_LINES_SECONDS)
    if supervisor.final_code == _CIRCUIT_OPEN_CODE:
        raise CircuitOpenError("the circuit breaker is open: see the lines above")
    if until_end and not finished:
        is_late = deadline is not None and time.monotonic() >= deadline
        raise _too_late(timeout, lines.reason) if is_late else PipelineError(_STOPPED)


def _handle_signals(handler: Callable[..., object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _serve_page(settings: Settings) -> Subject:
    """Serve health and metrics where there is a port for them; return what they tell about."""
    from llmlog_consumer.service.health import Subject

    subject = Subject()
    if settings.metrics_port:
        from llmlog_consumer.service.page import Page, serve

        serve(settings.metrics_port, Page(settings.topic, subject))
    return subject


def _watch_servers(
    settings: Settings, subject: Subject, supervisor: Supervisor, look: Callable[[], Status]
) -> AbstractContextManager[object]:
    """Tell the page what it is about from now on; return the threads behind it."""
    from llmlog_consumer.service.watches import CERTIFICATES_SECONDS, LAG_SECONDS, Lag, Watch

    def read_lag() -> Lag:
        partitions = look().partitions
        ages = {p.number: p.behind_ms for p in partitions}
        return Lag(
            {p.number: p.place.lag for p in partitions},
            {p: None if age is None else age / 1000 for p, age in ages.items()},
            time.monotonic(),
        )

    def read_ends() -> dict[str, float]:
        from llmlog_consumer.checks.doctor.certificates import read_certificates

        return read_certificates(settings)

    lag = Watch("llmlog-group", read_lag, Lag(), LAG_SECONDS)
    nothing: dict[str, float] = {}
    ends = Watch("llmlog-certificates", read_ends, nothing, CERTIFICATES_SECONDS)
    subject.begin(lambda: supervisor.state, lambda: lag.latest, lambda: ends.latest)

    @contextmanager
    def run() -> Iterator[None]:
        with lag, ends:
            yield

    return run()


def _tell_totals(log: Any, totals: Mapping[str, int], *, as_json: bool) -> None:
    names = ("consumed", "indexed", "duplicate", "dead", "dropped", "released")
    found = {name: totals[name] for name in names}
    log.info("ended", **found)
    if as_json:
        typer.echo(json.dumps(found))


def _new_supervisor(settings: Settings, task: Task, workers: int, log: Any) -> Supervisor:
    from llmlog_consumer.service import memory
    from llmlog_consumer.service.supervisor import Supervisor
    from llmlog_consumer.service.worker_process import work

    limit = memory.read_limit()
    if shortage := memory.describe_shortage(workers, limit):
        log.warning("the kernel may kill workers", why=shortage)
    final = frozenset({_CIRCUIT_OPEN_CODE})
    supervisor = Supervisor(work, (settings, task), workers, final=final, memory_limit=limit)
    _handle_signals(supervisor.on_signal)
    return supervisor


def _too_late(timeout: float | None, reason: str) -> PipelineError:
    return PipelineError(
        f"not everything was settled within {timeout or 0:g} s, this is missing: {reason}"
    )


_STOPPED = "stopped before everything was settled: run it again"
_CIRCUIT_OPEN_CODE = CircuitOpenError.exit_code
