"""What each index profile costs: direct `_bulk` of the same documents of three shapes.

The shapes are a single call, a session of 20 turns (each call has the whole chat so far), and an
agent run with tools. `before` is how indices were made without profiles.
"""

from __future__ import annotations

import copy
import json
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from benchmarks import arena
from benchmarks.figures import Figures
from benchmarks.load import prose
from llmlog_consumer.provision.profiles import PROFILES, Profile
from llmlog_consumer.provision.templates import default_settings, index_template
from llmlog_schemas.convert import to_event
from support.rich_payload import rich_payload

SECONDS = 6.0
"""Of each run."""
_BULK_BYTES = 2_000_000
_THREADS = 2
_TOOLS = ("search", "read_file", "run_sql", "get_weather")
_BEFORE = "before"
_INDEXED = ("response_time", "response_cost", "prompt_tokens", "completion_tokens", "total_tokens")


class Cost(NamedTuple):
    """What one document costs.

    Attributes:
        rate: documents a second.
        cpu_us: microseconds of Elasticsearch's CPU.
        size: bytes on disk.
    """

    rate: float
    cpu_us: float
    size: float


def measure(figures: Figures) -> None:
    """Print documents a second, CPU and bytes a document, each as a ratio to `before`."""
    del figures
    shapes = {"a single call": single(), "20 turns": session(), "an agent with tools": agent()}
    variants = (_BEFORE, *PROFILES)
    with (
        tempfile.TemporaryDirectory() as name,
        arena.elasticsearch(Path(name)) as server,
        httpx.Client(base_url=server.url, timeout=120) as http,
    ):
        process = psutil.Process(server.pid)
        print(
            f"{'':12}{'documents/s':>13}{'ratio':>7}{'CPU':>12}{'ratio':>7}{'disk':>12}{'ratio':>7}"
        )
        for shape, documents in shapes.items():
            _run(http, process, _BEFORE, documents)  # a JVM is slow at first
            seen: dict[str, list[Cost]] = defaultdict(list)
            for variant in (*variants, *reversed(variants)):
                seen[variant].append(_run(http, process, variant, documents))
            written = statistics.fmean(map(len, documents))
            print(f"{shape}: {written:,.0f} bytes of JSON")
            costs = {
                name: Cost(*map(statistics.fmean, zip(*c, strict=True))) for name, c in seen.items()
            }
            for variant, cost in costs.items():
                pairs = zip(cost, costs[_BEFORE], (13, 12, 12), strict=True)
                cells = (f"{one:{width},.0f}{one / was:7.2f}" for one, was, width in pairs)
                print(f"  {variant:10}{''.join(cells)}", flush=True)


def single() -> list[bytes]:
    """Return documents of calls with one question and one answer."""
    return [_document(n, [_turn("user", n, 400)], 1200) for n in range(400)]


def session() -> list[bytes]:
    """Return documents of sessions: the n-th call sends all messages before it."""
    documents = []
    for number in range(20):
        chat: list[dict[str, Any]] = [_turn("system", number, 1500)]
        for turn in range(20):
            chat.append(_turn("user", 1000 * number + turn, 300))
            documents.append(_document(20 * number + turn, chat, 800))
            chat.append(_turn("assistant", 5000 * number + turn, 800))
    return documents


def agent() -> list[bytes]:
    """Return documents of agents: tools offered, called, and their long answers sent back."""
    schema = {"type": "object", "properties": {"q": {"type": "string", "description": "x" * 300}}}
    tools = [
        {"type": "function", "function": {"name": name, "parameters": schema}} for name in _TOOLS
    ]
    documents = []
    for number in range(40):
        chat: list[dict[str, Any]] = [_turn("user", number, 600)]
        for step in range(8):
            seed = 100 * number + step
            call = {"name": _TOOLS[step % 4], "arguments": json.dumps({"q": prose(seed, 120)})}
            calls = [{"id": str(seed), "type": "function", "function": call}]
            documents.append(_document(8 * number + step, chat, 100, tools=tools, calls=calls))
            chat += [
                {"role": "assistant", "content": None, "tool_calls": calls},
                {"role": "tool", "tool_call_id": str(seed), "content": prose(7 * seed, 1500)},
            ]
    return documents


