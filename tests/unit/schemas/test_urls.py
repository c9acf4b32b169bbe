"""URLs of servers: their parts, their credentials, and errors that quote nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.urls import ServerUrl, credentials_in, parse_urls, split_urls

SECRET = "Hunter2-do-not-print"


@pytest.mark.parametrize(
    ("text", "parts", "shown"),
    [
        ("http://a:9200", ("http", "a", 9200, "", None), "http://a:9200"),
        ("HTTPS://a", ("https", "a", 443, "", None), "https://a:443"),
        ("https://a/es/", ("https", "a", 443, "/es", None), "https://a:443/es"),
        ("http://[::1]:9200", ("http", "::1", 9200, "", None), "http://[::1]:9200"),
        ("http://me:pw@a:1", ("http", "a", 1, "", ("me", "pw")), "http://a:1"),
        ("http://me@a:1", ("http", "a", 1, "", ("me", "")), "http://a:1"),
        ("http://me:p,w@a:1", ("http", "a", 1, "", ("me", "p,w")), "http://a:1"),
        ("http://me:p@w@a:1", ("http", "a", 1, "", ("me", "p@w")), "http://a:1"),
        ("http://me:p:w@a:1", ("http", "a", 1, "", ("me", "p:w")), "http://a:1"),
        ("http://m%40e:p%2Fw%3F@a:1", ("http", "a", 1, "", ("m@e", "p/w?")), "http://a:1"),
        ("http://me:é@a:1", ("http", "a", 1, "", ("me", "é")), "http://a:1"),
    ],
)
def test_a_url_is_read_into_its_parts_and_shown_without_credentials(text, parts, shown):
    (url,) = parse_urls(text)
    assert url == ServerUrl(*parts)
    assert str(url) == shown
    assert "pw" not in repr(url)


def test_several_urls_are_separated_by_commas():
    assert split_urls("http://a:1, https://b:2 ,http://me:x,y@c:3") == [
        "http://a:1", "https://b:2", "http://me:x,y@c:3",
    ]  # fmt: skip
    assert [str(url) for url in parse_urls("http://a:1,http://me:,@b:2")] == [
        "http://a:1", "http://b:2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"me:{SECRET}@a:1",
        f"https//me:{SECRET}@a:1",
        f"http:/me:{SECRET}@a:1",
        f"//me:{SECRET}@a",
        f"ftp://me:{SECRET}@a:1",
        f"http://me:{SECRET}@a:port",
        f"http://me:{SECRET}@a",
        f"http://me:{SECRET}@a:0",
        f"http://me:{SECRET}@a:99999",
        f"http://me:{SECRET}@:1",
        f"http://me:{SECRET}@[::1:1",
        f"http://me:{SECRET}/x@a:1",
        f"http://me:{SECRET}?x@a:1",
        f"http://me:{SECRET}#x@a:1",
        f"http://a:1/?api_key={SECRET}",
        f"http://a:1#{SECRET}",
        f"http://a:1,b:2,{SECRET}",
        f"http://a b{SECRET}:1",
        "http://a:" + "9" * 5000,
    ],
)
def test_a_url_that_cannot_be_used_is_refused_and_not_quoted(text):
    with pytest.raises(ValueError, match=r"URL|IPv6|an @") as caught:
        parse_urls(text)
    assert SECRET not in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.text(st.sampled_from("ahtps:/@,.[]%?#19é \n"), max_size=30))
def test_any_text_is_a_url_or_refused(text):
    list(credentials_in(text))
    try:
        urls = parse_urls(text)
    except ValueError:
        return
    assert all(parse_urls(str(url))[0].host == url.host for url in urls)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("http://a:1", []),
        ("http://me:x,y@a:1,http://b:1,https://you@c", [("me", "x,y"), ("you", "")]),
        ("http://me:a/b@a:1", [("me", "a/b")]),
    ],
)
def test_credentials_are_found_whatever_else_is_wrong(text, pairs):
    assert list(credentials_in(text)) == pairs
