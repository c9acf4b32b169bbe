"""The images of the compose file, built and run together as it says, against real servers.

`make images` runs this, with `IMAGE_BASE` as the name of a base that buildah has.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from llmlog_local.ports import free_ports
from llmlog_local.testing import running_servers
from support.image_run import Builder, missing_tools
from support.pipeline import wait_until

ROOT = Path(__file__).resolve().parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
MAX_MEGABYTES = {"consumer": 180, "console": 180, "callback": 40}
DRAIN_SECONDS = 60
"""`stop_grace_period` of the consumer."""

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(missing_tools()), reason=f"missing: {missing_tools()}"),
]


def megabytes(folder: Path) -> float:
    """Return what the files below a folder take; a file with several names counts once."""
    seen = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            stat = path.stat()
            seen[stat.st_ino] = stat.st_size
    return sum(seen.values()) / 1e6


@pytest.fixture(scope="module")
def images():
    """Every image that the compose file builds, by its service, unpacked."""
    import os

    builder = Builder(os.environ["IMAGE_BASE"])
    built = {name: builder.build(SERVICES[name]) for name in ("consumer", "console", "gateway")}
    yield built
    for image in built.values():
        image.remove()


@pytest.fixture
def stack(tmp_path):
    with running_servers(tmp_path / "stack") as servers:
        yield servers


class Composition:
    """Services of the compose file as processes; their names become ports of this machine."""

    def __init__(self, images, servers, folder):
        self._images, self._folder = images, folder
        names = ("consumer-1", "consumer-2", "gateway", "console")
        self.port = dict(zip(names, free_ports(len(names)), strict=True))
        self.key = f"sk-{secrets.token_hex(24)}"
        self._names = {
            "kafka:19092": servers.kafka.bootstrap_servers,
            "http://elasticsearch:9200": servers.elasticsearch.url,
        }
        self.started = {}
        self._tokens = folder / "tokens"
        self._tokens.write_text(f"ada numbers {secrets.token_hex(32)}\n")
        self._journal = folder / "journal"
        self._journal.mkdir()
        for path in (self._tokens, self._journal):
            path.chmod(0o777)
        for parent in (folder, *folder.parents):
            if parent != Path("/tmp"):
                parent.chmod(parent.stat().st_mode | 0o111)

    def _here(self, text, name):
        for there, here in self._names.items():
            text = text.replace(there, here)
        target = name.partition("-")[0]
        standard = {"consumer": 9464, "console": 8765, "gateway": 4000}.get(target)
        if standard and name in self.port:
            text = text.replace(str(standard), str(self.port[name]))
        return text

    def image(self, name):
        return self._images[SERVICES[name.partition("-")[0]]["build"]["target"]]

    def start(self, name, *arguments):
        """Start a service as the file says; `name-2` is a replica of it."""
        service = SERVICES[name.partition("-")[0]]
        variables = {
            key: self._here(value, name)
            for key, value in service["environment"].items()
            if value is not None
        }
        if name.startswith("consumer"):
            variables["LLMLOG_METRICS_PORT"] = str(self.port[name])
        mounts = []
        if name == "gateway":
            variables["LITELLM_MASTER_KEY"] = self.key
            mounts = [
                (ROOT / "deploy/litellm/config.yaml", "/etc/litellm/config.yaml", "ro"),
                (self._journal, "/var/lib/llmlog", "rw"),
            ]
        if name == "console":
            mounts = [(self._tokens, "/run/secrets/console-tokens", "ro")]
        command = [self._here(word, name) for word in (arguments or service["command"])]
        if name == "console":  # the address that it listens on, beside that of its link
            command += ["--port", str(self.port[name])]
        log = self._folder / f"{name}.log"
        self.started[name] = self.image(name).start(command, variables, mounts, log)
        return self.started[name]

    def run(self, name, *arguments):
        """Run a service to its end; return its exit code and output."""
        log = self._folder / f"{name}.log"
        before = log.stat().st_size if log.exists() else 0
        code = self.start(name, *arguments).process.wait(180)
        return code, log.read_text()[before:]

    def wait_healthy(self, name):
        """Wait until the image's own health check passes, in a container of its own."""
        test = self.image(name).config["Healthcheck"]["Test"]
        command = [self._here(word, name) for word in test[1:]]
        wait_until(lambda: self._passes(name, command), 60, f"{name} is healthy: {self.log(name)}")

    def _passes(self, name, command):
        container = self.started[name]
        assert container.process.poll() is None, self.log(name)
        code, _ = self.image(name).run(command)
        return code == 0

    def log(self, name):
        return (self._folder / f"{name}.log").read_text()[-3000:]

    def clean_up(self):
        for container in self.started.values():
            container.kill()


