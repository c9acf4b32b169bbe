"""What a rendered chart runs, as processes: commands, variables, files and probes; real servers.

The variant is `deploy/helm/examples/secured.yaml` with the addresses and users of a stack that asks
who one is. A process has its container's variables and no others, and files where the chart mounts
them; paths and the port are moved to where a test may write and listen.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager

import httpx
import orjson
import pytest
import yaml

from llmlog_local.ports import free_ports
from support.chart import HELM, ROOT, find, pod_of, render, variables_of
from support.payloads import payload
from support.pipeline import PIPELINE, SLOW, Pipeline, base_environment, wait_until
from support.secure import NAMES, secure_servers

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not HELM, reason="helm is not installed"),
]

EVENTS = 20
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
OF_THE_MACHINE = ("PATH", "PYTHONPATH")
CA = "/etc/llmlog/ca"
SECRETS = "/run/llmlog"


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with secure_servers(tmp_path_factory.mktemp("secure")) as running:
        yield running


def values_of(servers):
    """The example's values, with what is this stack's: addresses, names, users, a password."""
    values = yaml.safe_load((ROOT / "deploy/helm/examples/secured.yaml").read_text())
    values["settings"] |= {
        **{name.removeprefix("LLMLOG_").lower(): value for name, value in NAMES.items()},
        "partitions": 3,
        "kafka_bootstrap_servers": servers.kafka.bootstrap_servers,
        "kafka_sasl_username": "worker",
        "elasticsearch_url": servers.elasticsearch.url,
        "elasticsearch_username": "worker",
    }
    values["setup"]["settings"] = {
        "kafka_sasl_username": "setup",
        "elasticsearch_username": "setup",
    }
    # This Elasticsearch makes no API keys.
    for part in (values, values["setup"]):
        key = part["secretSettings"].pop("elasticsearch_api_key")
        part["secretSettings"]["elasticsearch_password"] = key
    return values


class Cluster:
    """Runs containers of a rendered chart as a kubelet would, as far as processes can."""

    def __init__(self, folder, secrets, certificates):
        self._folder, self._secrets, self._certificates = folder, secrets, certificates
        (self.port,) = free_ports(1)
        self.log_file = folder / "log"

    def _mount(self, pod, name):
        """Write the files of a pod's Secrets and ConfigMap; return where each folder is."""
        root = self._folder / name
        folders = {SECRETS: root / "secrets", CA: root / "ca"}
        for folder in folders.values():
            folder.mkdir(parents=True)
        for volume in pod["volumes"]:
            for source in volume.get("projected", {}).get("sources", ()):
                secret = source["secret"]
                for item in secret["items"]:
                    value = self._secrets[secret["name"]][item["key"]]
                    (folders[SECRETS] / item["path"]).write_text(value + "\n")
            if volume["name"] == "ca":
                for file in ("kafka.pem", "elasticsearch.pem"):
                    (folders[CA] / file).write_text(self._certificates)
        return folders

    def start(self, pod):
        """Start the pod's one container."""
        (container,) = pod["containers"]
        folders = self._mount(pod, container["name"])
        moved = {there: str(here) for there, here in folders.items()} | {"9464": str(self.port)}
        variables = {name: os.environ[name] for name in OF_THE_MACHINE if name in os.environ}
        variables |= variables_of(container)
        for name in variables_of(container):
            for there, here in moved.items():
                variables[name] = variables[name].replace(there, here)
        with self.log_file.open("a") as log:
            return subprocess.Popen(
                [PIPELINE, *container["args"]], env=variables, cwd=self._folder,
                start_new_session=True, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @contextmanager
    def running(self, pod):
        """Run the pod for the length of the block."""
        process = self.start(pod)
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def passes(self, probe):
        """Tell whether a probe passes, as the kubelet would ask it."""
        address = f"http://127.0.0.1:{self.port}{probe['httpGet']['path']}"
        try:
            return httpx.get(address, timeout=probe.get("timeoutSeconds", 1)).is_success
        except httpx.TransportError:
            return False


def test_a_rendered_chart_sets_up_consumes_and_drains(servers, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(values_of(servers)))
    objects = render(values)
    # What the cluster's owner has made: a Secret for each login.
    secrets = {
        f"llmlog-{user}": {
            "kafka-password": servers.security.password(user),
            "elasticsearch-api-key": servers.security.password(user),
        }
        for user in ("worker", "setup")
    }
    cluster = Cluster(tmp_path, secrets, servers.authority.ca_file.read_text())
    pipeline = Pipeline(base_environment({}), tmp_path, servers.elasticsearch.url, *NAMES.values())

    def run_as(user, *arguments, **options):
        pipeline.environment = base_environment(servers.environment(user))
        return pipeline.run(*arguments, **options)

    job = find(objects, "Job")
    with cluster.running(pod_of(job)) as setup:
        code = setup.wait(job["spec"]["activeDeadlineSeconds"])
        assert code == 0, cluster.log_file.read_text()

    pod = pod_of(find(objects, "Deployment", "consumer"))
    (container,) = pod["containers"]
    with cluster.running(pod) as consumer:
        start = container["startupProbe"]
        seconds = start["periodSeconds"] * start["failureThreshold"]
        wait_until(lambda: cluster.passes(start), seconds / SLOW, "it has started in time")
        for name in PROBES:
            wait_until(lambda name=name: cluster.passes(container[name]), 30, name)
        lines = [orjson.dumps(payload(number)) for number in range(EVENTS)]
        run_as("gateway", "produce", "-", input=b"\n".join(lines).decode())

        def documents():
            return json.loads(run_as("reader", "verify", "--json", check=False).stdout)["documents"]

        wait_until(lambda: documents() == EVENTS, 30, "every event is a document")
        consumer.send_signal(signal.SIGTERM)
        code = consumer.wait(pod["terminationGracePeriodSeconds"])
        assert code == 0, cluster.log_file.read_text()
    # Stopped, and nothing waits.
    assert run_as("reader", "status", check=False).returncode == 12
