"""Owns the stack: a Kafka, an Elasticsearch, and where it is asked for a Schema Registry.

They keep all they have in one folder, and run in the background.

The steps of `up`:

1. take the folder's lock, so that two commands do not interfere;
2. launch the servers that do not run, each tied to this process (`llmlog_local.nodes.guard`);
3. wait until all answer clients;
4. give users their rights, where the stack asks for some, and announce the environment;
5. list all in the state file, in one step: from here on they outlive this process;
6. release them.

A `kill -9` before step 5 leaves no server running, after it all of them.
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
from llmlog_local.ports import HOST, choose_port, free_ports
from llmlog_local.registry import RegistryServer
from llmlog_local.security import ADMIN, Security
from llmlog_local.server import STOP_TIMEOUT_SECONDS, Server
from llmlog_local.state import ServerState, read_state, write_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from llmlog_local.security import Rights

KAFKA = KafkaServer.name
ELASTICSEARCH = ElasticsearchServer.name
REGISTRY = RegistryServer.name
_PREFERRED_PORT = {KAFKA: 9092, ELASTICSEARCH: 9200, REGISTRY: 8081}

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
        *,
        rights: Mapping[str, Rights] | None = None,
        registry: bool = False,
    ) -> Environment:
        """Start the servers that do not run; return when all answer.

        A server that ran before comes back on the port it had.

        Args:
            kafka_port: None: the port it had, else 9092 if that is free, else any.
            elasticsearch_port: None: the port it had, else 9200 if that is free, else any.
            elasticsearch_version: None: the version it had, else the default. Each version has
                its own data.
            announce: Called with the environment once all answer; if it fails, or this process
                ends in it, nothing stays running.
            rights: Of each user, by its name; None: a stack that asks for no login and no TLS.
            registry: With a Schema Registry.

        Returns:
            The settings that make this project use the servers; as the admin, who may do
            everything, where there are users.

        Raises:
            LocalStackError: a server does not start; each kind of problem has an exit code.
        """
        asked = {KAFKA: kafka_port, ELASTICSEARCH: elasticsearch_port}
        if registry:
            asked[REGISTRY] = None
        with self._lock():
            known = read_state(self.state_file)
            security = None if rights is None else Security(self._security_folder, rights)
            for before in known.values():
                _refuse_other_security(before, is_secure=security is not None)
            for name, port in asked.items():
                _refuse_change(known.get(name), "port", port)
            _refuse_change(known.get(ELASTICSEARCH), "version", elasticsearch_version)
            missing = [
                self._server(name, asked[name], known.get(name), elasticsearch_version, security)
                for name in asked
                if name not in known or not known[name].process.alive
            ]
            jars.fetch(*(server.lock_file for server in missing))
            try:
                return self._start(missing, known, announce, security)
            except BaseException:
                for server in missing:
                    server.kill()
                raise

    def _start(
        self,
        servers: list[Server],
        known: Mapping[str, ServerState],
        announce: Callable[[Environment], None],
        security: Security | None,
    ) -> Environment:
        for server in servers:
            print(  # noqa: T201 - progress
                f"starting {server.name} {server.version} on port {server.port}", file=sys.stderr
            )
            server.launch(self.state_file)
        for server in servers:
            server.wait_ready()
        state = {**known, **{server.name: _state_of(server) for server in servers}}
        if security is not None:
            self._grant(security, state)
        environment = _environment(state, security)
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

    def environment(self, user: str = ADMIN) -> Environment:
        """The settings that `up` returned, or those of another user.

        Raises:
            LocalUsageError: there is no such user.
            LocalStackError: not all servers run.
        """
        if not all(row.running for row in self.status()):
            raise LocalStackError(f"no stack runs in {self.folder}: start it with `up`")
        state = read_state(self.state_file)
        if not state[KAFKA].secure:
            return _environment(state, None)
        security = Security(self._security_folder, {})
        if not security.password_file(user).exists():
            names = sorted(path.stem for path in self._security_folder.glob("*.password"))
            raise LocalUsageError(f"there is no user {user}: choose one of {', '.join(names)}")
        return _environment(state, security, user)

    def status(self) -> list[ServerStatus]:
        """Return each server's status, Kafka first."""
        known = read_state(self.state_file)
        rows = []
        for name in (KAFKA, ELASTICSEARCH, *({REGISTRY} & set(known))):
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

    @property
    def _security_folder(self) -> Path:
        return self.folder / "security"

    def _grant(self, security: Security, state: Mapping[str, ServerState]) -> None:
        """Give users their rights; those of an earlier `up` stay in Kafka."""
        kafka = state[KAFKA]
        KafkaServer(Path(kafka.log).parent, kafka.port, security=security).grant()
        security.write_login_files(Path(state[ELASTICSEARCH].log).parent / "config")

    def _server(
        self,
        name: str,
        asked: int | None,
        before: ServerState | None,
        version: str | None,
        security: Security | None,
    ) -> Server:
        if before:
            before.process.wait_for_end(STOP_TIMEOUT_SECONDS)  # its port is free only after that
        preferred = before.port if before else _PREFERRED_PORT[name]
        port = choose_port(asked, preferred, f"--{name}-port")
        kind = "" if security is None else "-secure"  # it cannot use the data of the other
        if name == KAFKA:
            tls_port = free_ports(1)[0] if security else None
            folder = self.folder / f"{KAFKA}{kind}"
            return KafkaServer(folder, port, security=security, tls_port=tls_port)
        if name == REGISTRY:
            return RegistryServer(self.folder / f"{REGISTRY}{kind}", port, security=security)
        version = version or (before.version if before else jars.ELASTICSEARCH_VERSIONS[0])
        folder = self.folder / f"{ELASTICSEARCH}-{version}{kind}"
        return ElasticsearchServer(folder, port, version=version, security=security)

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


