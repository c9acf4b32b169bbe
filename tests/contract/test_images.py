"""Dockerfiles name paths that exist, leave the registry open, and keep what the images promise."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from llmlog_common.settings import describe
from support.commands_in_files import parse

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "deploy/images").glob("*.Dockerfile"))
IMAGES = {
    "consumer": ("pipeline", 9464, "/readyz"),
    "console": ("pipeline", 8765, "/login"),
    "gateway": ("gateway", 4000, "/health/readiness"),
}
"""By stage: file, port, path that its health check asks."""

dockerfiles = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
images = pytest.mark.parametrize("stage", IMAGES)


def without_host(image: str) -> bool:
    """Tell whether an image's name leaves the registry to the engine's default."""
    first, *more = image.split("/")
    return not more or not (set(".:") & set(first) or first == "localhost")


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions, each with its arguments on one line."""
    code = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    lines = code.replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line)]


def stage_of(stage: str) -> list[tuple[str, str]]:
    """Return the instructions of an image's last stage, with those of the stage it begins from."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for word, rest in instructions(ROOT / f"deploy/images/{IMAGES[stage][0]}.Dockerfile"):
        if word == "FROM":
            parent, _, name = rest.partition(" AS ")
            found[name] = list(found.get(parent, ()))
        elif name:
            found[name].append((word, rest))
    return found[stage]


def test_there_is_something_to_check():
    assert [path.stem for path in DOCKERFILES] == ["gateway", "pipeline"]


@dockerfiles
@pytest.mark.skipif(sys.platform != "linux", reason="hadolint comes for Linux alone")
def test_hadolint_finds_nothing(path):
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "make install"
    done = subprocess.run([hadolint, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@dockerfiles
def test_bases_are_pinned_by_an_argument_and_named_without_a_host(path):
    stages: set[str] = set()
    for word, rest in instructions(path):
        if word == "ARG":
            name, _, image = rest.partition("=")
            assert name in {"BASE", "LITELLM_IMAGE"}
            assert without_host(image)
            assert re.search(r":\d+\.\d+\.\d+-" if name == "BASE" else ":", image)
        if word == "FROM":
            image, *alias = rest.split()
            assert image in {"${BASE}", "${LITELLM_IMAGE}", *stages}
            stages |= set(alias[1:])
        for image in re.findall(r"--from=(\S+)", rest):
            assert image in stages


@dockerfiles
def test_what_is_copied_exists_and_is_in_the_build_context(path):
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


@dockerfiles
def test_the_build_context_holds_all_that_is_packaged(path):
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    files = [project["project"]["readme"], *project["project"]["license-files"]]
    for source in (*(package.rpartition("/")[0] for package in packages), *files, "pyproject.toml"):
        assert f"!{source}" in kept
        copied = [rest for word, rest in instructions(path) if word == "COPY"]
        assert any(source in rest.split() for rest in copied)


@dockerfiles
def test_each_package_is_installed_by_its_hash_or_was_built_here(path):
    for word, rest in instructions(path):
        if word == "RUN":
            for step in rest.split("&&"):
                if "pip" in step and " install " in step:
                    assert "--no-deps" in step
                    assert "--require-hashes" in step or "--no-index" in step


@images
def test_an_image_is_not_root_has_no_pip_and_says_what_it_is(stage):
    steps = stage_of(stage)
    last = dict(steps)
    assert int(last["USER"].split(":")[0]) > 0
    text = " ".join(rest for _, rest in steps)
    assert "org.opencontainers.image.title" in text
    assert "rm -rf /usr/local/bin/pip*" in text
    assert "/etc/llmlog/ca" in text
    brought = [rest for word, rest in steps if word == "COPY"]
    assert brought
    assert all("--from=" in rest for rest in brought), "what is built is brought from other stages"


@images
def test_health_is_asked_at_the_port_that_the_image_exposes(stage):
    _, port, path = IMAGES[stage]
    last = dict(stage_of(stage))
    assert last["EXPOSE"] == str(port)
    assert f"'http://127.0.0.1:{port}{path}'" in last["HEALTHCHECK"]


@pytest.mark.parametrize("stage", ["consumer", "console"])
def test_an_image_starts_a_command_of_pipeline_without_a_shell(stage):
    last = dict(stage_of(stage))
    assert json.loads(last["ENTRYPOINT"]) == ["pipeline"]
    parse(json.loads(last["CMD"]))


@dockerfiles
def test_settings_in_an_image_exist(path):
    for name in re.findall(r"LLMLOG_([A-Z0-9_]+)=", path.read_text()):
        assert name.lower() in describe()


def pins(name: str) -> dict[str, str]:
    text = (ROOT / f"requirements/{name}.txt").read_text()
    return dict(re.findall(r"(?m)^([a-z0-9.-]+)==([^\s;]+)", text))


@pytest.mark.parametrize(
    ("name", "extras"),
    [("consumer", ("consumer", "registry")), ("console", ("console", "registry"))],
)
def test_the_images_requirements_are_those_that_tests_run_with(name, extras):
    tested = pins("dev")
    assert pins(name).items() <= tested.items()
    assert pins("build").items() <= tested.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"]]
    for extra in extras:
        wanted += project["project"]["optional-dependencies"][extra]
    names = {re.match(r"[a-z0-9-]+", one)[0] for one in wanted} - {"llmlog-pipeline"}
    assert names <= set(pins(name))


def test_the_gateways_requirements_are_those_that_its_tests_run_with():
    newest = (ROOT / "Makefile").read_text().split("LITELLM_VERSIONS := ")[1].split("\n")[0].split()
    tested = pins(f"litellm-{newest[-1]}")
    ours, litellm = pins("image-gateway"), pins("image-litellm")
    assert litellm.items() <= tested.items()
    assert {name: tested[name] for name in ours if name in tested}.items() <= ours.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for one in project["project"]["dependencies"]:
        assert re.match(r"[a-z0-9-]+", one)[0] in {*ours, *litellm}


def test_no_secret_is_in_a_dockerfile():
    for path in DOCKERFILES:
        assert not re.search(r"sk-[A-Za-z0-9]|(?i:password|api_key)\s*[:=]", path.read_text())
