"""Who gets through: hosts, origins, form tokens, and the role of every address."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from llmlog_common.errors import ElasticsearchUnreachable
from llmlog_consumer.console.access.headers import SECURITY_HEADERS
from llmlog_consumer.console.access.proxy import ProxyLogin
from llmlog_consumer.console.access.roles import Role, parse_grants
from llmlog_consumer.console.app import PAGES
from support.fakes.console import (
    EVENT_ID,
    SOURCE,
    URL,
    answer,
    browser,
    new_console,
)
from support.fakes.console_login import (
    FROM_HERE,
    address_of,
    csrf_of,
    logged_in,
    token_file,
)

ROLE_SETS = [set(some) for n in range(len(Role) + 1) for some in combinations(Role, n)]


@pytest.mark.parametrize("roles", ROLE_SETS, ids=lambda roles: "+".join(sorted(roles)) or "none")
def test_each_address_asks_for_its_role_at_every_request(tmp_path, roles) -> None:
    proxy = ProxyLogin(parse_grants([f"g={','.join(roles)}"]) if roles else {}, over_socket=True)
    client = browser(new_console(proxy=proxy, allow_replay=True))
    who = {"x-forwarded-user": "ada", "x-forwarded-groups": "g", **FROM_HERE}
    page = client.get("/no-such-page", headers=who).text
    who["x-csrf-token"] = re.search(r'"X-CSRF-Token": "([^"]+)"', page)[1]
    for page in PAGES:
        if page.path in {"/login", "/logout"}:
            continue
        answer = client.request(page.method, address_of(page), headers=who, content=b"")
        is_allowed = page.role is None or page.role in roles
        assert (answer.status_code != 403) == is_allowed, (page.path, answer.text[:300])


def test_no_page_but_the_login_and_our_own_files_is_shown_without_a_login() -> None:
    client = browser(new_console())
    for page in PAGES:
        if page.path == "/login":
            continue
        answer = client.request(page.method, address_of(page), headers=FROM_HERE, content=b"")
        assert answer.status_code == 303, page.path
        assert answer.headers["location"] == "/login"
    assert client.get("/login").status_code == 200
    assert client.get("/static/console.css").status_code == 200
    fragment = client.get("/calls/rows", headers={"hx-request": "true"})
    assert (fragment.status_code, fragment.headers["hx-redirect"]) == (401, "/login")


@pytest.mark.parametrize("path", ["/login", "/static/console.js", "/flow", "/nothing", "/static/x"])
def test_every_answer_has_the_security_headers(path) -> None:
    answer = browser(new_console()).get(path)
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.get_list(name) == [value], name
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    cached = path.startswith("/static/")
    assert answer.headers["cache-control"] == ("public, max-age=86400" if cached else "no-store")


def test_our_own_files_are_sent_compressed_and_no_page_is(tmp_path) -> None:
    _, client = logged_in(tmp_path, "numbers")
    sent = client.get("/static/vendor/echarts.common.min.js")
    assert sent.headers["content-encoding"] == "gzip"
    assert len(sent.text) > 700_000
    assert "content-encoding" not in client.get("/calls").headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:8765.x"])
def test_a_host_that_is_not_listed_is_refused(host) -> None:
    assert browser(new_console()).get("/login", headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:8766"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 204),
        ({"origin": URL}, 204),
    ],
)
def test_only_our_own_pages_change_something(tmp_path, headers, status) -> None:
    _, client = logged_in(tmp_path, "numbers")
    headers = {**headers, "x-csrf-token": csrf_of(client)}
    assert client.post("/logout", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "document"}, 200),
    ],
)
def test_another_site_reads_nothing_and_may_link_to_a_page(tmp_path, headers, status) -> None:
    _, client = logged_in(tmp_path, "numbers")
    assert client.get("/calls", headers=headers).status_code == status


@pytest.mark.parametrize("token", [None, "", "wrong", "é"])
def test_a_form_without_its_token_is_refused(tmp_path, token) -> None:
    console, client = logged_in(tmp_path, "numbers,replay", allow_replay=True)
    headers = FROM_HERE | ({} if token is None else {"x-csrf-token": token.encode()})
    for path in ("/letters/replay?fingerprint=cd6f6273e49e", "/letters/dry-run", "/logout"):
        assert client.post(path, headers=headers).status_code == 403
    assert console.desk.replayed == []


def test_a_body_that_is_large_or_without_a_length_is_refused(tmp_path) -> None:
    client = browser(new_console(tokens=token_file(tmp_path, "numbers")))
    large = client.post("/login", content=b"x" * 20_000, headers=FROM_HERE)
    endless = client.post("/login", content=iter([b"x"]), headers=FROM_HERE)
    assert (large.status_code, endless.status_code) == (413, 413)


def test_a_server_that_is_away_is_said_and_asked_for_again(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers")
    console.searcher.found = ElasticsearchUnreachable("Elasticsearch at nowhere: refused")
    answer = client.get("/calls/rows?team=a", headers={"hx-request": "true"})
    assert answer.status_code == 503
    assert "Elasticsearch at nowhere: refused" in answer.text
    assert 'hx-get="/calls/rows?team=a"' in answer.text
    assert client.get("/calls").status_code == 200


def test_a_page_that_fails_says_so_and_quotes_nothing(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers")
    console.searcher.found = ValueError("the-prompt")
    answer = client.get("/calls/rows")
    assert answer.status_code == 500
    assert "this page failed (ValueError)" in answer.text
    assert "the-prompt" not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"


def test_halves_of_characters_are_shown_as_well(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,contents")
    console.searcher.found = answer({**SOURCE, "messages": "a\ud800b"})
    assert "a?b" in client.get(f"/calls/{EVENT_ID}/contents").text
