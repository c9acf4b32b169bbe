"""The console in a real browser, on real servers: pages, links, roles, hostile data, a replay."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition
from playwright.sync_api import Page, expect

from acceptance.console.conftest import (
    CALLS,
    HOSTILE,
    Site,
    check_page,
    link_of,
    refusing_index,
)
from support.pipeline import SLOW, wait_until

expect.set_options(timeout=10_000 * SLOW)


@pytest.fixture(autouse=True)
def _nothing_goes_wrong(site: Site):
    """No page runs another script, breaks the policy, opens a dialog or asks another address."""
    yield
    faults = [fault for watch in site.watches for fault in watch.faults]
    site.watches.clear()
    assert faults == []


def audit_of(site: Site) -> list[dict]:
    """Return the records on the audit topic."""
    servers = site.pipeline.environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]
    topic = f"{site.pipeline.topic}.audit"
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "audit-reader"})
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), 30)
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = consumer.consume(end, 30) if end else []
    consumer.close()
    return [json.loads(message.value()) for message in found]


@contextmanager
def api(site: Site, who: str) -> Iterator[httpx.Client]:
    """Use a client that is logged in as one of the people."""
    with httpx.Client(base_url=site.base, timeout=30 * SLOW) as client:
        token = {"token": site.tokens[who]}
        assert client.post("/login", data=token, headers={"origin": site.base}).status_code == 303
        yield client


KEEPS_PICTURES = """async () => {
  const old = document.querySelector("#now .chart");
  const known = () => Boolean(echarts.getInstanceByDom(old));
  const before = known();
  await htmx.ajax("GET", "/flow/now", "#now");
  return [before, known()];
}"""
"""Whether ECharts keeps a picture of the flow: now, and once the next one has its place."""


def wait_for_rows(page: Page) -> None:
    expect(page.locator("a[data-row]").first).to_be_visible()


def test_the_link_that_is_printed_opens_the_flow_once(site: Site) -> None:
    link = link_of(site)
    page = site.browser.new_context().new_page()
    page.goto(link)
    expect(page.get_by_role("heading", name="Flow")).to_be_visible()
    expect(page.locator(".verdict")).to_contain_text("STOPPED: no worker runs, nothing waits")
    expect(page.locator(".way")).to_contain_text(f"{CALLS}")
    assert page.evaluate(KEEPS_PICTURES) == [True, False]
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    page.goto(link)
    expect(page.get_by_role("alert")).to_contain_text("used already")


def test_a_token_of_the_file_opens_what_its_roles_allow(site: Site) -> None:
    page = site.new_page()
    page.goto("/calls")
    page.wait_for_url("**/login")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("not known")
    page.get_by_label("Token").fill(site.tokens["finance"])
    page.keyboard.press("Enter")
    page.wait_for_url("**/flow")
    expect(page.locator(".who")).to_contain_text("finance")
    zone = page.evaluate("Intl.DateTimeFormat().resolvedOptions().timeZone")
    expect(page.locator("footer")).to_have_text(f"Times are those of your zone: {zone}.")


def test_usage_adds_up_and_its_link_and_csv_say_the_same(site: Site) -> None:
    page = site.open("/usage?by=team&period=24h", who="finance")
    panel = page.locator("#panel-calls")
    expect(panel.locator(".chart canvas")).to_be_visible()
    panel.get_by_text("Numbers of the whole period").click()
    expect(panel.locator("table")).to_contain_text("support <b>x</b>")
    expect(panel.locator("table")).to_contain_text("60")
    expect(page.locator("#panel-first_token")).to_contain_text(f"Recorded in 0 of {CALLS} calls")
    panel.get_by_text("Query", exact=True).click()
    expect(panel.locator("pre")).to_contain_text("POST /console")
    with page.expect_download() as waiting:
        panel.get_by_role("link", name="CSV").click()
    rows = list(csv.reader(io.StringIO(waiting.value.path().read_text())))
    assert sum(float(cell) for row in rows[1:] for cell in row[1:]) == CALLS
    page.locator("select[name=by]").select_option("key")
    page.get_by_role("button", name="Show").click()
    assert "by=key" in page.url
    with page.expect_download() as waiting:
        page.locator("#panel-cost").get_by_role("link", name="CSV").click()
    assert waiting.value.path().read_text().splitlines()[0] == "time (UTC),'=1+1"


def test_calls_are_found_scrolled_through_and_opened(site: Site) -> None:
    page = site.open("/calls?team=research")
    wait_for_rows(page)
    expect(page.locator("#total")).to_have_text("60 calls")
    page.keyboard.press("/")
    page.keyboard.type("wetter")
    page.keyboard.press("Enter")
    page.wait_for_url("**text=wetter**")
    wait_for_rows(page)
    page.locator("#rows tr").last.scroll_into_view_if_needed()
    expect(page.locator("a[data-row]")).to_have_count(60)
    page.locator("a[data-row]").first.focus()
    page.keyboard.press("Enter")
    drawer = page.locator("#drawer")
    drawer.get_by_role("button", name="Open the contents").click()
    expect(drawer.locator(".turn").first).to_contain_text(HOSTILE)
    expect(drawer.locator("#legs table tbody tr")).to_have_count(3)
    drawer.get_by_role("button", name="Look it up on the topics").click()
    expect(drawer.locator("#way")).to_contain_text("INDEXED")
    expect(drawer.locator("#way")).to_contain_text(f"{site.pipeline.topic}/")
    drawer.get_by_role("button", name="Open the raw JSON").click()
    expect(drawer.locator("pre.raw")).to_contain_text("<script>alert(1)</script>")
    assert page.locator("#drawer script, #drawer img, #drawer b b").count() == 0
    page.keyboard.press("Escape")
    expect(drawer).to_be_empty()
    expect(page.locator("a[data-row]").first).to_be_focused()
    actions = {(one["who"], one["action"]) for one in audit_of(site)}
    assert {("operator", "contents"), ("operator", "search")} <= actions


def test_the_table_shows_each_call_once_though_all_began_together(site: Site) -> None:
    ids, query = [], ""
    with api(site, "finance") as client:
        for _ in range(10):
            text = client.get(f"/calls/rows?{query}").text
            ids += re.findall(r'href="/calls/([\w-]{20})"', text)
            following = re.search(r'hx-get="/calls/rows\?([^"]+)" hx-trigger="revealed"', text)
            if following is None:
                break
            query = following[1].replace("&amp;", "&")
    assert (len(ids), len(set(ids))) == (CALLS, CALLS)


def test_each_role_sees_its_own_and_no_more(site: Site) -> None:
    page = site.open("/calls", who="finance")
    wait_for_rows(page)
    assert page.locator("input[name=text], input[name=end_user]").count() == 0
    page.locator("a[data-row]").first.click()
    expect(page.locator("#drawer h2")).to_be_visible()
    assert page.get_by_role("button", name="Open the contents").count() == 0
    shown = page.content()
    for hidden in ("Wetter", "end-user-name", "ada@example.org", "answer 1"):
        assert hidden not in shown
    page.goto("/letters")
    expect(page.locator("#causes")).to_contain_text("5 dead letters")
    page.locator("#causes tbody a").first.click()
    expect(page.locator(".letters li")).to_have_count(5)
    assert page.get_by_role("button", name="What would a replay do?").count() == 0
    page.locator(".letters a").first.click()
    expect(page.locator("#letter")).to_contain_text("run pipeline setup")
    assert "failed to parse" not in page.content()
    with api(site, "finance") as client:
        for path in ("/calls/rows?text=x", "/usage/cost?by=user", "/letters/jobs/x"):
            assert client.get(path).status_code == 403


def test_a_dead_letter_is_shown_with_its_reason_and_replayed_once_its_cause_is_mended(
    site: Site,
) -> None:
    page = site.open("/letters")
    page.locator("#causes tbody a").first.click()
    page.locator(".letters a").first.click()
    page.get_by_role("button", name="Open its values and its record").click()
    expect(page.locator("#value")).to_contain_text("failed to parse field [model]")
    expect(page.locator("#value dl")).to_contain_text("gpt-")
    mend_the_letter(page)
    httpx.delete(refusing_index(site)).raise_for_status()
    page.get_by_role("button", name="What would a replay do?").click()
    expect(page.locator("#replay")).to_contain_text("sent to Elasticsearch again")
    page.get_by_role("button", name="Replay them").click()
    expect(page.locator("#replay dl")).to_contain_text("indexed")
    assert site.pipeline.count() == CALLS + 5
    acted = [one for one in audit_of(site) if one["action"] in {"replay", "mend"}]
    assert [(one["who"], one["action"]) for one in acted] == [
        ("operator", "mend"),
        ("operator", "replay"),
    ]
    assert acted[0]["changes"] == ["drop model"]
    pipeline = site.pipeline
    elsewhere = {**pipeline.environment, "LLMLOG_AUDIT_TOPIC": "not-there"}
    refusing = replace(pipeline, environment=elsewhere)
    mend = ("replay", "--yes", "--set", "model=x")
    # Three that cannot be written down, and one that can: all at once.
    commands = (("replay", "--yes"), mend, ("list", "--show-content"))
    refused = [refusing.start("dlq", *command) for command in commands]
    pipeline.run("dlq", "list", "--show-content")
    for process in refused:
        shown, _ = process.communicate(timeout=60 * SLOW)
        assert (process.returncode, shown) == (3, "")
        assert "topic not-there does not exist" in refusing.stderr_of(process)
    assert audit_of(site)[-1]["program"] == "dlq list"
    pipeline.run("dlq", "replay", "--yes")
    assert [one["program"] for one in audit_of(site) if one["action"] == "replay"] == [
        "console",
        "dlq replay",
    ]


def mend_the_letter(page: Page) -> None:
    """Take the field away that its index refuses: the letter has a document, of that index."""
    form = page.locator(".mend")
    expect(form.get_by_label("Field 1")).to_have_value("model")
    form.get_by_label("Change 1").select_option("drop")
    form.get_by_role("button", name="What would it do?").click()
    expect(form.locator("table").last).to_contain_text("gpt-")
    form.get_by_role("button", name="Mend and replay").click()
    expect(form.locator("dl")).to_contain_text("indexed")


def test_health_says_what_doctor_finds(site: Site) -> None:
    page = site.open("/health?as=worker", who="finance")
    findings = page.locator("#findings")
    expect(findings).to_contain_text("dead_letters.replication")
    expect(findings.locator("tbody tr").first.locator(".badge")).to_have_text(
        re.compile("red|yellow")
    )
    expect(findings).to_contain_text("run three brokers")
    with api(site, "finance") as client:
        said = client.get("/health/json?as=worker").json()
    assert {"kafka.connection", "elasticsearch.connection"} <= {
        row["check"] for row in said["checks"] if row["verdict"] == "green"
    }


@pytest.mark.parametrize(
    ("path", "scheme", "width"),
    [
        ("/flow", "light", 1440),
        ("/usage", "dark", 390),
        ("/calls", "dark", 1440),
        ("/letters", "light", 390),
        ("/health", "dark", 390),
    ],
)
def test_axe_finds_no_serious_fault(site: Site, path: str, scheme: str, width: int) -> None:
    page = site.open(width=width, color_scheme=scheme)
    page.goto(path)
    check_page(page, path)


def test_servers_that_are_away_are_said_and_the_page_goes_on_by_itself(away: Site) -> None:
    page = away.open()
    expect(page.locator("#now")).to_contain_text("Kafka: ")
    expect(page.locator("#now")).to_contain_text("Elasticsearch: ")
    page.goto("/calls")
    expect(page.locator("#rows")).to_contain_text("Elasticsearch at http://127.0.0.1")
    away.elasticsearch.start()
    wait_for_rows(page)
    page.locator("a[data-row]").first.click()
    page.get_by_role("button", name="Open the contents").click()
    expect(page.locator("#contents [role=alert]")).to_contain_text("does not answer")
    assert "Wetter" not in page.content()
    page.goto("/letters")
    expect(page.locator("#causes [role=alert]")).to_be_visible()
    assert wait_until(lambda: not [fault for w in away.watches for fault in w.faults])
