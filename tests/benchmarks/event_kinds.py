"""Events of three kinds of use, for sizing: prompts, sessions of 20 turns, agents with tools.

Their texts are in the words of a made-up language with the frequencies of a real one.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
from collections.abc import Iterator

from benchmarks.load import prose
from llmlog_schemas.codec import Encoder
from llmlog_schemas.convert import to_event
from support.payloads import payload

TURNS = 20
DISTINCT_BYTES = 20_000_000
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"tool_{number}",
            "description": prose(number, 200),
            "parameters": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("query", "path", "limit")},
            },
        },
    }
    for number in range(4)
]


def _prompts(pick: random.Random, length: int) -> Iterator[tuple[list, str, dict]]:
    while True:
        question = prose(pick.random(), length // 2)
        yield [{"role": "user", "content": question}], prose(pick.random(), length // 2), {}


def _sessions(pick: random.Random, length: int) -> Iterator[tuple[list, str, dict]]:
    """Each call repeats all turns before it: of the mean length the last has twice as much."""
    turn = max(1, length // TURNS)
    while True:
        messages: list = []
        for _ in range(TURNS):
            messages = [*messages, {"role": "user", "content": prose(pick.random(), turn)}]
            answer = prose(pick.random(), turn)
            yield messages, answer, {}
            messages = [*messages, {"role": "assistant", "content": answer}]


def _agents(pick: random.Random, length: int) -> Iterator[tuple[list, str, dict]]:
    """The same tools in each call, results as JSON, arguments in the answer."""
    while True:
        rows = [
            {
                "path": f"/srv/{pick.randrange(10**6)}",
                "line": pick.randrange(10**4),
                "text": prose(pick.random(), 80),
            }
            for _ in range(max(1, length // 150))
        ]
        arguments = json.dumps({"query": prose(pick.random(), 40)})
        function = {"name": "tool_1", "arguments": arguments}
        call = {"id": "call_1", "type": "function", "function": function}
        messages = [
            {"role": "system", "content": prose(1, 400)},
            {"role": "user", "content": prose(pick.random(), 200)},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": json.dumps(rows)},
        ]
        yield messages, prose(pick.random(), 150), {"tools": TOOLS}


PROFILES = {"prompts": _prompts, "sessions": _sessions, "agents": _agents}


def values(profile: str, size: int, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield ids and encoded events whose mean length is about `size` bytes.

    The first 20 MB are distinct; after these they come again, with other ids.
    """
    length = float(size) / 2
    for _ in range(6):  # an event holds its text more than once: find how often
        some = itertools.islice(_encoded(profile, int(length), seed), 2 * TURNS)
        mean = statistics.fmean(len(value) for _, value in some)
        length = max(1.0, length * size / mean)
    distinct = min(count, max(2 * TURNS, DISTINCT_BYTES // size))
    made = list(itertools.islice(_encoded(profile, int(length), seed), distinct))
    for number in range(count):
        first_id, value = made[number % distinct]
        if number < distinct:
            yield first_id, value
        else:
            event_id = f"{first_id[:16]}{number // distinct:04d}"
            yield event_id, value.replace(first_id.encode(), event_id.encode())


def _encoded(profile: str, length: int, seed: int) -> Iterator[tuple[str, bytes]]:
    pick, encoder = random.Random(seed), Encoder()
    for number, (messages, answer, more) in enumerate(PROFILES[profile](pick, length)):
        choice = {"choices": [{"message": {"role": "assistant", "content": answer}}]}
        parameters = {"model_parameters": more} if more else {}
        made = payload(seed * 10_000_000 + number, messages=messages, response=choice, **parameters)
        event = to_event(made)
        yield event["event_id"], encoder.encode(event)
