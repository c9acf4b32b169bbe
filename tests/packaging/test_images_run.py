"""The images of the compose file, built and unpacked: what they weigh, and what they may do.

`make images` runs this, with `IMAGE_BASE` as the name of a base that buildah has.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from support.image_run import Builder, missing_tools

ROOT = Path(__file__).resolve().parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
MAX_MEGABYTES = {"consumer": 180, "console": 180, "callback": 40}

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
