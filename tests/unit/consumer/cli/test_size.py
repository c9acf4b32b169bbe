"""Unit tests of what `pipeline size` prints."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from llmlog_consumer.cli.app import app
from llmlog_consumer.sizing import Load, size


def run(*arguments):
    return CliRunner().invoke(app, ["size", *arguments])


def test_the_json_is_the_load_and_its_plan():
    done = run("--calls-per-day", "1e6", "--bytes", "4 KB", "--profile", "sessions", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["load"]["event_bytes"] == 4_000
    load = Load(calls_per_day=1e6, event_bytes=4_000, profile="sessions")
    assert said["plan"]["workers"] == size(load).workers
    assert said["plan"]["index_bytes"] == pytest.approx(size(load).index_bytes)


def test_the_table_names_each_part_and_its_reason():
    done = run("--calls-per-day", "1000000", "--bytes", "4 KB")
    assert done.exit_code == 0, done.output
    for text in (
        "consumer: workers",
        "Kafka: partitions",
        "Elasticsearch: disk",
        "a million calls",
    ):
        assert text in done.stdout


@pytest.mark.parametrize("wrong", ["4 apples", "0", "-3", "1.5 MB", ""])
def test_a_size_that_is_none_is_refused_and_says_what_one_is(wrong):
    done = run("--calls-per-day", "10", "--bytes", wrong)
    assert done.exit_code == 2
    assert "2 MiB" in done.output or "size" in done.output


@pytest.mark.parametrize(
    "option", [("--peak", "0.5"), ("--calls-per-day", "0"), ("--profile", "x")]
)
def test_values_that_cannot_be_are_refused(option):
    given = {"--calls-per-day": "10", "--bytes": "10", option[0]: option[1]}
    assert run(*(word for pair in given.items() for word in pair)).exit_code == 2
