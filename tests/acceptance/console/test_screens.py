"""Every page in every width and colour: axe, and the pictures of the documentation."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from acceptance.console.conftest import Site, check_page, make_refusing_index, start
from llmlog_schemas.codec import Encoder
from llmlog_schemas.convert import to_event
from support.payloads import HOUR, payload, send
from support.pipeline import Pipeline, base_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from support.shared_servers import Addresses

pytestmark = pytest.mark.screens
PAGES = {"/usage?by=team": "usage", "/calls": "calls", "/letters": "letters", "/health": "health"}
IMAGES = Path(__file__).parents[3] / "docs/images/console"
CALLS = 2000
MODELS = (
    ("gpt-4o", "openai"),
    ("gpt-4o-mini", "openai"),
    ("claude-sonnet-4", "anthropic"),
    ("gemini-2.5-flash", "vertex_ai"),
)
QUESTION = "Which of our invoices of October are still open? <script>alert('as text')</script>"
ANSWER = "Three are open: 1042, 1057 and 1061. The oldest is 38 days over its date."


def sample_calls() -> list[dict]:
    """Return the calls of a day, of four teams."""
    pick = random.Random(7)
    found = []
    for seed in range(CALLS):
        started = time.time() - pick.random() ** 2 * 86_000
        seconds = pick.expovariate(0.8) + 0.2
        prompt, answer = pick.randint(60, 4000), pick.randint(10, 900)
        (model, provider), fails = pick.choice(MODELS), pick.random() < 0.06
        cost = 0.0 if fails else prompt * 2e-6 + answer * 8e-6
        calls = [{"function": {"name": "find_invoices", "arguments": '{"month": "2026-10"}'}}]
        found.append(
            payload(
                seed,
                model=model,
                custom_llm_provider=provider,
                startTime=started,
                endTime=started + seconds,
                completionStartTime=started + min(seconds, 0.4),
                stream=pick.random() < 0.4,
                response_time=seconds,
                status="failure" if fails else "success",
                response_cost=cost,
                saved_cache_cost=cost if pick.random() < 0.1 else 0.0,
                cost_breakdown={"input_cost": prompt * 2e-6, "output_cost": answer * 8e-6},
                prompt_tokens=prompt,
                completion_tokens=answer,
                total_tokens=prompt + answer,
                messages=[
                    {"role": "system", "content": "You help the finance team."},
                    {"role": "user", "content": QUESTION},
                ],
                response={"choices": [{"message": {"content": ANSWER, "tool_calls": calls}}]},
                metadata={
                    "user_api_key_team_alias": pick.choice(
                        ("research", "support", "finance", "platform")
                    ),
                    "user_api_key_alias": f"key-{pick.randint(1, 5)}",
                },
                error_str="RateLimitError: slow down" if fails else None,
                error_information={
                    "error_class": pick.choice(("RateLimitError", "Timeout", "BadRequestError"))
                }
                if fails
                else None,
            )
        )
    return found


def long_conversation() -> dict:
    """Return a call of 200 turns with pictures, which the gateway has cut."""
    cut = {"llmlog_cut": {"type": "image/png", "bytes": 1_204_331, "sha256": "9f86d081884c7d65"}}
    asked = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": cut}}]
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": ANSWER}] * 100
    call_id = {"id": "long-conversation", "litellm_call_id": "long-conversation"}
    return payload(3001, startTime=time.time() - 3600, **call_id, messages=turns)


def large_letter() -> dict:
    """Return a call of a megabyte whose day's index refuses it."""
    text = random.Random(1).randbytes(500_000).hex()
    started = HOUR - 2 * 86_400 - 60
    return payload(3002, startTime=started, messages=[{"role": "user", "content": text}])


