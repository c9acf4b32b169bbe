"""Builds images with buildah and runs them without a container engine: chroot in namespaces.

What an engine would do is done by `unshare` and mounts: the image's own user, environment, command
and health check, a root that is read-only, a `/tmp` in memory, no capability, processes of their
own. The network is the machine's: ports are given by the test, because two containers would have
the same.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("buildah", "unshare", "setpriv")

# The root is made read-only last: mounts need their places in it. A user that is not root and may
# gain nothing has no capability.
_ENTER = """
set -e
root=$1; shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
while [ "$1" != -- ]; do
    source=$1 target=$2 mode=$3; shift 3
    mount --bind "$source" "$root$target"
    [ "$mode" = rw ] || mount -o remount,bind,ro "$root$target"
done
shift
mount -o remount,bind,ro "$root"
exec chroot --userspec="$LLMLOG_TEST_USER" --groups= "$root" "$@"
"""


def missing_tools() -> str:
    """Return what this machine lacks to build and run images; empty where it lacks nothing."""
    lacking = [tool for tool in TOOLS if not shutil.which(tool)]
    if os.geteuid():
        lacking.append("root")
    if not os.environ.get("IMAGE_BASE"):
        lacking.append("IMAGE_BASE, the name of a base image with Python")
    return ", ".join(lacking)


@dataclass(frozen=True)
class Builder:
    """buildah, with the storage that its environment names (`STORAGE_ROOT`)."""

    base: str

    def ask(self, *arguments: str | Path) -> str:
        """Return what a command of buildah prints."""
        places = ["--storage-driver", "vfs"]
        for option, variable in (("--root", "STORAGE_ROOT"), ("--runroot", "STORAGE_RUN")):
            if os.environ.get(variable):
                places += [option, os.environ[variable]]
        done = subprocess.run(
            ["buildah", *places, *arguments], cwd=ROOT, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, f"buildah {arguments}\n{done.stdout[-2000:]}{done.stderr}"
        return done.stdout

    def build(self, service: dict[str, Any]) -> Image:
        """Build the image of a service of the compose file, and unpack it.

        With `IMAGES_BUILT` one of its name is taken as it is.
        """
        build, name = service["build"], f"localhost/{service['image']}"
        mounts = [
            word
            for path in ("/etc/ssl/certs", "/etc/pip.conf")
            if Path(path).exists()
            for word in ("--volume", f"{path}:{path}:ro")
        ]
        bud = (
            "bud", "--isolation", "chroot", "--network", "host", "--format", "docker",
            *mounts, "--build-arg", f"BASE={self.base}",
            "--build-arg", f"LITELLM_IMAGE={self.base}",
            "--file", build["dockerfile"], "--target", build["target"], "--tag", name,
            build["context"],
        )  # fmt: skip
        if not os.environ.get("IMAGES_BUILT"):
            self.ask(*bud)
        container = self.ask("from", "--pull-never", name).strip()
        folder = Path(self.ask("mount", container).strip())
        config = json.loads(self.ask("inspect", "--type", "image", name))["Docker"]["config"]
        return Image(container, folder, config, self)


@dataclass(frozen=True)
class Image:
    """One that was built and unpacked.

    Attributes:
        container: buildah's name of the unpacked one.
        folder: its root.
        config: `User`, `Env`, `Entrypoint`, `Cmd`, `Healthcheck`, `Labels`, `ExposedPorts`.
        builder: that made it.
    """

    container: str
    folder: Path
    config: dict[str, Any]
    builder: Builder

    def remove(self) -> None:
        """Delete what was unpacked; the image and its layers stay."""
        self.builder.ask("rm", self.container)

    def start(
        self,
        arguments: list[str],
        variables: dict[str, str],
        mounts: list[tuple[Path, str, str]] | None = None,
        log: Path | None = None,
    ) -> Container:
        """Start its entry point with these arguments."""
        command = [*self.config["Entrypoint"], *arguments]
        return Container(self._popen(command, variables, mounts or [], log))

    def run(self, command: list[str], variables: dict[str, str] | None = None):
        """Run any command in it, as its user, to the end."""
        process = self._popen(command, variables or {}, [], None)
        out, _ = process.communicate(timeout=300)
        return process.returncode, out

    def _popen(self, command, variables, mounts, log):
        words: list[str | Path] = []
        for source, target, mode in mounts:
            place = self.folder / target.removeprefix("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                place.mkdir(exist_ok=True)
            else:
                place.touch()
            words += [source, target, mode]
        environment = dict(entry.split("=", 1) for entry in self.config["Env"]) | variables
        # `env` clears what the machine has: the container sees the image's variables and ours.
        given = [f"{name}={value}" for name, value in environment.items()]
        with log.open("a") if log else nullcontext(subprocess.PIPE) as output:
            return self._launch(words, given, command, output)

    def _launch(self, words, given, command, output):
        return subprocess.Popen(
            [
                "unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child",
                "--propagation", "private",
                "setpriv", "--no-new-privs", "sh", "-c", _ENTER, "sh", self.folder, *words, "--",
                "env", "-i", *given, "sh", "-c",
                'cd "$1"; shift; exec "$@"', "sh", self.config["WorkingDir"] or "/", *command,
            ],
            env={"PATH": os.environ["PATH"], "LLMLOG_TEST_USER": self.config["User"]},
            stdout=output, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip


@dataclass(frozen=True)
class Container:
    """One that runs: a tree of processes below `unshare`."""

    process: subprocess.Popen[str]

    def first(self) -> psutil.Process | None:
        """Return the process that an engine would send signals to."""
        children = psutil.Process(self.process.pid).children()
        return children[0] if children else None

    def end(self, timeout: float) -> int:
        """Ask it to stop, as an engine does; return its exit code."""
        if (first := self.first()) is not None:
            first.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End it and all its processes at once."""
        if self.process.poll() is None:
            if (first := self.first()) is not None:
                first.kill()
            self.process.wait(30)
