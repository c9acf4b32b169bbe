"""The limit of a container's memory, and whether it is enough."""

import pytest
from structlog.testing import capture_logs

from llmlog_consumer.service.memory import (
    SUPERVISOR_BYTES,
    WORKER_BYTES,
    read_limit,
    warn_if_short,
)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "300000000\n"}, 300_000_000),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/a/b\n", {"a/memory.max": "700", "a/b/memory.max": "max"}, 700),
        ("0::/a/b\n", {"a/memory.max": "700", "a/b/memory.max": "500"}, 500),
        ("5:cpu,memory:/docker/x\n", {"memory/docker/x/memory.limit_in_bytes": "900"}, 900),
        ("5:memory:/x\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("5:cpu:/x\n", {"memory/x/memory.limit_in_bytes": "900"}, None),
        ("garbage\n", {"memory.max": "garbage"}, None),
        (None, {"memory.max": "800"}, 800),
        (None, {}, None),
    ],
)
def test_the_lowest_limit_of_the_own_groups_counts(tmp_path, own, files, limit):
    if own is not None:
        write(tmp_path / "own", own)
    for name, text in files.items():
        write(tmp_path / "cgroup" / name, text)
    assert read_limit(tmp_path / "cgroup", tmp_path / "own") == limit


@pytest.mark.parametrize(("short_by", "warnings"), [(1, 1), (0, 0)])
def test_a_limit_that_is_too_small_for_the_workers_is_said(short_by, warnings):
    with capture_logs() as lines:
        warn_if_short(3, SUPERVISOR_BYTES + 3 * WORKER_BYTES - short_by)
        warn_if_short(3, None)
    assert len(lines) == warnings
    for line in lines:
        assert (line["limit"], line["needed"], line["workers"]) == ("690 MB", "690 MB", 3)