def _environment(
    state: Mapping[str, ServerState], security: Security | None, user: str = ADMIN
) -> Environment:
    scheme = "http" if security is None else "https"
    servers = {
        "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": f"{HOST}:{state[KAFKA].port}",
        "LLMLOG_ELASTICSEARCH_URL": f"{scheme}://{HOST}:{state[ELASTICSEARCH].port}",
    }
    if registry := state.get(REGISTRY):
        url = RegistryServer(Path(registry.log).parent, registry.port, security=security).url
        servers["LLMLOG_SCHEMA_REGISTRY_URL"] = url
    if security is None:
        return servers
    authority, password = str(security.authority.ca_file), str(security.password_file(user))
    if registry:
        servers["LLMLOG_SCHEMA_REGISTRY_CA_CERTS"] = authority
    return servers | {
        "LLMLOG_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "LLMLOG_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "LLMLOG_KAFKA_SASL_USERNAME": user,
        "LLMLOG_KAFKA_SASL_PASSWORD_FILE": password,
        "LLMLOG_KAFKA_SSL_CA_LOCATION": authority,
        "LLMLOG_ELASTICSEARCH_USERNAME": user,
        "LLMLOG_ELASTICSEARCH_PASSWORD_FILE": password,
        "LLMLOG_ELASTICSEARCH_CA_CERTS": authority,
    }


def _state_of(server: Server) -> ServerState:
    log = str(server.log_path)
    is_secure = getattr(server, "security", None) is not None
    tls_port = getattr(server, "tls_port", None)
    who = (server.name, server.version, server.port)
    return ServerState(*who, log, server.process(), is_secure, tls_port)


def _refuse_other_security(server: ServerState, *, is_secure: bool) -> None:
    if server.process.alive and server.secure != is_secure:
        has = "with" if server.secure else "without"
        raise LocalUsageError(
            f"{server.name} runs already, {has} security: end it first with `down`"
        )


def _refuse_change(server: ServerState | None, what: str, asked: object) -> None:
    if server is None or asked is None or not server.process.alive:
        return
    if (has := getattr(server, what)) != asked:
        raise LocalUsageError(
            f"{server.name} runs already, with {what} {has}, not {asked}: end it first with `down`"
        )
