"""Owns people who click through the console: ten at once, as browsers and as real ones."""

from __future__ import annotations

import json
import random
import re
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path

import httpx

THINK_SECONDS = 1.0
"""From one click of a person to the next, at least."""
_CONNECTIONS = 6
"""Requests at once that a browser makes to one host."""
_PARTS = re.compile(r'hx-get="([^"]+)"[^>]*hx-trigger="load([^"]*)"')
_ROW = re.compile(r'href="/calls/([\w-]{20})"')
PATHS = (
    "/flow", "/usage?by=team", "/calls", "CALL", "/calls?model=gpt-1", "/usage?by=model&period=7d",
    "CALL", "/letters", "/calls?status=failure", "/health",
)  # fmt: skip


class Person:
    """One person with a browser that is no browser: it loads all that a page loads by itself.

    Attributes:
        times: seconds of each click until the last part was there, by page.
    """

    def __init__(self, base: str, token: str, seed: int) -> None:
        self._client = httpx.Client(base_url=base, timeout=60)
        self._parts = ThreadPoolExecutor(_CONNECTIONS)
        self._pick = random.Random(seed)
        self._calls: list[str] = []
        self.times: dict[str, list[float]] = defaultdict(list)
        self.problems: list[str] = []
        self._client.post("/login", data={"token": token}, headers={"origin": base})

    def click_until(self, ended: threading.Event) -> None:
        """Open one page after the other."""
        number = self._pick.randrange(len(PATHS))
        while not ended.is_set():
            began = time.monotonic()
            path = PATHS[number % len(PATHS)]
            number += 1
            if path == "CALL":
                if not self._calls:
                    continue
                path = f"/calls/{self._pick.choice(self._calls)}"
            try:
                self._open(path)
            except httpx.HTTPError as error:
                self.problems.append(f"{path}: {type(error).__name__}")
            seconds = time.monotonic() - began
            self.times["call" if "/calls/" in path else path.split("?")[0].strip("/")].append(
                seconds
            )
            ended.wait(max(0.05, THINK_SECONDS - seconds))

    def _open(self, path: str) -> None:
        waiting = [self._client.get(path).text]
        while waiting:
            found = _PARTS.findall(waiting.pop())
            # What is asked for later is the progress of a job, or a page that looks again.
            now = [unescape(part) for part, trigger in found if "delay" not in trigger]
            for answer in self._parts.map(self._load, now):
                waiting.append(answer)
                self._calls += _ROW.findall(answer)
        del self._calls[:-200]

    def _load(self, path: str) -> str:
        answer = self._client.get(path, headers={"hx-request": "true"})
        if answer.status_code >= 500:
            self.problems.append(f"{path}: {answer.status_code}")
        return answer.text


def browse(base: str, token: str, ended: threading.Event) -> dict[str, list[float]]:
    """Click in a real Chromium until the end; return how long each page was looking, in seconds."""
    from playwright.sync_api import expect

    from support.browser import chromium

    times: dict[str, list[float]] = defaultdict(list)
    with chromium() as browser:
        page = browser.new_context(base_url=base).new_page()
        page.set_default_timeout(60_000)
        page.goto("/login")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/flow")
        print("logged in", flush=True)
        number = 0
        while not ended.is_set():
            path = ("/flow", "/usage?by=team", "/calls")[number % 3]
            number += 1
            began = time.monotonic()
            page.goto(path)
            painted = page.evaluate(
                "new Promise((done) => { const look = () => { const [entry] = performance"
                ".getEntriesByName('first-contentful-paint'); entry ? done(entry.startTime)"
                " : setTimeout(look, 10); }; look(); })"
            )
            expect(page.get_by_text("Looking …")).to_have_count(0, timeout=60_000)
            name = path.split("?")[0].strip("/")
            times[name].append(time.monotonic() - began)
            times[f"{name}, first paint"].append(painted / 1000)
            ended.wait(max(0.0, THINK_SECONDS - (time.monotonic() - began)))
    return times


def _end_with_input(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


if __name__ == "__main__":  # python clicks.py BASE TOKEN: it says "logged in", then the times
    sys.path.insert(0, str(Path(__file__).parents[1]))
    closed = threading.Event()
    threading.Thread(target=_end_with_input, args=(closed,), daemon=True).start()
    print(json.dumps(browse(sys.argv[1], sys.argv[2], closed)))
