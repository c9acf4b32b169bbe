"""Each command that a page tells people to type is run by a test, or says that it is not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from support.commands_in_files import parse

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MARK = "<!-- not run here: "
RUN_BY = {
    r"make (demo|test|install|lint|litellm)\b": "Makefile",
    r"make (faults|faults-gateway|secure|soak|bench|mutants|coverage|screenshots)\b": "Makefile",
    r"make (images|site|lock|docs|release)\b": "Makefile",
    r"(\S*/)?python -m pytest\b": "tests/conftest.py",
    r"\. \.venv/bin/activate": "Makefile",
    r"pip wheel --no-deps --wheel-dir dist \.": "tests/packaging/test_wheel.py",
    r"pip install (\"\$\(ls )?dist/llmlog_pipeline-\*\.whl": "tests/packaging/test_wheel.py",
    r"python -m llmlog_producer (check|journal)": "tests/acceptance/test_gateway_journal.py",
    r"python tests/support/\w+\.py": "tests/contract/test_fields_page.py",
    r"PYTHONPATH=tests python -m benchmarks\.": "tests/benchmarks/run.py",
    r"eval \"\$\(pipeline local (up|env)|pipeline local ": "tests/acceptance/test_local_up.py",
    r"export LLMLOG_|LLMLOG_\w+=|export LITELLM_MASTER_KEY": "tests/contract/test_docs.py",
    r"curl .*(_search|/readyz|_component_template)": "tests/acceptance/test_consume.py",
    r"printf 'ada ": "tests/acceptance/console/test_console.py",
    r"sh deploy/release/": "tests/packaging/test_release.py",
    r"promtool test rules": "tests/contract/test_alerts.py",
    r"cat > payloads\.ndjson": "tests/acceptance/test_consume.py",
}
"""Other commands, as patterns, and the file that runs them or is their recipe."""
FIRST_WORDS = (
    "make", "pip", "pipeline", "python", "docker", "helm", "kubectl", "curl", "export", "eval",
    "printf", "systemctl", "install", "useradd", "promtool", "cat", "git", "PYTHONPATH=", "LLMLOG_",
    ".venv/bin/", "sh ",
)  # fmt: skip


def commands_of(text: str) -> list[tuple[str, bool]]:
    """Return the commands of a page's blocks, and whether each is marked as not run."""
    found, marked, fence, here = [], False, False, ""
    lines = text.replace("\\\n", " ").splitlines()
    for line in lines:
        if line.startswith(MARK):
            marked = True
        elif line.startswith("```"):
            fence = not fence and line.startswith("```sh")
            marked = marked and fence
        elif here:
            here = "" if line == here else here
        elif (fence or line.startswith("    ")) and line.strip().startswith(FIRST_WORDS):
            command = re.sub(r"\s{2,}#.*|\s+# .*", "", line.strip())
            found.append((command, marked))
            if heredoc := re.search(r"<<'?(\w+)", command):
                here = heredoc[1]
    return found


FOUND = [
    (page.name, command, marked)
    for page in PAGES
    for command, marked in commands_of(page.read_text())
]


def read_tests() -> str:
    folders = ("acceptance", "integration", "faults", "packaging")
    files = (path for name in folders for path in (ROOT / "tests" / name).rglob("*.py"))
    return "\n".join(path.read_text() for path in files)


def is_synopsis(command: str) -> bool:
    """Tell whether a line shows a command's form and not a command."""
    return bool(re.search(r"\[[-A-Z|]|\||…", command))


def test_there_is_something_to_check():
    assert len(FOUND) > 80
    assert sum(marked for _, _, marked in FOUND) > 10


@pytest.mark.parametrize("page", sorted({page for page, _, _ in FOUND}))
def test_each_command_is_run_by_a_test_or_marked(page):
    tests = read_tests()
    for name, command, marked in FOUND:
        if name != page or marked or is_synopsis(command):
            continue
        first, *words = command.split()
        by = [path for pattern, path in RUN_BY.items() if re.match(pattern, command)]
        if first == "pipeline" and not by:
            path = [word for word in words[:2] if re.fullmatch(r"[a-z][a-z-]*", word)]
            quoted = r",\s*".join(f'"{word}"' for word in path)
            one = re.search(quoted, tests) or re.search(f'"{path[0]}"', tests)
            assert one, f"{page}: no test runs `{command}`"
            continue
        assert by, f"{page}: `{command}`: say which test runs it, or mark its block: {MARK}why -->"


@pytest.mark.parametrize("page", sorted({page for page, _, _ in FOUND}))
def test_each_command_of_pipeline_parses(page):
    for name, command, _ in FOUND:
        if name == page and command.startswith("pipeline ") and not is_synopsis(command):
            parse(_filled(shlex.split(command)[1:]))


def _filled(words: list[str]) -> list[str]:
    """Return arguments with a value in the place of each name in capitals."""
    return ["1" if re.fullmatch(r"[A-Z]", word) else word for word in words]


def test_the_files_that_run_them_are_there():
    for path in RUN_BY.values():
        assert (ROOT / path).exists(), path
    targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
    for _, command, _ in FOUND:
        if command.startswith("make "):
            assert command.split()[1] in targets, command
