"""Confluent framing by way of a registry: found, unknown, refused, away."""

import json
import socket
import time
from types import SimpleNamespace

import pytest

from llmlog_common.errors import ConfigurationError, Unreachable
from llmlog_common.settings import load
from llmlog_schemas.codec import DecodeError, Decoder, Encoder, UnknownSchemaError, schema_text
from llmlog_schemas.registry import ANSWER_SECONDS, Registry
from llmlog_schemas.registry_client import RenewingClient
from support.golden_events import EVENTS

SECRET = "Hunter2-do-not-print"


def registry_at(url, answer_seconds=ANSWER_SECONDS, **more):
    environ = {"LLMLOG_SCHEMA_REGISTRY_URL": url}
    environ |= {f"LLMLOG_SCHEMA_REGISTRY_{name.upper()}": value for name, value in more.items()}
    return Registry.from_settings(load(environ=environ), answer_seconds=answer_seconds)


@pytest.fixture
def registry():
    return registry_at("mock://")


@pytest.fixture
def closed_port():
    """A loopback port without a listener while the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


class Answering:
    """A client whose every call ends in this error."""

    def __init__(self, status=None, code=None):
        self.error = RuntimeError("what the server said" + "." * 9999)
        self.error.error_code = code
        if status is not None:
            self.error.http_status_code = status

    def register_schema(self, *_):
        raise self.error

    get_schema = register_schema


def test_without_a_setting_there_is_no_registry():
    assert Registry.from_settings(load(environ={})) is None


def test_what_was_registered_is_decoded(registry):
    schema_id = registry.register("litellm-logs")
    value = Encoder(schema_id).encode(EVENTS["full"])
    assert value[:5] == b"\x00" + schema_id.to_bytes(4, "big")
    assert Decoder(registry).decode(value) == EVENTS["full"]


def test_the_schema_is_registered_as_it_is_published(registry):
    schema_id = registry.register("litellm-logs")
    assert json.loads(registry.schema_text(schema_id)) == json.loads(schema_text())


def test_registering_again_is_the_same_id(registry):
    assert registry.register("litellm-logs") == registry.register("litellm-logs")


def test_both_framings_may_share_a_topic(registry):
    decoder = Decoder(registry)
    schema_id = registry.register("litellm-logs")
    for encoder in (Encoder(), Encoder(schema_id), Encoder()):
        assert decoder.decode(encoder.encode(EVENTS["extreme"])) == EVENTS["extreme"]


def test_an_unknown_id_is_a_dead_letter_and_no_outage(registry):
    registry.register("litellm-logs")
    value = Encoder(4711).encode(EVENTS["full"])
    with pytest.raises(DecodeError, match="knows no schema 4711"):
        Decoder(registry).decode(value)


def test_a_registry_that_is_away_is_asked_once(closed_port):
    """The callers retry, not the client: a worker has to stay in its group meanwhile."""
    registry = registry_at(f"http://127.0.0.1:{closed_port}")
    started = time.monotonic()
    with pytest.raises(Unreachable):
        registry.register("litellm-logs")
    with pytest.raises(Unreachable):
        Decoder(registry).decode(Encoder(1).encode(EVENTS["full"]))
    assert time.monotonic() - started < 5


def test_a_registry_that_never_answers_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        registry = registry_at(f"http://127.0.0.1:{silent.getsockname()[1]}", answer_seconds=0.2)
        with pytest.raises(Unreachable):
            registry.schema_text(1)


@pytest.mark.parametrize("status", [None, 408, 429, 500, 502, 503])
def test_an_error_that_may_pass_is_unreachable(status):
    with pytest.raises(Unreachable):
        Registry(Answering(status)).schema_text(1)


def test_an_id_that_the_registry_does_not_know_is_told_from_an_answer_of_something_else():
    with pytest.raises(UnknownSchemaError, match="http://sr knows no schema 1: check"):
        Registry(Answering(404, 40403), "http://me:p@ss@sr").schema_text(1)
    for code in (None, -1, 404):
        with pytest.raises(ConfigurationError, match="check LLMLOG_SCHEMA_REGISTRY_URL") as caught:
            Registry(Answering(404, code), "http://me:p@ss@sr").schema_text(1)
        assert "ss@" not in str(caught.value)
        assert len(str(caught.value)) < 400


def test_the_registry_is_asked_anew_each_time(registry):
    schema_id = registry.register("litellm-logs")
    registry.schema_text(schema_id)
    cleared = []

    class Client:
        def clear_caches(self):
            cleared.append(True)

        def get_schema(self, _):
            return SimpleNamespace(schema_str=schema_text())

    Registry(Client()).schema_text(1)
    assert cleared == [True]


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_configuration(status):
    with pytest.raises(ConfigurationError, match="what the server said"):
        Registry(Answering(status)).schema_text(1)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (None, Unreachable),
        (500, Unreachable),
        (503, Unreachable),
        (401, ConfigurationError),
        (409, ConfigurationError),
        (422, ConfigurationError),
    ],
)
def test_a_refused_registration_is_configuration(status, error):
    with pytest.raises(error, match="what the server said"):
        Registry(Answering(status)).register("litellm-logs")


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("", {}),
        ("localhost:8081", {}),
        (f"ftp://me:{SECRET}@localhost", {}),
        (f"http://me:{SECRET}@localhost", {"username": "me", "password": SECRET}),
        ("https://localhost", {"ca_certs": "/no/such/file.pem"}),
    ],
)
def test_a_setting_of_the_registry_that_is_wrong_is_named(url, more):
    with pytest.raises(ConfigurationError, match="schema_registry_") as caught:
        registry_at(url, **more)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("alone", ["username", "password"])
def test_credentials_go_together(alone):
    with pytest.raises(ConfigurationError, match="or neither") as caught:
        registry_at("http://localhost", **{alone: SECRET})
    assert SECRET not in str(caught.value)


class Guarded:
    """A client of a registry that accepts one password."""

    def __init__(self, settings, accepted):
        self.password = settings.schema_registry_password.get_secret_value()
        self.accepted = accepted

    def register_schema(self, *_):
        if self.password not in self.accepted:
            error = RuntimeError("no")
            error.http_status_code = 401
            raise error
        return 7


def test_a_password_is_read_again_from_its_file_when_the_registry_refuses_it(tmp_path):
    file = tmp_path / "password"
    file.write_text("one")
    environ = {"URL": "http://x:1", "USERNAME": "me", "PASSWORD_FILE": str(file)}
    settings = load(environ={f"LLMLOG_SCHEMA_REGISTRY_{name}": v for name, v in environ.items()})
    accepted = ["one"]
    registry = Registry(RenewingClient(settings, lambda now: Guarded(now, accepted)))
    assert registry.register("t") == 7
    accepted[:] = ["two"]
    file.write_text("two")
    assert registry.register("t") == 7
    accepted[:] = ["three"]
    with pytest.raises(ConfigurationError, match="refuses"):
        registry.register("t")
