"""Counts what LiteLLM's own logger `generic_api` delivers to an endpoint that misbehaves.

    python litellm_logger.py CALLS

Needs LiteLLM alone. The endpoint is a server of this process; it knows each call by its id. One
JSON line for each case: calls, what arrived once, twice or more, and never.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "DEFAULT_FLUSH_INTERVAL_SECONDS": "1"}

import litellm
from litellm.integrations.generic_api.generic_api_callback import GenericAPILogger

AWAY_SECONDS = 5.0
BATCH = 100


class Endpoint(ThreadingHTTPServer):
    """Takes batches; `judge` says which status a batch gets, and whether it is kept."""

    def __init__(self, judge):
        super().__init__(("127.0.0.1", 0), Handler)
        self.judge, self.seen, self.began = judge, collections.Counter(), time.monotonic()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    """Answers one batch."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Keep what the judge keeps."""
        batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ids = [one["id"] for one in batch]
        status, is_kept = self.server.judge(time.monotonic() - self.server.began, batch)
        if is_kept:
            self.server.seen.update(ids)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


def well(_seconds, _batch):
    """Take everything."""
    return 200, True


def away(seconds, _batch):
    """Refuse for a while, as a server does that restarts."""
    return (503, False) if seconds < AWAY_SECONDS else (200, True)


def full(seconds, _batch):
    """Refuse for a while, as a cluster does that is full."""
    return (429, False) if seconds < AWAY_SECONDS else (200, True)


def one_bad(_seconds, batch):
    """Refuse a batch for one document in it."""
    is_bad = any("bad" in json.dumps(one["messages"]) for one in batch)
    return (400, False) if is_bad else (200, True)


def kept_but_unsaid(seconds, _batch):
    """Take everything, and answer as a proxy does that waits no longer."""
    return (504, True) if seconds < AWAY_SECONDS else (200, True)


CASES = {
    "answers": (well, 0),
    "503 for a while": (away, 0),
    "503 for a while, three retries": (away, 3),
    "429 for a while, three retries": (full, 3),
    "one bad document in the middle": (one_bad, 0),
    "504 for a while, three retries; all was kept": (kept_but_unsaid, 3),
}


async def run(judge, retries, calls):
    """Make calls for some seconds longer than the endpoint misbehaves; return what it has."""
    endpoint = Endpoint(judge)
    logger = GenericAPILogger(
        endpoint=f"http://127.0.0.1:{endpoint.server_port}/", headers={}, batch_size=BATCH,
        max_retries=retries, retry_delay=0.2,
    )  # fmt: skip
    litellm.callbacks = [logger]
    made = []
    for number in range(calls):
        text = "bad" if number == calls // 2 else "good"
        answer = await litellm.acompletion(
            model="openai/gpt-4o-mini", mock_response="yes", api_key="none",
            messages=[{"role": "user", "content": text}],
        )  # fmt: skip
        made.append(answer.id)
        await asyncio.sleep((AWAY_SECONDS + 2) / calls)
    for _ in range(100):
        await asyncio.sleep(0.1)
        if not logger.log_queue and time.monotonic() - endpoint.began > AWAY_SECONDS + 5:
            break
    endpoint.shutdown()
    return made, endpoint.seen


async def main(calls):
    """Print a line for each case."""
    await litellm.acompletion(
        model="openai/gpt-4o-mini", mock_response="yes", api_key="none",
        messages=[{"role": "user", "content": "warm"}],
    )  # fmt: skip
    for name, (judge, retries) in CASES.items():
        made, seen = await run(judge, retries, calls)
        counts = collections.Counter(min(seen[one], 2) for one in made)
        found = {"once": counts[1], "more than once": counts[2], "never": counts[0]}
        print(json.dumps({"case": name, "calls": len(made), **found}), flush=True)


asyncio.run(main(int(sys.argv[1])))