def _turn(role: str, seed: int, size: int) -> dict[str, Any]:
    return {"role": role, "content": prose(seed, size)}


def _document(
    seed: int,
    chat: list[dict[str, Any]],
    size: int,
    *,
    tools: Any = None,
    calls: Any = None,
) -> bytes:
    pick = random.Random(seed)
    payload = rich_payload()
    message = {"role": "assistant", "content": prose(-seed, size), "tool_calls": calls}
    payload |= {
        "litellm_call_id": f"{seed}",
        "messages": copy.copy(chat),
        "response": {"choices": [{"message": message, "finish_reason": "stop"}]},
        "model_parameters": {"tools": tools} if tools else {},
        "response_cost": pick.random(),
        "prompt_tokens": pick.randrange(5000),
    }
    return to_event(payload)["document"]


def _run(http: httpx.Client, process: psutil.Process, variant: str, documents: list[bytes]) -> Cost:
    _create(http, variant)
    numbers = iter(range(1 << 40))

    def bodies() -> Iterator[tuple[int, bytes]]:
        began = time.monotonic()
        at = 0
        while time.monotonic() - began < SECONDS:
            lines: list[bytes] = []
            size = 0
            while size < _BULK_BYTES:
                document = documents[at % len(documents)]
                # Ids that grow, as those of events do.
                lines += (b'{"create":{"_id":"%020d"}}' % next(numbers), document)
                size += len(document)
                at += 1
            yield len(lines) // 2, b"\n".join(lines) + b"\n"

    def post(body: tuple[int, bytes]) -> int:
        answer = http.post(
            "/profiles/_bulk?filter_path=errors", content=body[1],
            headers={"content-type": "application/x-ndjson"},
        )  # fmt: skip
        assert answer.json() == {"errors": False}, answer.text[:500]
        return body[0]

    began, cpu_s = time.monotonic(), _cpu_seconds(process)
    with ThreadPoolExecutor(_THREADS) as pool:
        made = bodies()
        posted = 0
        waiting = [pool.submit(post, body) for body in (next(made), next(made))]
        for body in made:
            posted += waiting.pop(0).result()
            waiting.append(pool.submit(post, body))
        posted += sum(one.result() for one in waiting)
    rate = posted / (time.monotonic() - began)
    http.post("/profiles/_refresh").raise_for_status()
    cpu_us = (_cpu_seconds(process) - cpu_s) / posted * 1e6
    http.post("/profiles/_forcemerge?max_num_segments=1").raise_for_status()
    http.post("/profiles/_flush?force=true").raise_for_status()
    stored = http.get("/profiles/_stats/store").json()["_all"]["primaries"]["store"]
    http.delete("/profiles").raise_for_status()
    return Cost(rate, cpu_us, stored["size_in_bytes"] / posted)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _create(http: httpx.Client, variant: str) -> None:
    profile = PROFILES.get(variant, Profile("5s", "default", {"type": "text"}))
    if profile.codec == "best_compression":
        # The codec itself wants a native library, which an Elasticsearch of jars has not.
        profile = profile._replace(codec="legacy_best_compression")
    settings = default_settings("profiles", lifecycle=False, profile=profile)["template"]
    mappings = index_template("profiles", profile)["template"]["mappings"]
    if variant == _BEFORE:
        for name in _INDEXED:
            del mappings["properties"][name]["index"]
    body = {"settings": settings["settings"], "mappings": mappings}
    http.put("/profiles", json=body).raise_for_status()
    http.get("/_cluster/health/profiles?wait_for_status=green&timeout=60s").raise_for_status()
