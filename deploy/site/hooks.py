"""What the site does with links that leave docs/: to this repository where its address is known.

`SITE_REPOSITORY` is that address, as far as the path of a file: `https://…/blob/main/`. Without it,
such a link is its text alone. CONTRIBUTING.md and CHANGELOG.md are pages of the site as well.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\.\./([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the root's pages."""
    for name, page in ROOT_PAGES.items():
        text = (ROOT / name).read_text().replace("](docs/", "](")
        for other, its_page in ROOT_PAGES.items():
            text = text.replace(f"]({other}", f"]({its_page}")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links out of docs/ to where they can be followed."""
    return _LINK.sub(_replace, markdown)


def _replace(found: re.Match[str]) -> str:
    text, path, anchor = found[1], found[2], found[3] or ""
    if path in ROOT_PAGES:
        return f"[{text}]({ROOT_PAGES[path]}{anchor})"
    if repository := os.environ.get("SITE_REPOSITORY"):
        return f"[{text}]({repository.rstrip('/')}/{path})"
    return text
