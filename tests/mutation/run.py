"""Changes the policy and engine modules line by line, and counts the changes that no test sees.

    make mutants                        # all of the modules below
    make mutants ONLY=offset_tracker    # those whose path holds a word

mutmut wants packages below `src`, so that a copy of ours is laid out there, in `.mutants`. It
makes every mutant at once, then runs for each the unit tests that reach its function. What no test
sees is written to `.mutants/survivors.txt`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".mutants"
PACKAGES = (
    "schemas/llmlog_common",
    "schemas/llmlog_schemas",
    "producer/llmlog_producer",
    "consumer/llmlog_consumer",
    "deploy/local/llmlog_local",
)
MODULES = (
    "offset_tracker",
    "backoff",
    "elasticsearch/batch",
    "elasticsearch/error_rules",
    "elasticsearch/foreign_answers",
    "elasticsearch/nodes",
    "kafka/watch/damage",
    "kafka/watch/partition_watch",
    "kafka/watch/standstill",
    "worker/flow_control",
    "worker/newest_index",
    "worker/notes",
    "delivery/circuit_breaker",
    "delivery/failure_rate",
    "delivery/clock_doubt",
    "delivery/pauses/held_records",
    "delivery/pauses/index_pause",
    "delivery/pauses/index_pauses",
    "delivery/pauses/pause",
    "delivery/pauses/schema_holds",
    "delivery/pauses/schema_scopes",
    "delivery/request_answers",
    "delivery/results",
    "delivery/rejects",
    "delivery/bulk_sender",
    "dead_letters/writer",
    "service/supervisor",
    "service/child_process",
    "checks/verify",
    "checks/proof",
    "checks/event_files",
)
"""Of the consumer: what decides if a record is lost or doubled, and if a person is told."""

AT_IMPORT = ("error_rules.x__row__", "error_rules.x__fix__")
"""Functions that build a table at import, before a mutant is switched on: no test can see these.
Each row of the table is pinned by a case of its own in `test_error_rules.py`."""

MIN_SCORE = 0.9
"""Share of mutants that a test sees, below which the command fails."""

CONFIG = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = {modules}
also_copy = ["tests", "pyproject.toml"]
pytest_add_cli_args = ["-q", "-x", "-p", "no:cacheprovider", "--timeout=60"]
pytest_add_cli_args_test_selection = [
  "tests/unit/consumer",
  "tests/unit/test_properties.py",
  "--ignore=tests/unit/consumer/test_entry.py",
  "--ignore=tests/unit/consumer/test_tracebacks.py",
  "--ignore=tests/unit/consumer/cli",
  "--ignore=tests/unit/consumer/console",
  "--ignore=tests/unit/consumer/delivery/test_transform.py",
]
process_isolation = "fork"
track_dependencies = false

[tool.pytest.ini_options]
pythonpath = ["tests"]
addopts = "--import-mode=importlib"
filterwarnings = ["error", "default::pytest.PytestUnraisableExceptionWarning"]
"""
CONFTEST = """
import os
from support import property_tests
os.environ.setdefault("LLMLOG_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
os.environ.setdefault("LLMLOG_ELASTICSEARCH_URL", "http://localhost:9200")
"""
SEEN = ("killed", "timeout", "caught by type check", "segfault")


def lay_out(modules: list[str]) -> None:
    """Copy packages and tests to where mutmut finds them."""
    shutil.rmtree(WORK, ignore_errors=True)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, WORK / "src" / Path(package).name,
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    for folder in ("unit", "support"):
        shutil.copytree(ROOT / "tests" / folder, WORK / "tests" / folder,
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    # What is installed is asked for its version.
    metadata = WORK / "installed" / "llmlog_pipeline-0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: llmlog-pipeline\nVersion: 0\n")
    # The profile of property tests, an address that a container needs, and nothing of the servers.
    (WORK / "tests" / "conftest.py").write_text(CONFTEST)
    paths = [f"src/llmlog_consumer/{module}.py" for module in modules]
    (WORK / "pyproject.toml").write_text(CONFIG.format(modules=json.dumps(paths)))


def mutmut(*arguments: str, log: Path | None = None) -> str:
    """Run mutmut in the copy; return what it prints, or write that to a file."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    with (log or Path(os.devnull)).open("w") as out:
        run = subprocess.run(
            command,
            cwd=WORK,
            env=os.environ | {"PYTHONPATH": str(WORK / "installed")},
            text=True,
            stdout=out if log else subprocess.PIPE,
            check=False,
        )
    if run.returncode:
        where = f": see {log}" if log else ""
        raise SystemExit(f"mutmut {' '.join(arguments)} ended with {run.returncode}{where}")
    return run.stdout or ""


def results() -> dict[str, Counter[str]]:
    """Return how many mutants of each module ended how; write those that no test sees."""
    os.chdir(WORK)  # mutmut reads its configuration from the working directory, at its import
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    counts: dict[str, Counter[str]] = {}
    with (WORK / "survivors.txt").open("w") as survivors:
        for line in mutmut("results", "--all", "true").splitlines():
            name, _, status = line.strip().partition(": ")
            if "__mutmut_" not in name or any(function in name for function in AT_IMPORT):
                continue
            module = name.rpartition(".x")[0].removeprefix("llmlog_consumer.")
            counts.setdefault(module, Counter())[status] += 1
            if status not in SEEN:
                survivors.write(f"# {name}: {status}\n{get_diff_for_mutant(name)}\n\n")
    return counts


def main(only: list[str]) -> int:
    """Make the mutants, run the tests, print the score; return the exit code."""
    modules = [module for module in MODULES if not only or any(word in module for word in only)]
    if not modules:
        raise SystemExit(f"no such module; there are {', '.join(MODULES)}")
    lay_out(modules)
    mutmut("run", "--max-children", str(os.cpu_count() or 1), log=WORK / "run.txt")
    counts = results()
    total: Counter[str] = Counter()
    print(f"{'module':40} {'mutants':>8} {'seen':>8} {'score':>7}")
    for module, of_module in [*sorted(counts.items()), ("all", total)]:
        number, seen = of_module.total(), sum(of_module[status] for status in SEEN)
        print(f"{module:40} {number:8} {seen:8} {seen / max(number, 1):7.1%}")
        if module != "all":
            total += of_module
    return int(sum(total[status] for status in SEEN) < MIN_SCORE * total.total())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
