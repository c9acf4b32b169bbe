"""`pipeline setup --print`: what stands in the files is what setup does, and shells take it."""

import json
import subprocess

import pytest

from llmlog_common.errors import ConfigurationError
from llmlog_common.settings import load
from llmlog_consumer.provision.files import Part, describe_part, part_as_json, write_files
from llmlog_consumer.provision.indices import index_steps
from llmlog_consumer.provision.rights import User, kafka_rights
from support.fakes.provision import FakeElasticsearch

HOSTILE = "a b$(touch hacked)'\""
"""A group may have any name."""


GROUPS = {"LLMLOG_INDEX_GROUPS": "t-1=pay,t-2=legal", "LLMLOG_GROUP_MAX_EVENT_AGE": "pay=9d"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        GROUPS,
        {**GROUPS, "LLMLOG_INDEX_PERIOD": "month"},
        {"LLMLOG_INDEX_PROFILE": "storage", "LLMLOG_INDEX_SHARDS": "4"},
    ],
)
def test_the_files_are_what_setup_stores(tmp_path, more):
    settings, cluster = load(environ={"LLMLOG_INDEX": "logs", **more}), FakeElasticsearch()
    for step in index_steps(settings, cluster):
        step.carry_out()
    write_files(settings, tmp_path)
    for path, body in cluster.stored.items():
        assert json.loads((tmp_path / "elasticsearch" / f"{path}.json").read_text()) == body


def test_a_reader_of_one_group_has_a_right_on_its_indices_alone(tmp_path):
    write_files(load(environ={"LLMLOG_INDEX": "logs", **GROUPS}), tmp_path, kafka=False)
    path = tmp_path / "elasticsearch/_security/role/logs@pay-reader.json"
    (right,) = json.loads(path.read_text())["indices"]
    assert right == {"names": ["logs-2*-pay"], "privileges": ["read", "view_index_metadata"]}


@pytest.mark.parametrize("only", ["kafka", "elasticsearch"])
def test_one_server_alone(tmp_path, only):
    wanted = {"kafka": False, "elasticsearch": False, only: True}
    written = write_files(load(environ={}), tmp_path, **wanted)
    assert written
    assert {path.relative_to(tmp_path).parts[0] for path in written} == {only}
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(written)


def test_every_script_runs_and_says_what_the_rights_say(tmp_path):
    settings = load(environ={"LLMLOG_GROUP": HOSTILE})
    write_files(settings, tmp_path / "out")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("kafka-topics", "kafka-acls.sh", "curl"):
        tool = tools / name
        tool.write_text('#!/bin/sh\nfor one in "$@"; do echo "$one"; done; echo ---\n')
        tool.chmod(0o755)

    def run(script, **environ):
        done = subprocess.run(
            [tmp_path / "out" / script], capture_output=True, text=True, check=True, cwd=tmp_path,
            env={"PATH": f"{tools}:/usr/bin:/bin", **environ},
        )  # fmt: skip
        return [call.splitlines() for call in done.stdout.split("---\n") if call.strip()]

    for call, name in zip(
        run("kafka/topics.sh"),
        [settings.topic, settings.dlq_topic, settings.audit_topic],
        strict=True,
    ):
        assert call[call.index("--topic") + 1] == name
        assert "cleanup.policy=delete" in call
    for user in User:
        calls = run(f"kafka/acls-{user}.sh", COMMAND_CONFIG="my file")
        for call, right in zip(calls, kafka_rights(user, settings), strict=True):
            assert call[:4] == [
                "--bootstrap-server",
                "localhost:9092",
                "--command-config",
                "my file",
            ]
            assert call[call.index(f"--{right.kind}") + 1] == right.name
            assert call[call.index("--allow-principal") + 1] == f"User:llmlog-{user}"
            given = {call[at + 1] for at, word in enumerate(call) if word == "--operation"}
            assert given == set(right.operations)
    assert len(run("elasticsearch/put.sh")) == 8
    assert not (tmp_path / "hacked").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=f"--print: {tmp_path}/file/"):
        write_files(load(environ={}), tmp_path / "file")


def read_requests(text):
    """Read what Kibana's console takes: `PUT path`, then a JSON document."""
    found = {}
    for piece in text.split("PUT ")[1:]:
        path, _, body = piece.partition("\n")
        found[path] = json.loads(body)
    return found


@pytest.mark.parametrize("part", [Part.ROLE, Part.TEMPLATE, Part.POLICY])
def test_a_part_for_elasticsearch_is_what_stands_in_its_files(tmp_path, part):
    settings = load(environ={"LLMLOG_INDEX": "logs"})
    write_files(settings, tmp_path)
    requests = read_requests(describe_part(settings, part))
    assert requests == part_as_json(settings, part)
    for path, body in requests.items():
        assert json.loads((tmp_path / "elasticsearch" / f"{path}.json").read_text()) == body
    assert len(requests) == {Part.ROLE: 5, Part.TEMPLATE: 2, Part.POLICY: 1}[part]


@pytest.mark.parametrize("part", [Part.ACLS, Part.TOPICS])
def test_a_part_for_kafka_is_one_script_that_a_shell_takes(tmp_path, part):
    settings = load(environ={"LLMLOG_GROUP": HOSTILE})
    tool = tmp_path / ("kafka-acls" if part is Part.ACLS else "kafka-topics")
    tool.write_text('#!/bin/sh\nfor one in "$@"; do echo "$one"; done; echo ---\n')
    tool.chmod(0o755)
    done = subprocess.run(
        ["sh"], input=describe_part(settings, part), capture_output=True, text=True, check=True,
        cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )  # fmt: skip
    calls = [call.splitlines() for call in done.stdout.split("---\n") if call.strip()]
    data = part_as_json(settings, part)[str(part)]
    assert len(calls) == len(data)
    for call, one in zip(calls, data, strict=True):
        if part is Part.ACLS:
            assert call[call.index("--allow-principal") + 1] == f"User:llmlog-{one['user']}"
            assert call[call.index(f"--{one['kind']}") + 1] == one["name"]
        else:
            assert call[call.index("--topic") + 1] == one["name"]
    assert not (tmp_path / "hacked").exists()
