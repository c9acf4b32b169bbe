"""Worker processes without processes, a cluster to set up, and a clock that a test moves."""

from __future__ import annotations

from typing import Any

from llmlog_consumer.elasticsearch.connection import Answer, Elastic
from llmlog_consumer.kafka.admin import Topic


class Clock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class FixedDelays:
    """In the place of a `Backoff`: each delay is the same; remembers after which attempts."""

    def __init__(self, seconds):
        self._seconds = seconds
        self.attempts: list[int] = []

    def delay(self, attempt):
        self.attempts.append(attempt)
        return self._seconds


class FakeProcess:
    """A worker process that lives until a test, or a signal, ends it."""

    def __init__(self, *, target, args, name):
        self.target, self.args, self.name = target, args, name
        self.exitcode: int | None = None
        self.signals: list[str] = []
        self.sentinel = FakeSentinel(self)
        self.obeys = True
        """Whether a SIGTERM ends it at once, with code 0."""
        self.pid = None

    def start(self):
        pass

    def is_alive(self):
        return self.exitcode is None

    def end(self, code):
        self.exitcode = code
        self.close_reports()

    def close_reports(self):
        self.args[2].pipe.writers.discard("worker")

    def terminate(self):
        self.signals.append("SIGTERM")
        if self.obeys:
            self.end(0)

    def kill(self):
        self.signals.append("SIGKILL")
        self.end(-9)


class FakeSentinel:
    """The handle of a process that is ready when it has ended."""

    def __init__(self, process):
        self._process = process

    def poll(self):
        return not self._process.is_alive()


class FakePipe:
    """The receiving end of a pipe of reports, which has an end when no writer is left."""

    def __init__(self):
        self.reports: list[dict[str, Any]] = []
        self.writers = {"supervisor", "worker"}
        self.closed = False

    def poll(self):
        if self.closed:
            raise OSError("handle is closed")
        return bool(self.reports) or not self.writers

    def recv(self):
        if not self.reports:
            raise EOFError
        return self.reports.pop(0)

    def close(self):
        self.closed = True


class FakeChildEnd:
    """The sending end of a pipe, as the supervisor has it before it closes it."""

    def __init__(self, pipe):
        self.pipe = pipe

    def close(self):
        self.pipe.writers.discard("supervisor")


class FakeContext:
    """The processes of a start method, in the order of their starts."""

    def __init__(self):
        self.processes: list[FakeProcess] = []
        self.pipes: list[FakePipe] = []

    def Pipe(self, *, duplex):  # noqa: N802 - the name in multiprocessing
        self.pipes.append(FakePipe())
        return self.pipes[-1], FakeChildEnd(self.pipes[-1])

    def Process(self, **arguments):  # noqa: N802 - the name in multiprocessing
        self.processes.append(FakeProcess(**arguments))
        return self.processes[-1]


class FakeCluster(Elastic):
    """An empty Elasticsearch; remembers what is stored, and answers some paths as a test says."""

    def __init__(self, **statuses: int):
        self.where = "nowhere"
        self.statuses = {"/" + path.replace("__", "/"): code for path, code in statuses.items()}
        self.stored: dict[str, Any] = {}
        self.closed = False

    def request(self, method, path, *, body=None, params=None, **_):
        status = next((s for begin, s in self.statuses.items() if path.startswith(begin)), 0)
        if status == 200:
            return Answer(200, {})
        if status:
            error = {"type": "security_exception", "reason": "unauthorized"}
            return Answer(status, {"error": error})
        if method == "PUT":
            self.stored[path] = body
            return Answer(200, {"acknowledged": True})
        if path == "/_ilm/status":
            return Answer(200, {"operation_mode": "RUNNING"})
        return Answer(404, {"error": {"type": "index_not_found_exception", "reason": "no such"}})

    def close(self):
        self.closed = True


class FakeTopics:
    """In the place of `KafkaAdmin`: topics that are there, and those that are created."""

    def __init__(self, topics: dict[str, Topic] | None = None):
        self.existing = topics or {}
        self.created: dict[str, dict[str, str]] = {}
        self.errors: list[Exception] = []
        self.on_trouble = str
        self.forbidden: set[tuple[str, str]] = set()
        self.another_creates = False
        """Whether each topic is there already when it is created."""

    def missing_rights(self, name, *needed):
        return {right for right in needed if (name, right) in self.forbidden}

    def topics(self):
        return self.existing, 1

    def create(self, name, _partitions, _replication, config):
        self.created[name] = config
        return not self.another_creates

    def require_properties(self):
        pass

    def require(self, name):
        if self.errors:
            raise self.errors.pop(0)
        return self.existing[name]
