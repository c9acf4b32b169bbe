"""The limit of a container's memory, and whether it is enough."""

import pytest

from llmlog_consumer.service.memory import (
    SUPERVISOR_BYTES,
    WORKER_BYTES,
    describe_shortage,
    read_limit,
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


def test_a_limit_that_is_too_small_for_the_workers_is_said():
    needed = SUPERVISOR_BYTES + 3 * WORKER_BYTES
    assert describe_shortage(3, None) == describe_shortage(3, needed) == ""
    assert describe_shortage(3, needed - 1) == (
        "the container's limit is 690 MB, 3 workers need up to 690 MB "
        "(1290 MB with records of 8 MB): raise the limit, or start fewer workers"
    )
