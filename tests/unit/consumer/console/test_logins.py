"""Who is who: the one-time link, tokens, wrong ones, sessions, and proxies in front."""

from __future__ import annotations

import pytest

from llmlog_consumer.console.access.logins import (
    MAX_FAILURES,
    FailureBound,
    name_source,
)
from llmlog_consumer.console.access.proxy import ProxyLogin, parse_networks
from llmlog_consumer.console.access.roles import parse_grants
from support.fakes.console import (
    COOKIE,
    browser,
    new_console,
)
from support.fakes.console_login import (
    FROM_HERE,
    SECRET,
    TOKEN,
    csrf_of,
    log_in,
    logged_in,
    token_file,
)


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
