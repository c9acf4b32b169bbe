"""The documentation's first page, typed as it stands: it ends with a document that is found."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from support.pipeline import PIPELINE, SLOW

ROOT = Path(__file__).resolve().parents[2]
OTHERS = ("make install", 'eval "$(pipeline local up)"', "pipeline local down")
"""What installs this test, and the stack of `tests/acceptance/test_local_up.py`."""


def test_a_person_who_follows_the_page_finds_a_document(bare_pipeline):
    page = (ROOT / "docs/index.md").read_text()
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```", page)
    lines = "".join(blocks).splitlines()
    assert all(any(line.startswith(one) for line in lines) for one in OTHERS)
    script = "\n".join(line for line in lines if not line.startswith(OTHERS))
    # The shared servers hold other tests' documents: this one has names of its own.
    script = script.replace("/litellm-logs/", f"/{bare_pipeline.index}/")
    path = f"{Path(PIPELINE).parent}:{bare_pipeline.environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=bare_pipeline.folder,
        env=bare_pipeline.environment | {"PATH": path}, capture_output=True, text=True,
        timeout=60 * SLOW, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"content":"Where do logs go?"' in done.stdout
    assert "OK: nothing lost, nothing doubled" in done.stdout
