"""One console for all of these tests: real servers, calls, dead letters, three people."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from llmlog_consumer.elasticsearch.index_names import daily_index
from llmlog_local import ports
from llmlog_schemas.codec import Encoder
from llmlog_schemas.convert import to_event
from support.browser import Watch, chromium
from support.fault_proxy import FaultProxy
from support.payloads import HOUR, payload, send
from support.pipeline import Pipeline, base_environment, wait_until
from support.shared_servers import Addresses

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)><b>bold</b> {{7*7}} ${x}"
CALLS = 120
ROLES = {
    "finance": "numbers",
    "engineer": "numbers,contents",
    "operator": "numbers,contents,replay",
}


@dataclass
class Site:
    """A console that runs.

    Attributes:
        pipeline: the servers, and the names of topics and index.
        base: address of the console.
        log: what it has printed.
        tokens: of each person.
        watches: of every page that was opened.
        elasticsearch: a proxy before it, where there is one.
        cookies: of each person who has logged in.
    """

    pipeline: Pipeline
    base: str
    log: Callable[[], str]
    tokens: dict[str, str]
    browser: Browser
    watches: list[Watch] = field(default_factory=list)
    elasticsearch: FaultProxy | None = None
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)

    def open(
        self, path: str = "/flow", *, who: str = "operator", width: int = 1440, **options
    ) -> Page:
        """Open a page as one of the people, with nothing of the others."""
        page = self.new_page(width, **options)
        page.context.add_cookies([self._log_in(who)])
        page.goto(path)
        return page

    def new_page(self, width: int = 1440, **options) -> Page:
        """Open an empty page without a login."""
        context = self.browser.new_context(
            viewport={"width": width, "height": 900}, base_url=self.base, **options
        )
        context.set_default_timeout(60_000)
        page = context.new_page()
        self.watches.append(Watch(page, self.base))
        return page

    def _log_in(self, who: str) -> dict[str, str]:
        """Return the cookie of a person, who logs in once for all pages."""
        if who not in self.cookies:
            answer = httpx.post(
                f"{self.base}/login",
                data={"token": self.tokens[who]},
                headers={"origin": self.base},
                timeout=60,
            )
            ((name, value),) = answer.cookies.items()
            self.cookies[who] = {"name": name, "value": value, "url": self.base}
        return self.cookies[who]


def calls() -> list[dict]:
    """Return calls of four teams, in the same millisecond: the table has to tell them apart."""
    return [
        payload(
            seed,
            startTime=HOUR,
            trace_id=f"trace-{seed // 3}",
            messages=[{"role": "user", "content": f"{HOSTILE} Frage {seed} nach dem Wetter"}],
            custom_llm_provider="openai",
            end_user="end-user-name",
            metadata={
                "user_api_key_team_alias": ("research", "support <b>x</b>")[seed % 2],
                "user_api_key_alias": "=1+1",
                "user_api_key_user_id": "ada@example.org",
            },
            error_information={"error_class": "RateLimitError"} if seed % 10 == 0 else None,
        )
        for seed in range(CALLS)
    ]


REFUSED = HOUR - 2 * 86_400
"""Epoch seconds of the calls whose day's index refuses them."""


def refusing_index(site: Site | Pipeline) -> str:
    """Return the URL of the index of a past day that refuses models."""
    pipeline = site if isinstance(site, Pipeline) else site.pipeline
    return f"{pipeline.elasticsearch}/{daily_index(pipeline.index, int(REFUSED * 1000))}"


def make_refusing_index(pipeline: Pipeline) -> None:
    """Make that index."""
    mapping = {
        "_meta": {"llmlog_version": 1},
        "dynamic": False,
        "properties": {"model": {"type": "long"}, "@timestamp": {"type": "date"}},
    }
    url = refusing_index(pipeline)
    httpx.put(url, json={"mappings": mapping}, timeout=60).raise_for_status()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site(
    servers: Addresses, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("console")
    name = f"console{os.getpid()}"
    environment = base_environment(
        {
            **servers.environment,
            "LLMLOG_TOPIC": name,
            "LLMLOG_INDEX": name,
            "LLMLOG_GROUP": name,
            "LLMLOG_PARTITIONS": "2",
        }
    )
    pipeline = Pipeline(environment, folder, servers.elasticsearch_url, name, name, name)
    pipeline.run("setup")
    make_refusing_index(pipeline)
    refused = [payload(seed, startTime=REFUSED + seed / 1000) for seed in range(5)]
    values = [Encoder().encode(to_event(one)) for one in [*calls(), *refused]]
    send(servers.bootstrap_servers, name, values)
    pipeline.run("consume", "--workers", "1", "--until-end")
    pipeline.refresh()
    # Now, and not before: the page Flow looks once at the start, and then every ten seconds.
    yield from start(pipeline, browser, folder, "--allow-replay")


@pytest.fixture(scope="module")
def away(site: Site, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A console of the same deployment that reaches neither Kafka nor Elasticsearch, at first."""
    ours = site.pipeline
    folder = tmp_path_factory.mktemp("away")
    proxy = FaultProxy(int(ours.elasticsearch.rpartition(":")[2]), ports.free_ports(1)[0])
    environment = {
        **ours.environment,
        "LLMLOG_ELASTICSEARCH_URL": f"http://127.0.0.1:{proxy.port}",
        "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{ports.free_ports(1)[0]}",
    }
    pipeline = Pipeline(environment, folder, ours.elasticsearch, ours.topic, ours.index, ours.group)
    for started in start(pipeline, browser, folder):
        started.elasticsearch = proxy
        yield started
    proxy.close()


def start(pipeline: Pipeline, browser: Browser, folder: Path, *options: str) -> Iterator[Site]:
    """Start a console, and end it after the block."""
    tokens = {who: f"{who}-{'x' * 32}" for who in ROLES}
    file = folder / "tokens"
    file.write_text("".join(f"{who} {ROLES[who]} {tokens[who]}\n" for who in ROLES))
    port = str(ports.free_ports(1)[0])
    process = pipeline.start("console", "--port", port, "--token-file", str(file), *options)
    wait_until(lambda: "Open the console" in pipeline.stderr_of(process))
    log = lambda: pipeline.stderr_of(process)  # noqa: E731
    yield Site(pipeline, f"http://127.0.0.1:{port}", log, tokens, browser)
    process.terminate()
    assert process.wait(60) == 0
    process.communicate()


def link_of(site: Site) -> str:
    """Return the one-time link that was printed last."""
    return re.findall(r"http://\S+", site.log())[-1]


def check_page(page: Page, path: str) -> None:
    """Wait until a page is drawn; fail where axe finds a serious fault, or it is too wide."""
    expect(page.get_by_text("Looking …")).to_have_count(0)
    if path == "/calls":
        page.locator("a[data-row]").first.click()
        page.get_by_role("button", name="Open the contents").click()
        expect(page.locator(".turn").first).to_be_visible()
    serious = [
        (fault["id"], [node["html"] for node in fault["nodes"]][:3])
        for fault in Axe().run(page).response["violations"]
        if fault["impact"] in {"serious", "critical"}
    ]
    assert serious == [], path
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, f"{path} is {wide} pixels wider than the window"
