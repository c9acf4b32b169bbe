"""Owns the stack: one Kafka and one Elasticsearch in a folder, running in the background.

The steps of `up`:

1. take the folder's lock, so that two commands do not interfere;
2. launch the servers that do not run, each tied to this process (`llmlog_local.guard`);
3. wait until both answer clients;
4. announce the environment;
5. list both in the state file, in one step: from here on they outlive this process;
6. release them.

A `kill -9` before step 5 leaves no server running, after it both.
"""

from __future__ import annotations

import fcntl
import shlex
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmlog_local import jars
from llmlog_local.elasticsearch import ElasticsearchServer
from llmlog_local.errors import LocalStackError, LocalUsageError
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import HOST, choose_port
from llmlog_local.server import STOP_TIMEOUT_SECONDS, Server
from llmlog_local.state import ServerState, read_state, write_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

KAFKA = KafkaServer.name
ELASTICSEARCH = ElasticsearchServer.name
_PREFERRED_PORT = {KAFKA: 9092, ELASTICSEARCH: 9200}

Environment = dict[str, str]


@dataclass(frozen=True)
class ServerStatus:
    """One row of `status`; port, pid and version are None for a server that was never started."""

    name: str
    running: bool
    port: int | None
    pid: int | None
    version: str | None
    log: str


class LocalStack:
    """Kafka and Elasticsearch that keep their data, logs and state in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.state_file = self.folder / "state.json"

    def up(
        self,
        kafka_port: int | None = None,
        elasticsearch_port: int | None = None,
        elasticsearch_version: str | None = None,
        announce: Callable[[Environment], None] = lambda _: None,
    ) -> Environment:
        """Start the servers that do not run; return when both answer.

        A server that ran before comes back on the port it had.

        Args:
            kafka_port: None: the port it had, else 9092 if that is free, else any.
            elasticsearch_port: None: the port it had, else 9200 if that is free, else any.
            elasticsearch_version: None: the version it had, else the default. Each version has
                its own data.
            announce: Called with the environment once both answer; if it fails, or this process
                ends in it, nothing stays running.

        Returns:
            The settings that make this project use the two servers.

        Raises:
            LocalStackError: a server does not start; each kind of problem has an exit code.
        """
        asked = {KAFKA: kafka_port, ELASTICSEARCH: elasticsearch_port}
        with self._lock():
            known = read_state(self.state_file)
            for name, port in asked.items():
                _refuse_change(known.get(name), "port", port)
            _refuse_change(known.get(ELASTICSEARCH), "version", elasticsearch_version)
            missing = [
                self._server(name, asked[name], known.get(name), elasticsearch_version)
                for name in asked
                if name not in known or not known[name].process.alive
            ]
            jars.fetch(*(server.lock_file for server in missing))
            try:
                return self._start(missing, known, announce)
            except BaseException:
                for server in missing:
                    server.kill()
                raise

    def _start(
        self,
        servers: list[Server],
        known: Mapping[str, ServerState],
        announce: Callable[[Environment], None],
    ) -> Environment:
        for server in servers:
            print(  # noqa: T201 - progress
                f"starting {server.name} {server.version} on port {server.port}", file=sys.stderr
            )
            server.launch(self.state_file)
        for server in servers:
            server.wait_ready()
        state = {**known, **{server.name: _state_of(server) for server in servers}}
        environment = _environment(state)
        announce(environment)
        write_state(self.state_file, state)
        for server in servers:
            server.release()
        return environment

    def down(self) -> list[str]:
        """End the running servers, cleanly if possible; return their names. Data stays.

        Raises:
            LocalStackError: a server could not be killed.
        """
        if not self.state_file.exists():
            return []
        with self._lock():
            known = read_state(self.state_file).values()
            running = [server for server in known if server.process.alive]
            for server in running:
                server.process.end(STOP_TIMEOUT_SECONDS)
            for server in running:
                if server.process.alive:
                    raise LocalStackError(
                        f"{server.name}, process {server.process.pid}, cannot be killed"
                    )
            self.state_file.unlink(missing_ok=True)
        return [server.name for server in running]

    def environment(self) -> Environment:
        """The settings that `up` returned.

        Raises:
            LocalStackError: not both servers run.
        """
        if not all(row.running for row in self.status()):
            raise LocalStackError(f"no stack runs in {self.folder}: start it with `up`")
        return _environment(read_state(self.state_file))

    def status(self) -> list[ServerStatus]:
        """Return each server's status, Kafka first."""
        known = read_state(self.state_file)
        rows = []
        for name in (KAFKA, ELASTICSEARCH):
            log, server = str(self.log_path(name)), known.get(name)
            if server is None:
                rows.append(ServerStatus(name, False, None, None, None, log))  # noqa: FBT003
            else:
                pid = server.process.pid if server.process.alive else None
                row = ServerStatus(name, pid is not None, server.port, pid, server.version, log)
                rows.append(row)
        return rows

    def log_path(self, name: str) -> Path:
        """Return the log of a server, or of its last run."""
        server = read_state(self.state_file).get(name)
        if server is not None:
            return Path(server.log)
        logs = sorted(self.folder.glob(f"{name}*/server.log"), key=lambda log: log.stat().st_mtime)
        return logs[-1] if logs else self.folder / name / "server.log"

    def _server(
        self, name: str, asked: int | None, before: ServerState | None, version: str | None
    ) -> Server:
        if before:
            before.process.wait_for_end(STOP_TIMEOUT_SECONDS)  # its port is free only after that
        preferred = before.port if before else _PREFERRED_PORT[name]
        port = choose_port(asked, preferred, f"--{name}-port")
        if name == KAFKA:
            return KafkaServer(self.folder / KAFKA, port)
        version = version or (before.version if before else jars.ELASTICSEARCH_VERSIONS[0])
        folder = self.folder / f"{ELASTICSEARCH}-{version}"
        return ElasticsearchServer(folder, port, version=version)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / "lock").open("w")
        except OSError as error:
            raise LocalStackError(
                f"cannot write in {self.folder}: {error.strerror}; choose another with --dir"
            ) from error
        with file:  # closing it, or the end of this process, releases the lock
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another command on {self.folder}", file=sys.stderr)  # noqa: T201
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def export_lines(environment: Mapping[str, str]) -> str:
    """Write an environment as shell `export` lines, quoted."""
    return "\n".join(f"export {key}={shlex.quote(value)}" for key, value in environment.items())


def _environment(state: Mapping[str, ServerState]) -> Environment:
    return {
        "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": f"{HOST}:{state[KAFKA].port}",
        "LLMLOG_ELASTICSEARCH_URL": f"http://{HOST}:{state[ELASTICSEARCH].port}",
    }


def _state_of(server: Server) -> ServerState:
    log = str(server.log_path)
    return ServerState(server.name, server.version, server.port, log, server.process())


def _refuse_change(server: ServerState | None, what: str, asked: object) -> None:
    if server is None or asked is None or not server.process.alive:
        return
    if (has := getattr(server, what)) != asked:
        raise LocalUsageError(
            f"{server.name} runs already, with {what} {has}, not {asked}: end it first with `down`"
        )
