"""`pipeline setup` against real servers, and what commands do when Elasticsearch is half away."""

from __future__ import annotations

import json
import socket

from support.payloads import payload
from support.pipeline import Pipeline


def ndjson(payloads: list[dict]) -> str:
    return "\n".join(json.dumps(one) for one in payloads) + "\n"


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_every_command_asks_the_next_node_when_the_first_is_down(bare_pipeline: Pipeline) -> None:
    pipeline = bare_pipeline
    urls = f"http://127.0.0.1:{closed_port()},{pipeline.elasticsearch}"
    pipeline.environment["LLMLOG_ELASTICSEARCH_URL"] = urls
    pipeline.run("setup")
    pipeline.run("produce", "-", input=ndjson([payload(1), payload(2)]))
    pipeline.run("consume", "--until-end")
    for _ in range(2):  # each process begins with any one of the nodes
        pipeline.run("setup")
        assert json.loads(pipeline.run("verify", "--json").stdout)["documents"] == 2
        assert json.loads(pipeline.run("report", "--json").stdout)["events"] == 2
        pipeline.run("trace", payload(1)["litellm_call_id"])
        pipeline.run("dlq", "replay", "--dry-run")
