"""The compose file is valid, and names settings, commands, images, ports and paths that exist."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.test_images import IMAGES, stage_of, without_host
from llmlog_common.settings import load
from support.commands_in_files import parse

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
COMMANDS = [name for name in OURS if SERVICES[name]["build"]["target"] != "gateway"]
PROFILES = {"tools", "console", "kibana", "registry", "prometheus", "grafana"}

services = pytest.mark.parametrize("name", SERVICES)
ours = pytest.mark.parametrize("name", OURS)


def environment_of(name: str) -> dict[str, str]:
    """Return a service's variables; those that the shell may set are left out."""
    given = SERVICES[name].get("environment", {})
    return {key: value for key, value in given.items() if value is not None}


def test_there_is_something_to_check():
    assert set(OURS) == {"setup", "consumer", "gateway", "pipeline", "console"}


def test_it_is_a_compose_file():
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FILE],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")
def test_compose_itself_accepts_it_with_every_profile():
    profiles = [word for name in PROFILES for word in ("--profile", name)]
    done = subprocess.run(
        ["docker-compose", *profiles, "--file", FILE, "config", "--quiet"],
        env={"LITELLM_MASTER_KEY": "sk-test", "HOME": "/tmp", "PATH": "/usr/bin:/bin"},
        executable=shutil.which("docker-compose"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@services
def test_settings_are_known_and_valid(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variables = environment_of(name)
    settings = load(environ=variables)
    if any(key.startswith("LLMLOG_") for key in variables):
        # As seen from another container.
        assert settings.kafka_bootstrap_servers.split(":")[0] in SERVICES
        if name in COMMANDS:
            assert settings.elasticsearch_url.split("/")[2].split(":")[0] in SERVICES


def test_settings_that_the_shell_may_set_exist():
    for name in OURS:
        for key, value in SERVICES[name]["environment"].items():
            if value is None:
                load(environ={key: "http://registry:8080"})


@ours
def test_a_service_runs_as_its_image_says(name):
    service = SERVICES[name]
    target = service["build"]["target"]
    file, port, _ = IMAGES[target]
    assert service["build"]["dockerfile"] == f"deploy/images/{file}.Dockerfile"
    assert "user" not in service, "the image's user, which is not root"
    assert "entrypoint" not in service
    assert "healthcheck" not in service or service["healthcheck"] == {"disable": True}
    for published in service.get("ports", ()):
        assert published.endswith(f":{port}")
    last = dict(stage_of(target))
    if name in {"consumer", "gateway"}:
        assert service["command"] == json.loads(last["CMD"])


@ours
def test_a_service_of_ours_can_change_nothing_but_its_volumes(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "pipeline"])
def test_commands_of_our_services_parse(name):
    parse(SERVICES[name]["command"])


def test_commands_in_comments_parse():
    found = [
        shlex.split(line)
        for path in (FILE, *(ROOT / "deploy/images").glob("*"))
        for line in re.findall(
            r"(?m)(?:^#\s+docker (?:compose )?run |`)[^`\n]*?\bpipeline ([^`\n]+)", path.read_text()
        )
    ]
    assert ["consume", "--workers", "2"] in found
    assert ["status"] in found
    for arguments in found:
        parse(arguments)


def test_a_wrong_command_would_be_seen():
    for wrong in (["consume", "--worker", "2"], ["dlq", "lst"], ["consume", "--workers", "none"]):
        with pytest.raises(Exception, match=r"No such|valid integer"):
            parse(wrong)


@services
def test_dependencies_exist_and_can_be_fulfilled(name):
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        needed = SERVICES[other]
        profiles = set(needed.get("profiles", ()))
        assert not profiles or profiles >= set(SERVICES[name].get("profiles", ()))
        if wanted["condition"] == "service_healthy":
            assert "healthcheck" in needed
        else:
            assert wanted["condition"] == "service_completed_successfully"
            assert "restart" not in needed, "it ends, and is not to come back"


def test_whatever_writes_or_reads_events_waits_for_setup():
    for name in ("consumer", "gateway", "console"):
        assert "setup" in SERVICES[name]["depends_on"]
    assert set(SERVICES["setup"]["depends_on"]) == {"kafka", "elasticsearch"}


def test_profiles_are_those_of_the_documentation():
    used = {name for service in SERVICES.values() for name in service.get("profiles", ())}
    assert used == PROFILES
    page = (ROOT / "docs/compose.md").read_text()
    assert all(f"`{name}`" in page for name in used)


@services
def test_images_are_named_without_a_host(name):
    image = SERVICES[name]["image"]
    assert without_host(image)
    assert "build" in SERVICES[name] or re.search(r":v?\d", image), "pinned, unless built here"


@services
def test_ports_are_open_on_this_machine_alone(name):
    for port in SERVICES[name].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:(\d*):\d+", port)


def test_the_consumer_can_be_scaled():
    assert SERVICES["consumer"]["ports"] == ["127.0.0.1::9464"], "each replica needs its own port"
    assert "container_name" not in SERVICES["consumer"]
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = scraped["scrape_configs"]
    assert job["dns_sd_configs"][0]["names"] == ["consumer"]
    assert job["dns_sd_configs"][0]["port"] == IMAGES["consumer"][1]


@services
def test_mounted_and_built_paths_exist(name):
    for volume in SERVICES[name].get("volumes", ()):
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).is_file()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]


def test_litellm_reads_the_mounted_configuration():
    gateway = SERVICES["gateway"]
    config = gateway["command"][gateway["command"].index("--config") + 1]
    assert config in [volume.split(":")[1] for volume in gateway["volumes"]]
    # Beside it LiteLLM would look for our module before it looks at the installed package.
    assert not (ROOT / "deploy/litellm/llmlog_producer").exists()


def test_the_journal_outlives_the_container():
    folder = dict(re.findall(r"(LLMLOG_JOURNAL_DIR)=(\S+)", str(stage_of("gateway"))))
    mounted = [volume.split(":")[1] for volume in SERVICES["gateway"]["volumes"]]
    assert any(folder["LLMLOG_JOURNAL_DIR"].startswith(path) for path in mounted)


def test_no_secret_is_committed_and_none_has_a_default():
    key = SERVICES["gateway"]["environment"]["LITELLM_MASTER_KEY"]
    assert key.startswith("${LITELLM_MASTER_KEY:?")
    assert not re.search(r"sk-[A-Za-z0-9]|(?i:password|api_key)\s*[:=]\s*\S{8}", FILE.read_text())
    grafana = SERVICES["grafana"]["environment"]
    assert grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert (ROOT / ".gitignore").read_text().splitlines().count("console-tokens") == 1
    assert COMPOSE["secrets"] == {"console-tokens": {"file": "./console-tokens"}}


def test_servers_are_of_the_versions_that_tests_run_against():
    locks = {path.stem for path in (ROOT / "deploy/local/llmlog_local/locks").glob("*.toml")}
    for name, image in (("kafka", "kafka"), ("elasticsearch", "elasticsearch")):
        tag = SERVICES[name]["image"].rpartition(":")[2]
        assert f"{image}-{tag}" in locks
    assert (
        SERVICES["kibana"]["image"].split(":")[1]
        == (SERVICES["elasticsearch"]["image"].split(":")[1])
    )


def test_grafana_asks_the_prometheus_of_the_file():
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasource.yaml").read_text())[
        "datasources"
    ]
    host, port = source["url"].removeprefix("http://").split(":")
    assert SERVICES[host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    folder = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards.yaml").read_text())
    path = folder["providers"][0]["options"]["path"]
    assert any(f":{path}/" in volume for volume in SERVICES["grafana"]["volumes"])
