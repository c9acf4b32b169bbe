"""Owns the table of what others wrote and the console serves: version, licence, checksum. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple


class Vendored(NamedTuple):
    """One file under `static/vendor`, byte for byte as its npm package has it.

    Attributes:
        package: on npm.
        version: of the package.
        path: of the file in the package.
        licence: by its SPDX name; the text lies beside the file.
        sha256: of the file.
    """

    package: str
    version: str
    path: str
    licence: str
    sha256: str


VENDORED: Final[dict[str, Vendored]] = {
    "htmx.min.js": Vendored(
        "htmx.org",
        "2.0.11",
        "dist/htmx.min.js",
        "0BSD",
        "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    ),
    "echarts.common.min.js": Vendored(
        "echarts",
        "6.1.0",
        "dist/echarts.common.min.js",
        "Apache-2.0",
        "61f13280aba3161f77fc801bf5f9c786f55f10432153a0683fc5cc0700b013d5",
    ),
}