@pytest.fixture(scope="module")
def sample(
    servers: Addresses, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A console over the calls of a day, of which some are dead letters."""
    names = {"LLMLOG_TOPIC": "litellm-logs", "LLMLOG_GROUP": "llmlog-pipeline"}
    environment = base_environment(
        {**servers.environment, **names, "LLMLOG_INDEX": "litellm-logs", "LLMLOG_PARTITIONS": "4"}
    )
    pipeline = Pipeline(
        environment,
        tmp_path_factory.mktemp("sample"),
        servers.elasticsearch_url,
        "litellm-logs",
        "litellm-logs",
        "llmlog-pipeline",
    )
    pipeline.run("setup")
    make_refusing_index(pipeline)
    refused = [payload(seed, startTime=HOUR - 2 * 86_400 + seed / 1000) for seed in range(12)]
    made = [*sample_calls(), long_conversation(), *refused, large_letter()]
    values = [Encoder().encode(to_event(one)) for one in made]
    large = {"message.max.bytes": 8_000_000}
    send(servers.bootstrap_servers, "litellm-logs", values, **large)
    consumer = pipeline.start("consume", "--workers", "1")
    yield from start(pipeline, browser, pipeline.folder, "--allow-replay")
    consumer.terminate()
    consumer.communicate()


def take(page: Page, name: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    page.evaluate(
        "new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
    )
    page.screenshot(path=str(IMAGES / f"{name}.png"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_every_page_in_every_width_and_colour(sample: Site, width: int, scheme: str) -> None:
    page = sample.open(width=width, color_scheme=scheme)
    expect(page.locator(".verdict")).to_contain_text("CURRENT")
    check_page(page, "/flow")
    take(page, f"flow-{width}-{scheme}")
    for path, name in PAGES.items():
        page.goto(path)
        if name == "letters":
            page.locator("#causes tbody a").first.click()
            page.get_by_role("button", name="What would a replay do?").click()
            expect(page.locator("#replay table")).to_be_visible()
            page.locator(".letters a").first.click()
            page.get_by_role("button", name="Open its values and its record").click()
            expect(page.locator("#value pre")).to_be_visible()
        if name == "health":
            expect(page.locator("#findings tbody tr").first).to_be_visible(timeout=60_000)
        check_page(page, path)
        page.evaluate("window.scrollTo(0, 0)")
        take(page, f"{name}-{width}-{scheme}")
    assert [fault for watch in sample.watches for fault in watch.faults] == []


def test_a_letter_of_a_megabyte_and_a_conversation_of_200_turns(sample: Site) -> None:
    page = sample.open("/calls?call_id=long-conversation")
    page.locator("a[data-row]").first.click()
    page.get_by_role("button", name="Open the contents").click()
    expect(page.locator(".turn")).to_have_count(201)
    expect(page.locator(".turn").first).to_contain_text("left out: image/png, 1,204,331 bytes")
    take(page, "state-200-turns")
    event_id = to_event(large_letter())["event_id"]
    shown = sample.pipeline.run("dlq", "list", "--json", "--event-id", event_id).stdout
    page.goto(f"/letters/one/{json.loads(shown)['coordinates']}")
    page.get_by_role("button", name="Open its values and its record").click()
    expect(page.locator("#value pre")).to_contain_text('"messages"')
    assert len(page.locator("#value pre").inner_text()) > 1_000_000
    take(page, "state-large-letter")


NOWHERE = "127.0.0.1:1"
KAFKA, ELASTICSEARCH = "LLMLOG_KAFKA_BOOTSTRAP_SERVERS", "LLMLOG_ELASTICSEARCH_URL"
NAMES = ("LLMLOG_TOPIC", "LLMLOG_INDEX", "LLMLOG_GROUP")
STATES = {
    "elasticsearch-away": (
        {ELASTICSEARCH: f"http://{NOWHERE}"},
        {
            "/flow": ("#now .problem", "Elasticsearch: "),
            "/calls": ("#rows [role=alert]", "looked up again every five seconds"),
            "/letters": ("#causes", "which are recovered is not known"),
        },
    ),
    "kafka-away": (
        {KAFKA: NOWHERE},
        {
            "/flow": ("#now .problem", "Kafka: "),
            "/letters": ("#causes [role=alert]", "Kafka"),
            "/calls": ("a[data-row] >> nth=0", ""),
        },
    ),
    "both-away": (
        {KAFKA: NOWHERE, ELASTICSEARCH: f"http://{NOWHERE}"},
        {
            "/calls": ("#rows [role=alert]", "Elasticsearch"),
            "/health": ("#findings", "red"),
            "/flow": ("#now", "Kafka was not seen yet"),
        },
    ),
    "no-data": (
        dict.fromkeys(NAMES, "empty"),
        {
            "/flow": (".verdict", "nothing waits"),
            "/letters": ("#causes", "No dead letter in this period"),
            "/calls": ("#rows", "No call matches"),
            "/usage": ("#panel-cost", "Nothing in this period"),
        },
    ),
}
"""What is missing, and what each page says then; the last page has its picture taken."""


@pytest.mark.parametrize("state", STATES)
def test_what_a_page_shows_where_something_is_missing(
    sample: Site, browser: Browser, tmp_path: Path, state: str
) -> None:
    changed, pages = STATES[state]
    environment = {**sample.pipeline.environment, **changed}
    pipeline = Pipeline(environment, tmp_path, "", "", "", "")
    if state == "no-data":
        pipeline.run("setup")
    for site in start(pipeline, browser, tmp_path):
        page = site.open("/login")
        for path, (selector, text) in pages.items():
            page.goto(path)
            expect(page.locator(selector)).to_contain_text(text, timeout=60_000)
        take(page, f"state-{state}")
        assert [fault for watch in site.watches for fault in watch.faults] == []
