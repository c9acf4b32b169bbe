"""Compose file and Dockerfiles name settings, commands, services, images and paths that exist."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from llmlog_common.settings import load
from llmlog_consumer.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "llmlog-pipeline"]
DOCKERFILES = sorted(ROOT.glob("deploy/*/Dockerfile"))
FILES = [ROOT / "docker-compose.yml", *DOCKERFILES]

services = pytest.mark.parametrize("name", SERVICES)
dockerfiles = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions, each with its arguments on one line."""
    code = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    lines = code.replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line)]


def parse(arguments: list[str]) -> None:
    """Parse a command line of `pipeline` as far as its options, without running it."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("pipeline", arguments)
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def without_host(image: str) -> bool:
    """Tell whether an image's name leaves the registry to the engine's default."""
    first, *more = image.split("/")
    return not more or not (set(".:") & set(first) or first == "localhost")


def test_there_is_something_to_check() -> None:
    assert {"setup", "consumer"} <= set(OURS)
    assert [path.parent.name for path in DOCKERFILES] == ["docker", "litellm"]


@services
def test_settings_are_known_and_valid(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(environ=SERVICES[name].get("environment", {}))
    if any(key.startswith("LLMLOG_") for key in SERVICES[name].get("environment", {})):
        # As seen from another container.
        assert settings.kafka_bootstrap_servers.split(":")[0] in SERVICES
        if name in OURS:
            assert settings.elasticsearch_url.split("/")[2].split(":")[0] in SERVICES


def test_no_setting_hides_outside_of_an_environment() -> None:
    named = {
        variable
        for path in FILES
        for variable in re.findall(r"LLMLOG_[A-Z0-9_]+", path.read_text())
    }
    assert named <= {key for service in SERVICES.values() for key in service["environment"]}


@pytest.mark.parametrize("name", [name for name in OURS if name != "pipeline"])
def test_commands_of_our_services_parse(name: str) -> None:
    parse(SERVICES[name]["command"])


def test_commands_in_comments_parse() -> None:
    found = [
        shlex.split(line)
        for path in FILES
        for line in re.findall(
            r"(?m)(?:^#\s+docker (?:compose )?run |`)[^`\n]*?\bpipeline ([^`\n]+)", path.read_text()
        )
    ]
    assert ["consume", "--workers", "2"] in found
    assert ["report"] in found
    for arguments in found:
        parse(arguments)


def test_a_wrong_command_would_be_seen() -> None:
    for wrong in (["consume", "--worker", "2"], ["dlq", "lst"], ["consume", "--workers", "none"]):
        with pytest.raises(Exception, match=r"No such|valid integer"):
            parse(wrong)


@services
def test_dependencies_exist_and_can_be_fulfilled(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        needed = SERVICES[other]
        if wanted["condition"] == "service_healthy":
            assert "healthcheck" in needed
        else:
            assert wanted["condition"] == "service_completed_successfully"
            assert "restart" not in needed, "it ends, and is not to come back"


@services
def test_images_are_named_without_a_host(name: str) -> None:
    image = SERVICES[name]["image"]
    assert without_host(image)
    assert "build" in SERVICES[name] or re.search(r":\d", image), "pinned, unless built here"


@services
def test_ports_are_open_on_this_machine_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)


@services
def test_mounted_and_built_paths_exist(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).is_file()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]
    if build := SERVICES[name].get("build"):
        assert (ROOT / build["context"] / build["dockerfile"]) in DOCKERFILES


def test_litellm_reads_the_mounted_configuration() -> None:
    litellm = SERVICES["litellm"]
    config = litellm["command"][litellm["command"].index("--config") + 1]
    assert [v.split(":")[1] for v in litellm["volumes"]] == [config]
    # Beside it LiteLLM would look for our module before it looks at the installed package.
    assert not (ROOT / "deploy/litellm/llmlog_producer").exists()


def test_no_secret_is_committed() -> None:
    assert SERVICES["litellm"]["environment"]["LITELLM_MASTER_KEY"].startswith(
        "${LITELLM_MASTER_KEY:?"
    )
    for path in FILES:
        assert not re.search(r"sk-[A-Za-z0-9]|(?i:password|api_key|token)\s*[:=]", path.read_text())


def test_servers_are_of_the_versions_that_tests_run_against() -> None:
    locks = {path.stem for path in (ROOT / "deploy/local/llmlog_local/locks").glob("*.toml")}
    for name, image in (("kafka", "kafka"), ("elasticsearch", "elasticsearch")):
        tag = SERVICES[name]["image"].rpartition(":")[2]
        assert f"{image}-{tag}" in locks
    assert (
        SERVICES["kibana"]["image"].split(":")[1]
        == (SERVICES["elasticsearch"]["image"].split(":")[1])
    )


@dockerfiles
def test_base_images_are_named_without_a_host(path: Path) -> None:
    stages: set[str] = set()
    for word, rest in instructions(path):
        if word == "ARG":
            name, _, image = rest.partition("=")
            assert name == "BASE"
            assert without_host(image)
            assert ":" in image
        if word == "FROM":
            image, *alias = rest.split()
            assert image == "${BASE}"
            stages |= set(alias[1:])
        for image in re.findall(r"from=([^,\s]+)", rest):
            assert image in stages or without_host(image)


@dockerfiles
def test_what_is_copied_exists_and_is_in_the_build_context(path: Path) -> None:
    kept = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for word, rest in instructions(path):
        if word == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert {source, source.split("/")[0]} & kept, source


def test_the_build_context_holds_all_that_is_packaged() -> None:
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    files = [project["project"]["readme"], *project["project"]["license-files"]]
    for source in (*(package.rpartition("/")[0] for package in packages), *files, "pyproject.toml"):
        assert f"!{source}" in kept
        copied = [rest for word, rest in instructions(DOCKERFILES[0]) if word == "COPY"]
        assert any(source in rest.split() for rest in copied)


def test_our_image_hands_signals_on_and_is_not_root() -> None:
    last = dict(instructions(ROOT / "deploy/docker/Dockerfile"))
    assert json.loads(last["ENTRYPOINT"]) == ["pipeline"]
    assert int(last["USER"].split(":")[0]) > 0


def test_the_images_requirements_are_those_that_tests_run_with() -> None:
    def pins(name: str) -> dict[str, str]:
        text = (ROOT / f"requirements/{name}.txt").read_text()
        return dict(re.findall(r"(?m)^([a-z0-9.-]+)==([^\s;]+)", text))

    tested = pins("dev")
    consumer, build = pins("consumer"), pins("build")
    assert consumer.items() <= tested.items()
    assert build.items() <= tested.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = (
        project["project"]["dependencies"]
        + (project["project"]["optional-dependencies"]["consumer"])
    )
    assert {re.match(r"[a-z0-9-]+", one)[0] for one in wanted} <= set(consumer)
    assert {re.match(r"[a-z0-9-]+", one)[0] for one in project["build-system"]["requires"]} <= set(
        build
    )
