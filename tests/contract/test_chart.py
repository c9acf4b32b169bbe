"""The Helm chart renders valid objects for each variant, with settings and commands that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from contract.test_images import IMAGES
from llmlog_common.settings import describe, load
from support.chart import (
    CHART,
    HELM,
    ROOT,
    VARIANTS,
    find,
    pod_of,
    render,
    run_helm,
    run_template,
    variables_of,
)
from support.commands_in_files import parse

VERSIONS = ("1.27", "1.37")
"""The oldest that the chart allows, and the newest that the validator knows."""
WORKLOADS = ("Deployment", "StatefulSet", "Job")
CUSTOM = {"ScaledObject", "PodMonitor", "PrometheusRule"}
EXAMPLES = ROOT / "deploy/helm/examples"

pytestmark = pytest.mark.skipif(not HELM, reason="helm is not installed")
variants = pytest.mark.parametrize("variant", VARIANTS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def rendered():
    """The objects of each variant, by its name."""
    return {path.stem: render(path) for path in VARIANTS}


def workloads(objects):
    return [one for one in objects if one["kind"] in WORKLOADS]


def test_each_object_is_in_a_variant(rendered):
    kinds = {one["kind"] for objects in rendered.values() for one in objects}
    assert kinds == CUSTOM | {
        *WORKLOADS, "ConfigMap", "Ingress", "NetworkPolicy", "PodDisruptionBudget", "Service",
    }  # fmt: skip


@variants
def test_helm_finds_nothing_to_complain_of(variant):
    done = run_helm(
        "lint", "--strict", "--quiet", "--kube-version", "1.30.0", CHART, "--values", variant
    )
    assert done.returncode == 0, done.stdout + done.stderr


@variants
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_each_object(rendered, variant, version):
    for one in rendered[variant.stem]:
        if one["kind"] not in CUSTOM:
            kubernetes_validate.validate(one, version, strict=True)


@variants
def test_what_a_pod_may_do_is_the_least(rendered, variant):
    for workload in workloads(rendered[variant.stem]):
        pod = pod_of(workload)
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            volumes = {volume["name"] for volume in pod["volumes"]}
            claimed = workload["spec"].get("volumeClaimTemplates", ())
            assert mounted <= volumes | {claim["metadata"]["name"] for claim in claimed}


@variants
def test_variables_are_settings_and_each_file_is_mounted(rendered, variant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for workload in workloads(rendered[variant.stem]):
        pod = pod_of(workload)
        for container in pod["containers"]:
            variables = variables_of(container)
            files = {name: path for name, path in variables.items() if name.endswith("_FILE")}
            for name in files:
                secret = tmp_path / name
                secret.write_text("a-secret-of-a-test")
                variables[name] = str(secret)
            load(environ=variables)
            sources = [
                item["path"]
                for volume in pod["volumes"]
                for source in volume.get("projected", {}).get("sources", ())
                for item in source["secret"]["items"]
            ]
            assert sorted(path.removeprefix("/run/llmlog/") for path in files.values()) == sorted(
                sources if container["name"] != "login" else ()
            )


@variants
def test_commands_ports_and_probes_are_those_of_the_images(rendered, variant):
    for workload in workloads(rendered[variant.stem]):
        for container in pod_of(workload)["containers"]:
            if container["image"].startswith(("llmlog-pipeline", "llmlog-console")):
                parse(container["args"])
            if container["name"] in {"consumer", "gateway"}:
                _, port, path = IMAGES[container["name"]]
                assert [one["containerPort"] for one in container["ports"]] == [port]
                assert container["readinessProbe"]["httpGet"]["path"] == path
                # A restart mends no server that is waited for.
                assert container["livenessProbe"]["httpGet"]["path"] != path


def test_a_pod_ends_after_its_drain(rendered):
    from llmlog_consumer.worker.task import Task

    drain = Task.__dataclass_fields__["drain_seconds"].default
    for objects in rendered.values():
        grace = pod_of(find(objects, "Deployment", "consumer"))["terminationGracePeriodSeconds"]
        assert grace >= 2 * drain


def test_setup_runs_once_before_anything_else_with_rights_of_its_own(rendered):
    job = find(rendered["secured"], "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = pod_of(job)
    assert pod["restartPolicy"] == "Never"
    assert pod["containers"][0]["args"] == ["setup"]
    assert variables_of(pod["containers"][0])["LLMLOG_KAFKA_SASL_USERNAME"] == "llmlog-setup"
    names = [s["secret"]["name"] for s in pod["volumes"][1]["projected"]["sources"]]
    assert set(names) == {"llmlog-setup"}


def test_scaling_is_by_the_lag_of_the_group_and_bounded_by_partitions(rendered):
    scaled = find(rendered["scaled"], "ScaledObject")["spec"]
    (trigger,) = scaled["triggers"]
    consumer = find(rendered["scaled"], "Deployment", "consumer")
    assert scaled["scaleTargetRef"]["name"] == consumer["metadata"]["name"]
    assert "replicas" not in consumer["spec"], "KEDA's, and not the chart's"
    defaults = {name: field.default for name, field in describe().items()}
    assert trigger["type"] == "kafka"
    assert trigger["metadata"]["consumerGroup"] == defaults["group"]
    assert trigger["metadata"]["topic"] == defaults["topic"]
    more = run_template("--values", EXAMPLES / "scaled.yaml", "--set", "autoscaling.maxReplicas=13")
    assert more.returncode != 0
    assert "idle" in more.stderr


def test_the_alerts_are_those_of_the_repository(rendered):
    rule = find(rendered["scaled"], "PrometheusRule")["spec"]
    ours = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    for group in ours["groups"]:
        for alert in group["rules"]:
            if url := alert.get("annotations", {}).get("runbook_url"):
                alert["annotations"]["runbook_url"] = f"https://git.example.org/llmlog/{url}"
    assert rule == ours


def test_the_console_is_reached_by_its_login_alone(rendered):
    objects = rendered["console"]
    pod = pod_of(find(objects, "Deployment", "console"))
    console, login = pod["containers"]
    assert "ports" not in console
    assert "--socket=/run/console/console.sock" in console["args"]
    assert "--upstream=unix:///run/console/console.sock" in login["args"]
    target = find(objects, "Service", "console")["spec"]["ports"][0]["targetPort"]
    assert [one["name"] for one in login["ports"]] == [target]
    assert find(objects, "Ingress")["spec"]["rules"][0]["host"] == "llmlog.example.org"


def test_the_gateway_keeps_its_journal_on_a_volume(rendered):
    gateway = find(rendered["gateway"], "StatefulSet")
    (container,) = pod_of(gateway)["containers"]
    folder = variables_of(container)["LLMLOG_JOURNAL_DIR"]
    paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert folder.startswith(paths["journal"])
    config = yaml.safe_load(find(rendered["gateway"], "ConfigMap")["data"]["config.yaml"])
    assert config["litellm_settings"]["callbacks"] == ["llmlog_producer.callback.handler"]
    assert not {name for name in variables_of(container) if "ELASTICSEARCH" in name}


@pytest.mark.parametrize(
    "wrong",
    [
        "consumer.replica=3",
        "consumer.workers=0",
        "settings.elasticsearch_api_key=abc",
        "settings.kafka_sasl_password=abc",
        "console.grants.team=admin",
        "image.consumer.digest=latest",
        "secretSettings.elasticsearch_api_key.secret=a",
    ],
)
def test_wrong_values_are_refused(wrong):
    done = run_template("--values", VARIANTS[0], "--set", wrong)
    assert done.returncode != 0
    assert "schema" in done.stderr


def test_values_without_servers_are_refused():
    done = run_template()
    assert done.returncode != 0
    assert "kafka_bootstrap_servers" in done.stderr


def test_each_value_is_in_the_schema_with_its_default():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(values) | {"global"} == set(schema["properties"])
    for name, value in values.items():
        known = schema["properties"][name].get("properties", {})
        if schema["properties"][name].get("additionalProperties") is False:
            assert set(value) == set(known), name


def test_images_are_of_the_version_of_the_chart():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    project = re.search(r'(?m)^version = "(.*)"', (ROOT / "pyproject.toml").read_text())[1]
    assert {chart["version"], chart["appVersion"]} == {project}
    for name in ("consumer", "console", "gateway"):
        assert values["image"][name]["tag"] == project


def test_there_is_no_secret_in_the_chart():
    for path in (*CHART.rglob("*.yaml"), *EXAMPLES.glob("*.yaml")):
        assert not re.search(r"sk-[A-Za-z0-9]{8}", Path(path).read_text())
