"""Who gets through: hosts, origins, logins, form tokens, and the role of every address."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest

from llmlog_common.errors import ElasticsearchUnreachable
from llmlog_consumer.checks.doctor.findings import Check, examine, green
from llmlog_consumer.console.access.headers import SECURITY_HEADERS
from llmlog_consumer.console.access.logins import (
    MAX_FAILURES,
    FailureBound,
    TokenFile,
    name_source,
)
from llmlog_consumer.console.access.proxy import ProxyLogin, parse_networks
from llmlog_consumer.console.access.roles import Role, parse_grants
from llmlog_consumer.console.app import PAGES
from support.fakes.console import (
    COOKIE,
    EVENT_ID,
    SECRET_TEXTS,
    SOURCE,
    URL,
    answer,
    browser,
    new_console,
)

TOKEN = "a-token-of-thirty-two-characters-"
SECRET = "a-secret-of-thirty-two-characters"
ROLE_SETS = [set(some) for n in range(len(Role) + 1) for some in combinations(Role, n)]
FROM_HERE = {"origin": URL}


def token_file(folder: Path, roles: str) -> TokenFile:
    path = folder / "tokens"
    path.write_text(f"# people\nada {roles} {TOKEN}\n")
    return TokenFile(path)


def log_in(client, token: str = TOKEN):
    return client.post("/login", data={"token": token}, headers=FROM_HERE)


def csrf_of(client) -> str:
    return re.search(r'"X-CSRF-Token": "([^"]+)"', client.get("/login-not-there").text)[1]


def logged_in(folder: Path, roles: str, **options):
    console = new_console(tokens=token_file(folder, roles), **options)
    client = browser(console)
    assert log_in(client).status_code == 303
    return console, client


def address_of(page) -> str:
    values = {
        "panel": "cost", "event_id": EVENT_ID, "topic": "t.dlq", "partition": "0", "offset": "1",
        "number": "none",
    }  # fmt: skip
    path = re.sub(r"\{(\w+)\}", lambda name: values[name[1]], page.path)
    return path + "?fingerprint=cd6f6273e49e"


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


# Logins


def test_the_link_opens_one_session_and_shows_the_next_link() -> None:
    shown: list[str] = []
    console = new_console(show=shown.append)
    console.links.renew()
    first = browser(console).get(f"/login?link={shown[0]}")
    assert (first.status_code, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert browser(console).get(f"/login?link={shown[0]}").status_code == 403
    assert len(shown) == 2
    assert browser(console).get(f"/login?link={shown[1]}").status_code == 303


@pytest.mark.parametrize("secret", ["", "x", "é", "a" * 43])
def test_a_link_that_was_guessed_opens_nothing(secret) -> None:
    shown: list[str] = []
    console = new_console(show=shown.append)
    console.links.renew()
    answer = browser(console).get("/login", params={"link": secret})
    assert "set-cookie" not in answer.headers
    assert len(shown) == 1


def test_a_token_opens_a_session_that_ends_with_its_line(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers")
    assert client.get("/calls").status_code == 200
    (tmp_path / "tokens").write_text(f"ada contents {TOKEN}\n")
    assert client.get("/calls").status_code == 403
    (tmp_path / "tokens").write_text("bob numbers another-token-of-thirty-two-characters\n")
    assert client.get("/calls").status_code == 303
    assert log_in(browser(console)).status_code == 403


def test_a_token_file_that_is_gone_or_broken_ends_its_sessions(tmp_path) -> None:
    _, client = logged_in(tmp_path, "numbers")
    (tmp_path / "tokens").write_text("nonsense\n")
    assert client.get("/calls").status_code == 303
    (tmp_path / "tokens").unlink()
    assert client.get("/calls").status_code == 303


def test_wrong_tokens_are_looked_at_ten_times_a_minute(tmp_path) -> None:
    client = browser(new_console(tokens=token_file(tmp_path, "numbers")))
    statuses = [log_in(client, f"wrong-{n}").status_code for n in range(MAX_FAILURES + 1)]
    assert statuses == [403] * MAX_FAILURES + [429]
    assert log_in(client).status_code == 429


def test_a_stranger_keeps_no_other_person_out_and_ends_no_session(tmp_path) -> None:
    console, known = logged_in(tmp_path, "numbers")
    stranger = browser(console, peer="203.0.113.9")
    for number in range(3 * MAX_FAILURES):
        log_in(stranger, f"wrong-{number}")
    assert log_in(stranger).status_code == 429
    assert known.get("/calls").status_code == 200
    assert log_in(browser(console, peer="203.0.113.10")).status_code == 303


def test_behind_a_proxy_that_is_believed_people_are_told_apart_by_its_word_alone(tmp_path) -> None:
    networks = parse_networks(["10.0.0.1"])
    proxy = ProxyLogin(parse_grants(["g=numbers"]), networks, SECRET)
    console = new_console(tokens=token_file(tmp_path, "numbers"), proxy=proxy)
    believed = {"x-llmlog-proxy-secret": SECRET}
    for peer, headers in (("10.0.0.1", believed), ("192.0.2.7", {})):
        client = browser(console, peer=peer)
        for number in range(MAX_FAILURES):
            made_up = {**headers, "x-forwarded-for": f"10.9.9.{number}, 203.0.113.9"}
            client.post("/login", data={"token": "x"}, headers=FROM_HERE | made_up)
        other = FROM_HERE | headers | {"x-forwarded-for": "203.0.113.10"}
        answer = client.post("/login", data={"token": TOKEN}, headers=other)
        assert answer.status_code == (303 if headers else 429)


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("", "socket"),
        ("x" * 9999, "socket"),
    ],
)
def test_a_source_is_an_address_or_a_network_of_one_household(address, source) -> None:
    assert name_source(address) == source


def test_the_bound_remembers_so_many_sources_and_forgets_after_a_minute() -> None:
    now = [0.0]
    bound = FailureBound(lambda: now[0], max_sources=2)
    for _ in range(MAX_FAILURES):
        bound.count("a")
    bound.count("b")
    assert bound.is_reached("a")
    now[0] = 60.0
    assert not bound.is_reached("a")
    now[0] = 59.0
    bound.count("c")
    assert not bound.is_reached("a"), "the oldest of three is forgotten"


def test_a_session_ends_when_the_person_logs_out(tmp_path) -> None:
    _, client = logged_in(tmp_path, "numbers")
    cookie = client.cookies[COOKIE]
    client.post("/logout", headers=FROM_HERE | {"x-csrf-token": csrf_of(client)})
    client.cookies.set(COOKIE, cookie)
    assert client.get("/calls").status_code == 303


@pytest.mark.parametrize("cookie", ["", "x", "a.b", "a.b.c", "é", '"'])
def test_a_cookie_that_was_not_signed_here_opens_nothing(tmp_path, cookie) -> None:
    console, client = logged_in(tmp_path, "numbers")
    name, signature = client.cookies[COOKIE].rsplit(".", 1)
    for value in (cookie, name, f"{name}.{signature[:-1]}", f"{name[:-1]}.{signature}"):
        raw = f"{COOKIE}={value}".encode()
        answer = browser(console).get("/calls", headers={"cookie": raw})
        assert answer.status_code == 303


# Proxies


def proxied(**options):
    options = {
        "grants": parse_grants(["staff=numbers", "leads=contents"]),
        "networks": parse_networks(["10.1.0.0/16"]),
        "secret": SECRET,
        **options,
    }
    return new_console(proxy=ProxyLogin(**options))


NAMED = {"x-forwarded-user": "ada", "x-forwarded-groups": "staff"}


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("10.1.2.3", NAMED | {"x-llmlog-proxy-secret": SECRET}, 200),
        ("10.1.2.3", NAMED, 303),
        ("10.1.2.3", NAMED | {"x-llmlog-proxy-secret": "wrong"}, 303),
        ("10.2.2.3", NAMED | {"x-llmlog-proxy-secret": SECRET}, 303),
        ("127.0.0.1", NAMED | {"x-llmlog-proxy-secret": SECRET}, 303),
        ("", NAMED | {"x-llmlog-proxy-secret": SECRET}, 303),
        ("10.1.2.3", {"x-forwarded-groups": "staff", "x-llmlog-proxy-secret": SECRET}, 303),
    ],
)
def test_a_proxy_is_believed_from_a_listed_address_with_the_secret_alone(
    peer, headers, status
) -> None:
    assert browser(proxied(), peer=peer).get("/calls", headers=headers).status_code == status


def test_over_a_unix_socket_a_proxy_is_believed_without_a_secret() -> None:
    console = proxied(networks=(), secret="", over_socket=True)
    assert browser(console).get("/calls", headers=NAMED).status_code == 200


@pytest.mark.parametrize("name", ["x-forwarded-user", "x-forwarded-email", "x-forwarded-groups"])
def test_a_header_that_a_proxy_sends_twice_is_refused(name) -> None:
    console = proxied(networks=(), secret="", over_socket=True)
    headers = [*NAMED.items(), (name, "a"), (name, "b")]
    assert browser(console).get("/calls", headers=headers).status_code == 400


def test_a_secret_that_is_sent_twice_is_not_believed() -> None:
    headers = [*NAMED.items(), ("x-llmlog-proxy-secret", SECRET), ("x-llmlog-proxy-secret", "x")]
    answer = browser(proxied(), peer="10.1.2.3").get("/calls", headers=headers)
    assert answer.status_code == 303


def test_an_unknown_group_has_no_role() -> None:
    console = proxied(networks=(), secret="", over_socket=True)
    for groups in ("", "other", "staff2", "STAFF", "staff leads"):
        headers = {"x-forwarded-user": "ada", "x-forwarded-groups": groups}
        assert browser(console).get("/calls", headers=headers).status_code == 403


# What is refused without its role


def test_without_the_right_to_contents_no_page_shows_any(tmp_path) -> None:
    _, client = logged_in(tmp_path, "numbers,replay", allow_replay=True)
    hidden = (*SECRET_TEXTS, "ada@example.org", "the-reason", "the-value")
    shown = 0
    for page in PAGES:
        if page.method == "GET":
            for headers in ({}, {"hx-request": "true"}):
                text = client.get(address_of(page), headers=headers).text
                shown += "gpt-4o" in text
                assert not [word for word in hidden if word in text], page.path
    assert shown > 3
    for name in ("text", "user", "end_user"):
        assert client.get(f"/calls/rows?{name}=x").status_code == 403
    assert client.get("/usage/cost?by=user").status_code == 403
    assert client.get("/usage/cost?user=ada").status_code == 403
    assert client.get("/usage/cost/csv?by=user").status_code == 403
    for path in ("/calls/rows", "/usage/cost", "/usage/cost/csv"):
        assert client.get(f"{path}?key=ada%40*").status_code == 403, "an address may not be guessed"


def test_contents_are_shown_as_text_and_it_is_written_down_before(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,contents")
    text = client.get(f"/calls/{EVENT_ID}/contents").text
    assert "the-prompt &lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script" not in text
    assert "<img" not in text
    assert "{{7*7}}" in text
    client.get(f"/calls/{EVENT_ID}/raw")
    client.get("/letters/one/t.dlq/0/1/contents")
    client.get("/calls/rows?text=wetter")
    assert console.audit.written == [
        ("ada", "contents", EVENT_ID),
        ("ada", "contents", EVENT_ID),
        ("ada", "contents", "t.dlq/0/1"),
        ("ada", "search", '{"text": "wetter"}'),
    ]


def test_what_cannot_be_written_down_is_refused(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,contents,replay", allow_replay=True)
    console.audit.is_down = True
    for path in (
        f"/calls/{EVENT_ID}/contents",
        f"/calls/{EVENT_ID}/raw",
        "/letters/one/t.dlq/0/1/contents",
        "/calls/rows?text=x",
    ):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "the audit topic cannot be written" in answer.text
        assert not [word for word in (*SECRET_TEXTS, "the-value") if word in answer.text]
    headers = FROM_HERE | {"x-csrf-token": csrf_of(client)}
    answer = client.post("/letters/replay?fingerprint=cd6f6273e49e", headers=headers)
    assert answer.status_code == 503
    assert console.searcher.bodies == []
    assert console.desk.replayed == []


def test_a_console_that_only_reads_replays_nothing(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,replay")
    headers = FROM_HERE | {"x-csrf-token": csrf_of(client)}
    answer = client.post("/letters/replay?fingerprint=cd6f6273e49e", headers=headers)
    assert answer.status_code == 403
    assert "--allow-replay" in answer.text
    assert client.post("/letters/dry-run?fingerprint=cd6f6273e49e", headers=headers).is_success
    assert (console.desk.replayed, console.audit.written) == ([], [])


def test_a_replay_is_written_down_with_its_person_and_cause(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,replay", allow_replay=True)
    headers = FROM_HERE | {"x-csrf-token": csrf_of(client)}
    client.post("/letters/replay?fingerprint=cd6f6273e49e", headers=headers)
    console.jobs.close()
    ((who, action, what),) = console.audit.written
    assert (who, action) == ("ada", "replay")
    assert "fingerprint=cd6f6273e49e" in what
    assert [wanted.fingerprint for wanted in console.desk.replayed] == ["cd6f6273e49e"]


ROWS = (
    "change=coerce&field=model&value=long&change=set&field=a.b&value=%3Cb%3E"
    "&change=set&field=&value="
)
MENDED = [("ada", "coerce model=long"), ("ada", 'set a.b="<b>"')]


def post(client, path, body):
    headers = FROM_HERE | {
        "x-csrf-token": csrf_of(client),
        "content-type": "application/x-www-form-urlencoded",
    }
    return client.post(f"{path}?fingerprint=cd6f6273e49e", content=body, headers=headers)


def test_a_letter_is_mended_and_it_is_written_down_with_its_changes(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,replay", allow_replay=True)
    answer = post(client, "/letters/replay", f"event_id={EVENT_ID}&scope=one&{ROWS}")
    assert answer.is_success
    console.jobs.close()
    assert console.audit.written[0][:2] == ("ada", "mend")
    assert console.audit.details == [{"changes": [words for _, words in MENDED]}]
    assert console.desk.mended == MENDED
    assert [wanted.event_id for wanted in console.desk.replayed] == [EVENT_ID]


def test_a_dry_run_carries_its_changes_to_the_replay_as_text(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,replay,contents", allow_replay=True)
    post(client, "/letters/dry-run", f"event_id={EVENT_ID}&scope=cause&{ROWS}")
    console.jobs.close()
    (job,) = console.jobs.list()
    text = client.get(f"/letters/jobs/{job.number}").text
    assert "Mend and replay" in text
    assert 'name="value" value="&lt;b&gt;"' in text
    assert "the-value" in text
    assert "event_id" not in text, "all letters of the cause were chosen"
    assert [action for _, action, _ in console.audit.written] == ["contents"]


@pytest.mark.parametrize(
    ("roles", "who"), [("numbers,replay", "ada"), ("numbers,replay,contents", "bob")]
)
def test_values_before_and_after_are_shown_to_the_one_who_has_opened_them(
    tmp_path, roles, who
) -> None:
    console, client = logged_in(tmp_path, roles, allow_replay=True)
    post(client, "/letters/dry-run", ROWS)
    console.jobs.close()
    (job,) = console.jobs.list()
    job.who = who
    text = client.get(f"/letters/jobs/{job.number}").text
    assert "coerce <code>model</code>" in text
    assert "the-value" not in text


@pytest.mark.parametrize(
    "rows",
    [
        "change=set&field=event_id&value=x",
        "change=drop&field=%40timestamp&value=",
        "change=coerce&field=startTime.x&value=long",
        "change=coerce&field=model&value=date",
        "change=eval&field=model&value=1",
        "event_id=../../x&change=set&field=model&value=1",
    ],
)
def test_a_change_that_cannot_be_is_refused_before_it_is_written_down(tmp_path, rows) -> None:
    console, client = logged_in(tmp_path, "numbers,replay", allow_replay=True)
    for path in ("/letters/dry-run", "/letters/replay"):
        answer = post(client, path, rows)
        assert (answer.status_code, 'role="alert"' in answer.text) == (400, True)
    assert (console.audit.written, console.desk.replayed) == ([], [])


def test_no_letter_is_mended_where_that_cannot_be_written_down(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers,replay", allow_replay=True)
    console.audit.is_down = True
    assert post(client, "/letters/replay", ROWS).status_code == 503
    assert console.desk.replayed == []


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


# Health


def test_the_findings_of_doctor_are_shown_as_text_with_what_mends_them(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers")
    assert 'hx-get="/health/findings?as=worker"' in client.get("/health?as=worker").text
    client.get("/health/findings?as=worker")
    console.jobs.close()
    text = client.get("/health/findings?as=worker").text
    assert "1 red" in text
    assert "mend it" in text
    assert "&lt;script&gt;" in text
    assert "<script>" not in text
    assert "see docs/configuration.md#kafka" in text
    console.runbook = "https://docs.example.org/"
    shown = client.get("/health/findings?as=worker").text
    assert 'href="https://docs.example.org/configuration.md#kafka"' in shown


def test_who_looks_again_sees_what_is_found_then(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers")
    found = [green("before"), green("after")]

    def examine_next(_user):
        yield from examine([Check("a", "?", (), lambda: found.pop(0))], {})

    console.examine = examine_next
    assert client.get("/health/json").json()["checks"][0]["seen"] == "before"
    assert client.get("/health/json").json()["checks"][0]["seen"] == "before"
    client.get("/health/findings?again=1")
    assert client.get("/health/json").json()["checks"][0]["seen"] == "after"


def test_a_program_gets_the_findings_as_doctor_prints_them(tmp_path) -> None:
    _, client = logged_in(tmp_path, "numbers")
    answer = client.get("/health/json?as=nobody-we-know")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["ok"] is False
    (check,) = answer.json()["checks"]
    assert (check["check"], check["asks"]) == ("topic.leaders", "operator?")


def test_checks_that_fail_as_a_whole_say_why_and_have_no_json(tmp_path) -> None:
    console, client = logged_in(tmp_path, "numbers")

    def fail(_user):
        raise ElasticsearchUnreachable("Elasticsearch at nowhere: refused")

    console.examine = fail
    answer = client.get("/health/json")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json() == {"error": "Elasticsearch at nowhere: refused"}
    assert "Elasticsearch at nowhere: refused" in client.get("/health/findings").text
