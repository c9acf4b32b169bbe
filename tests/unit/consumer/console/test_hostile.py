"""Whatever an address or a form holds: an answer, no fault of ours, and no markup of theirs."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from llmlog_consumer.console.access.proxy import ProxyLogin
from llmlog_consumer.console.access.roles import parse_grants
from llmlog_consumer.console.app import PAGES
from llmlog_consumer.console.queries.calls import FILTERS
from support.fakes.console import EVENT_ID, HOSTILE, URL, browser, new_console

NAMES = st.sampled_from([
    *FILTERS, "period", "since", "until", "zone", "by", "after", "shown", "fingerprint", "as",
    "again", "link", "event_id", "scope", "change", "field", "value",
])  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from([
        HOSTILE, "custom", "\x00", "9" * 400, "1e999", "nan", "../..", "Europe/Berlin", "../etc",
        "9999-12-31T23:59", "0001-01-01", "[]", "W10", "*", "set", "coerce", "cd6f6273e49e",
        EVENT_ID, "a" * 3000,
    ]),
)  # fmt: skip
PARTS = st.sampled_from(
    ["cost", EVENT_ID, "t.dlq", "0", "%00", "%F0%9F%99%82", "a" * 300, "%3Cb%3E"]
)
# A program is kept waiting for the JSON; the others answer at once.
ASKED = [page for page in PAGES if page.path not in {"/logout", "/health/json"}]


def test_no_address_and_no_form_makes_a_page_fail() -> None:
    proxy = ProxyLogin(parse_grants(["g=numbers,contents,replay"]), over_socket=True)
    client = browser(new_console(proxy=proxy, allow_replay=True))
    who = {"x-forwarded-user": "ada", "x-forwarded-groups": "g", "origin": URL}
    token = re.search(r'"X-CSRF-Token": "([^"]+)"', client.get("/no", headers=who).text)
    assert token is not None
    who["x-csrf-token"] = token[1]

    @settings(max_examples=80)
    @given(
        page=st.sampled_from(ASKED),
        parts=st.lists(PARTS, min_size=3, max_size=3),
        params=st.lists(st.tuples(NAMES, TEXTS), max_size=6),
        is_fragment=st.booleans(),
    )
    def ask(page, parts, params, is_fragment) -> None:
        left = iter(parts)
        path = re.sub(r"\{\w+\}", lambda _: next(left), page.path)
        headers = who | ({"hx-request": "true"} if is_fragment else {})
        form = {"data": dict(params)} if page.method == "POST" else {"params": params}
        answer = client.request(page.method, path, headers=headers, **form)
        assert answer.status_code < 500, answer.text[-500:]
        is_page = answer.headers.get("content-type", "").startswith("text/html")
        assert not (is_page and ("<script>alert" in answer.text or "<img src=x" in answer.text))

    ask()
