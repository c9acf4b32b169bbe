"""The wheel that people install: what is in it, and how it behaves beside LiteLLM alone."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from acceptance.gateway.proxy import ROOT, VERSIONS, offline, python_of
from support.pipeline import SLOW, base_environment

PACKAGES = {"llmlog_producer", "llmlog_consumer", "llmlog_schemas", "llmlog_common", "llmlog_local"}

REGISTER = """
import importlib.util
import json

import litellm
from litellm.integrations.custom_logger import CustomLogger

import llmlog_producer.callback
from llmlog_producer.callback import LLMLogHandler, handler

litellm.callbacks = [handler]
print(json.dumps({
    "from": llmlog_producer.callback.__file__,
    "registered": isinstance(handler, CustomLogger) and isinstance(handler, LLMLogHandler),
    "importable": [
        name for name in ("elasticsearch", "typer") if importlib.util.find_spec(name) is not None
    ],
    "stats": handler.stats(),
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    _pip(sys.executable, "wheel", ROOT, "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module", params=VERSIONS)
def gateway(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """LiteLLM's interpreter, and the folder before all others on its path with the wheel in it."""
    python = python_of(request.param)
    target = tmp_path_factory.mktemp("installed")
    _pip(python, "install", "--no-deps", "--no-index", "--target", target, wheel)
    return python, target


def _pip(python: Path | str, *arguments: Path | str) -> None:
    subprocess.run(
        [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        check=True, capture_output=True, timeout=120 * SLOW,
    )  # fmt: skip


def _run(
    gateway: tuple[Path, Path], folder: Path, *arguments: Path | str
) -> subprocess.CompletedProcess[str]:
    python, target = gateway
    return subprocess.run(
        [python, *arguments],
        env=offline(base_environment({"PYTHONPATH": str(target)})), cwd=folder, text=True,
        capture_output=True, timeout=60 * SLOW, check=False,
    )  # fmt: skip


def test_it_holds_the_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(n).decode() for n in names if n.endswith("/METADATA"))
    folders = {name.split("/")[0] for name in names}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == PACKAGES
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {
        "llmlog_schemas/avro/llm_event.v1.avsc",
        "llmlog_schemas/avro/llm_event.v2.avsc",
        "llmlog_schemas/elasticsearch/index_template.json",
        "llmlog_schemas/elasticsearch/lifecycle_policy.json",
        "llmlog_consumer/console/templates/base.html",
        "llmlog_consumer/console/static/console.js",
        "llmlog_consumer/console/static/vendor/echarts.common.min.js",
        "llmlog_consumer/console/static/vendor/echarts.LICENSE",
    } <= names
    locks = ROOT / "deploy/local/llmlog_local/locks"
    assert {f"llmlog_local/locks/{lock.name}" for lock in locks.iterdir()} <= names
    assert not [name for name in names if "test_" in name or name.endswith(".pyc")]
    base = [
        line.removeprefix("Requires-Dist: ")
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    ]
    assert {line.split(">")[0] for line in base} == {
        "confluent-kafka", "fastavro", "orjson", "pydantic-settings",
    }  # fmt: skip


def test_it_registers_beside_litellm_without_the_consumers_libraries(
    gateway: tuple[Path, Path], tmp_path: Path
) -> None:
    done = _run(gateway, tmp_path, "-c", REGISTER)
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout)
    assert Path(output["from"]).is_relative_to(gateway[1])
    assert output["registered"] is True
    assert output["importable"] == []
    assert set(output["stats"].values()) == {0}


def test_the_command_says_what_to_install(gateway: tuple[Path, Path], tmp_path: Path) -> None:
    for arguments in ((), ("--help",), ("consume", "--workers", "2")):
        done = _run(gateway, tmp_path, gateway[1] / "bin/pipeline", *arguments)
        assert done.returncode == 2
        assert not done.stdout
        (line,) = done.stderr.splitlines()
        assert "install the wheel with its extra, `[consumer]`" in line