def test_images_hold_no_more_than_they_should(images, capsys):
    sizes = {
        "consumer": megabytes(images["consumer"].folder / "opt/pipeline"),
        "console": megabytes(images["console"].folder / "opt/pipeline"),
        "callback": megabytes(images["gateway"].folder / "opt/llmlog"),
        "LiteLLM": megabytes(images["gateway"].folder / "opt/litellm"),
    }
    with capsys.disabled():
        print({name: round(size) for name, size in sizes.items()})
    for name, limit in MAX_MEGABYTES.items():
        assert sizes[name] <= limit, name


@pytest.mark.parametrize("name", ["consumer", "console", "gateway"])
def test_an_image_runs_as_no_one_writes_nowhere_and_installs_nothing(images, name):
    image = images[name]
    code = (
        "import importlib.util, os, pathlib, json\n"
        "def can(path):\n"
        "    try: pathlib.Path(path, 'x').write_text('x')\n"
        "    except OSError: return False\n"
        "    return True\n"
        "print(json.dumps({'user': os.getuid(), 'group': os.getgid(),\n"
        "    'pip': [m for m in ('pip', 'ensurepip') if importlib.util.find_spec(m)],\n"
        "    'written': [p for p in ('/', '/opt', '/etc/llmlog/ca', '/usr', '/tmp') if can(p)]}))"
    )
    returned, out = image.run(["python", "-c", code])
    assert returned == 0, out
    assert json.loads(out) == {"user": 10001, "group": 10001, "pip": [], "written": ["/tmp"]}
    assert not [path for path in image.folder.glob("**/bin/pip*") if path.name != "pipeline"]
    assert image.config["Labels"]["org.opencontainers.image.title"] == f"llmlog-{name}".replace(
        "llmlog-consumer", "llmlog-pipeline"
    )


def test_they_run_together_and_every_event_is_one_document(images, stack, tmp_path):
    sys.path.insert(0, str(ROOT / "deploy/demo"))
    try:
        from traffic import KINDS, Expectation, send_all
    finally:
        sys.path.pop(0)
    services = Composition(images, stack, tmp_path)
    try:
        for _ in range(2):  # it may run again, and changes nothing then
            code, out = services.run("setup")
            assert code == 0, out
        for name in ("consumer-1", "consumer-2", "gateway", "console"):
            services.start(name)
        for name in ("consumer-1", "consumer-2", "gateway", "console"):
            services.wait_healthy(name)

        address = f"http://127.0.0.1:{services.port['gateway']}"
        headers = {"Authorization": f"Bearer {services.key}"}
        killed = []

        def kill_one(_answer):
            if not killed:
                killed.append(time.monotonic())
                services.started["consumer-2"].kill()

        answers = send_all(address, headers, kill_one)
        assert len(answers) == sum(kind.count for kind in KINDS) == 200
        found = httpx.get(f"{address}/v1/model/info", headers=headers, timeout=60).json()["data"]
        models = {one["model_name"]: one["litellm_params"]["model"] for one in found}
        expected = Expectation(answers, models)
        services.start("consumer-2")
        # Told to stop as an engine does, the gateway hands everything over to Kafka.
        assert services.started["gateway"].end(60) in {0, -15, 143}, services.log("gateway")

        url = stack.elasticsearch.url

        def documents():
            httpx.post(f"{url}/litellm-logs-*/_refresh", timeout=60)
            return httpx.get(f"{url}/litellm-logs/_count", timeout=60).json().get("count", 0)

        wait_until(lambda: documents() >= expected.events, 90, "every event is a document")
        assert documents() == expected.events
        body = {"size": 0, "aggs": {name: {"terms": {"field": name, "size": 100}}
                                    for name in ("model", "status")}}  # fmt: skip
        found = httpx.post(f"{url}/litellm-logs/_search", json=body, timeout=60).json()
        seen = {
            name: {one["key"]: one["doc_count"] for one in buckets["buckets"]}
            for name, buckets in found["aggregations"].items()
        }
        assert seen["status"]["failure"] == expected.failures
        assert seen["model"] == expected.models
        services.wait_healthy("consumer-2")
        for name in ("consumer-1", "consumer-2"):
            assert services.started[name].end(DRAIN_SECONDS) == 0, services.log(name)
        code, out = services.run("pipeline", "verify", "--json")
        assert code == 0, out
        assert expected.events == int(json.loads(out[out.index("{") :])["records"]), out
        code, out = services.run("pipeline", "status")
        assert code == 12, out  # stopped, and nothing waits
    finally:
        services.clean_up()
