"""What is secret is in no text."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.credentials import HIDDEN, hide, remember, why_unsendable
from llmlog_common.settings import load


@pytest.mark.parametrize(
    ("environ", "secret"),
    [
        ({"ELASTICSEARCH_API_KEY": "first-secret"}, "first-secret"),
        ({"ELASTICSEARCH_BEARER_AUTH": "token-secret"}, "token-secret"),
        ({"ELASTICSEARCH_URL": "http://me:url-secret@a:1"}, "url-secret"),
        ({"ELASTICSEARCH_URL": "http://me:url,comma-secret@a:1"}, "url,comma-secret"),
        ({"ELASTICSEARCH_URL": "http://me:url%40secret@a:1"}, "url@secret"),
        ({"ELASTICSEARCH_URL": "http://url-user-secret@a:1"}, "url-user-secret"),
        ({"SCHEMA_REGISTRY_URL": "http://me:registry-secret@a:1"}, "registry-secret"),
        ({"ELASTICSEARCH_HTTP_PROXY": "http://me:proxy-secret@p:3128"}, "proxy-secret"),
        ({"KAFKA_SASL_PASSWORD": 'it\'s "sasl" secret'}, 'it\'s "sasl" secret'),
        ({"KAFKA_CONSUMER_SSL_KEY_PASSWORD": "key-secret"}, "key-secret"),
        ({"KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": "client-secret"}, "client-secret"),
        ({"KAFKA_SSL_KEY_PEM": "pem-secret"}, "pem-secret"),
    ],
)
def test_the_secrets_of_settings_are_hidden_in_each_form(environ, secret):
    load(environ={f"LLMLOG_{name}": value for name, value in environ.items()})
    coded = repr(secret)[1:-1]
    assert secret not in hide(f"cannot send {secret!r}: {secret}, {coded}")
    assert coded not in hide(f"b'ApiKey {coded}\\n'")


def test_a_user_name_and_a_password_are_hidden_as_they_are_sent():
    environ = {"USERNAME": "me", "PASSWORD": "pass-secret"}
    load(environ={f"LLMLOG_ELASTICSEARCH_{name}": value for name, value in environ.items()})
    sent = base64.b64encode(b"me:pass-secret").decode()
    assert sent not in hide(f"Invalid header value b'Basic {sent}\\n'")


def test_a_secret_that_is_a_part_of_a_word_is_left_there():
    remember(["wombat"])
    assert hide("wombats, awombat, wombat:wombat@") == f"wombats, awombat, {HIDDEN}:{HIDDEN}@"


def test_a_text_of_no_secret_and_a_short_secret_change_nothing():
    remember(["x", "ab", ""])
    assert hide("x ab: a table") == "x ab: a table"


@given(st.text("ab-/", min_size=3, max_size=8), st.text("ab-/", max_size=40))
def test_a_secret_is_in_no_text_but_as_a_part_of_a_word(middle, text):
    secret = f"-{middle}/"
    remember([secret])
    assert secret not in hide(f"{text}{secret}{text}")


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a b", "a\tb", "é", "\x00", "a\x7f", "\u2028"])
def test_a_value_that_no_header_takes_is_told(value):
    assert why_unsendable(value).startswith("it holds a ")
    assert not why_unsendable("VnVhQ2ZHY0JDZGJr:U2VjcmV0=_-.~/+")
