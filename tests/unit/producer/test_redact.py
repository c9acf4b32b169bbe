"""What must not leave the gateway: no planted secret survives, whatever is around it."""

import json
import string
import sys
import types
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlog_common.errors import ConfigurationError
from llmlog_common.settings import load
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EventBuilder
from llmlog_producer.events.redact import Redactor
from llmlog_producer.events.secrets import MAX_LOOKS, Looks, hide_secrets, is_secret_name
from llmlog_producer.events.secrets_in_json import may_hold_secret
from llmlog_producer.events.snapshot import snapshot
from llmlog_schemas.codec import Decoder
from llmlog_schemas.json_form import dumps
from llmlog_schemas.limits import REDACTED
from support import former_secret_forms
from support.payloads import payload

PLANTED = "Zq7Hx2Kw9Lm4Nb6Vc8Rt3Yp5"
FORMS = [
    f"sk-{PLANTED}", f"sk-proj-{PLANTED}", f"sk-ant-api03-{PLANTED}", f"sk_live_{PLANTED}",
    f"rk_test_{PLANTED}", f"AIza{PLANTED}{PLANTED}", f"ghp_{PLANTED}", f"github_pat_{PLANTED}",
    f"glpat-{PLANTED}", f"hf_{PLANTED}", f"gsk_{PLANTED}", f"xai-{PLANTED}", f"pplx-{PLANTED}",
    f"xoxb-1234-{PLANTED}", f"npm_{PLANTED}{PLANTED}", f"pypi-{PLANTED}{PLANTED}",
    f"ya29.{PLANTED}", f"SG.{PLANTED}.{PLANTED}", f"eyJhbGciOi.{PLANTED}.{PLANTED}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{PLANTED}\n-----END RSA PRIVATE KEY-----",
    f"Bearer {PLANTED}", f"bearer {PLANTED}", f"Bearer\n{PLANTED}", f"Basic {PLANTED}==",
    f"https://user:{PLANTED}@host/path", f"https://host/?api_key={PLANTED}&x=1",
    f"api_key={PLANTED}", f"password: {PLANTED}", f'{{"token": "{PLANTED}"}}',
    f"{{'x-api-key': '{PLANTED}'}}", f'"authorization": "Bearer {PLANTED}"',
    json.dumps({"arguments": json.dumps({"secret": PLANTED})}),
]  # fmt: skip
NAMES = [
    "api_key", "x-api-key", "Api-Key", "apiKey", "OPENAI_API_KEY", "authorization",
    "Proxy-Authorization", "cookie", "set-cookie", "password", "db_password", "clientSecret",
    "client_secret", "access_token", "refreshToken", "aws_secret_access_key", "private_key",
    "aws_session_token", "ocp-apim-subscription-key", "vertex_credentials", "X-Auth-Token", "jwt",
    "x-goog-api-key", "azure_ad_token", "connectionString",
]  # fmt: skip
HARMLESS = [
    "user_api_key_hash", "user_api_key_alias", "total_tokens", "max_tokens", "cache_key",
    "prompt_tokens_details", "author", "authors", "keyboard", "secretary", "model", "key",
]  # fmt: skip


def build(given, **environ):
    """Return a payload's event in two forms: the bytes that are written, and the document."""
    settings_ = load(environ={f"LLMLOG_{name.upper()}": value for name, value in environ.items()})
    copy, _ = snapshot(given, without=frozenset())
    item = EventBuilder(settings_, Stats()).build(CapturedPayload(copy, "", 1_800_000_000.0))
    event = Decoder().decode(item.value)
    return item.value.decode("utf-8", "replace"), json.loads(event["document"])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_hidden_and_the_text_around_it_stays(form):
    hidden = hide_secrets(f"before {form} after")
    assert PLANTED not in hidden
    assert hidden.startswith("before ")
    assert REDACTED in hidden
    assert may_hold_secret(dumps(f"before\n{form}\nafter"))


@pytest.mark.parametrize("name", NAMES)
def test_names_that_hold_a_secret_are_found(name):
    assert is_secret_name(name)
    assert may_hold_secret(dumps({name: "x"}))


@pytest.mark.parametrize("name", HARMLESS)
def test_names_that_hold_no_secret_are_kept(name):
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "Summarise the task-oriented risk-adjusted report on basic tokens.",
        "The token: a word. The secret: none. A password is needed; key = value.",
        "https://example.org:8080/path?page=2#part",
        "disk-usage and ask-me-anything",
    ],
)
def test_prose_stays_as_it_is(text):
    assert hide_secrets(text) == text


PLACES = [
    "messages", "response", "metadata", "error_str", "error_information", "hidden_params",
    "model_parameters", "model", "end_user", "api_base", "user_agent", "request_tags", "trace_id",
    "cache_key", "litellm_call_id", "a_field_of_tomorrow", "guardrail_information", "call_type",
    "startTime", "total_tokens", "status", "id",
]  # fmt: skip

texts = st.text(st.sampled_from(string.printable + "äß🌍\u2028\ud800"), max_size=12)
hashables = texts | st.integers() | st.none()


class Dumped:
    def __init__(self, inner):
        self.inner = inner

    def model_dump(self):
        return {"inner": self.inner}


class Spoken:
    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return f"<Spoken {self.inner!r}>"


def embedded(form):
    """Wrap a secret in whatever objects hold one."""
    here = (
        st.just(form)
        | st.builds(lambda a, b: f"{a} {form} {b}", texts, texts)
        | st.just(form.encode())
        | st.just({form: 1})
        | st.just(RuntimeError(form))
    )
    return st.recursive(
        here,
        lambda inner: (
            st.tuples(texts, inner).map(list)
            | st.tuples(inner, texts)
            | st.builds(lambda key, value: {key: value, "x": 1}, hashables, inner)
            | inner.map(Dumped)
            | inner.map(lambda value: json.dumps(value, default=repr))
        ),
        max_leaves=3,
    )


planted = st.sampled_from(FORMS).flatmap(embedded) | st.builds(
    lambda name, value: {name: value},
    st.sampled_from(NAMES),
    st.sampled_from([PLANTED, [PLANTED], {"a": {"b": PLANTED}}, PLANTED.encode()]),
).flatmap(lambda held: st.sampled_from([held, [held], {"deeper": (held,)}, Dumped(held)]))


@settings(max_examples=400)
@given(st.sampled_from(PLACES), planted, st.booleans(), texts)
def test_no_planted_secret_survives_anywhere(place, secret, failed, around):
    given_ = payload(10 if failed else 1, end_user=around)
    given_[place] = secret
    written, _ = build(given_)
    assert PLANTED not in written
    assert PLANTED.lower() not in written.lower()


@settings(max_examples=300)
@given(st.sampled_from(FORMS), texts, texts)
def test_the_fast_search_misses_nothing(form, before, after):
    text = f"{before}{form}{after}"
    if hide_secrets(text) != text:
        assert may_hold_secret(dumps({"a": [text]}))


PIECES = [
    "api", "key", "id", "secret", "access", "private", "Token", "tokens", "auth", "Authorization",
    "bearer", "Basic", "pass", "word", "passwd", "phrase", "pwd", "cookie", "credential", "s",
    "connection", "string", "jwt", "sig", "nature", "value", "header", "subscription", "signing",
    "sk", "rk", "live", "gh", "p", "github", "pat", "hf", "xox", "b", "eyJ", "AKIA", "dapi", "ya29",
    "SG", "npm", "pypi", "glpat", "://u", "-----BEGIN ", "PRIVATE KEY-----", PLANTED, "f00d" * 8,
    "1", "x", "\u00e4", "\ud800",
]  # fmt: skip
JOINS = ["", "_", "-", ".", " ", ":", "=", "%3D", "%20", "+", '"', "'", "\\", "@", "\n", "\t", "\v",
         "\x1c", ": ", '": "', "': '"]  # fmt: skip
cased = st.builds(
    lambda piece, change: change(piece),
    st.sampled_from(PIECES), st.sampled_from([str, str, str.lower, str.upper, str.swapcase]),
)  # fmt: skip
built = st.lists(st.tuples(cased, st.sampled_from(JOINS)).map("".join), max_size=8).map("".join)


def test_the_fast_search_finds_secrets_that_look_like_a_flag():
    for hidden in ("token='false',", "token: false}f00d", '"token":"false"', '"token":false}f00d'):
        assert hide_secrets(hidden) != hidden
        for holder in (hidden, {hidden: 1}, {"x": json.dumps({"a": hidden})}):
            assert may_hold_secret(dumps(holder)), hidden
    for word in ("false", "true", "null"):
        assert may_hold_secret(dumps({"token": word}))
        assert may_hold_secret(dumps({"token": [None]}))
        assert may_hold_secret(dumps({"token": False, "password": 5}))


@pytest.mark.parametrize("flag", [False, True, None])
def test_a_flag_holds_no_secret(flag):
    for holder in ({"used_client_oauth_token": flag}, {"a": {"token": flag, "b": 1}}):
        assert not may_hold_secret(dumps(holder))
        assert Redactor(load(environ={})).scrub(holder) == holder


quotes = st.builds(
    lambda number, quote: "\\" * number + quote, st.integers(0, 9), st.sampled_from("'\"")
)
pairs = st.builds(
    lambda name, join, open_, inner, close: f"{name}{join}{open_}{inner}{close}",
    st.sampled_from(["pwd", "apiKey", "Token", "access_key_id", "sig", "x"]),
    st.sampled_from([":", "=", " : ", "%3D", '": ', '\\": ', "\t=\n"]),
    quotes,
    st.lists(quotes | st.sampled_from(["a", PLANTED, " ", "\n", "pwd:'", "w" * 8180]), max_size=5)
    .map("".join),
    quotes | st.just(""),
)  # fmt: skip


@settings(max_examples=1000)
@given(built | st.lists(pairs | built, max_size=4).map("".join))
def test_what_the_former_patterns_hid_is_hidden(text):
    assert hide_secrets(text) == former_secret_forms.hide_secrets(text)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("at", [65_500, 65_530, 65_536, 131_060, 131_072])
def test_a_secret_across_the_border_of_two_windows_is_hidden(form, at):
    for before in (at - len(form), at - len(form) // 2, at):
        text = f"{'word ' * (before // 5)}{'-' * (before % 5)} {form} and more{' words' * 20_000}"
        assert hide_secrets(text) == former_secret_forms.hide_secrets(text)


def test_the_fast_search_finds_a_secret_across_the_border_of_two_windows():
    for before in (262_144 - 40, 262_144 - 10, 262_144, 300_000):
        text = "w " * (before // 2)
        assert may_hold_secret(dumps(f"{text}sk-{PLANTED} {'w ' * 200_000}"))
        assert not may_hold_secret(dumps(f"{text}{'w ' * 200_000}"))


@given(built, st.integers(0, 12), st.booleans())
def test_what_is_not_searched_is_cut_and_never_left_in(text, number, has_quotes):
    form = f"'sk-{PLANTED}'" if has_quotes else f"token={PLANTED}"
    around = text.replace(PLANTED, "")
    whole = hide_secrets(f"{around} {form} {around}")
    kept = hide_secrets(f"{around} {form} {around}", Looks(number))
    assert PLANTED in whole or PLANTED not in kept
    assert kept == whole or "not searched for secrets" in kept


def test_the_looks_of_a_payload_are_bounded_whatever_is_in_it():
    unit = f"token={PLANTED} "
    messages = [{"role": "user", "content": unit * 5_000} for _ in range(2 * MAX_LOOKS // 5_000)]
    written, document = build(payload(1, messages=messages, error_str=f"sk-{PLANTED}"))
    assert PLANTED not in written
    assert document["messages"][0]["content"] == f"token={REDACTED} " * 5_000
    assert document["messages"][-1]["content"].startswith("<cut: ")
    assert len(document["messages"]) == len(messages)


@pytest.mark.parametrize("at", range(65_520, 65_544, 3))
def test_the_fast_search_finds_a_key_with_nul_in_it_across_two_windows(at):
    for name in ("api\0\0key", "\0" * 9_000 + "pass\0word", "s" + "\0" * 20_000 + "ecret"):
        json = b'{"' + b"w" * at + b'":1,' + dumps({name: "x"})[1:]
        assert may_hold_secret(json)
        assert not may_hold_secret(json.replace(b"ey", b"").replace(b"w", b"v").replace(b"t", b""))


@pytest.mark.parametrize(
    ("quote", "hidden"), [("'", 0), ("\\" * 63 + "'", 0), ("\\" * 99 + "'", 8192)]
)
def test_what_follows_an_open_quote_of_no_known_depth_is_hidden_up_to_a_bound(quote, hidden):
    text = f"pwd:{quote}{'x ' * 5000}"
    kept = hide_secrets(text)
    assert kept == (f"pwd:{quote}{REDACTED}{quote}{text[-10_000 + hidden :]}" if hidden else text)


def test_a_key_whose_end_is_far_is_hidden_with_all_that_follows():
    key = f"-----BEGIN PRIVATE KEY-----{'x ' * 9000}-----END PRIVATE KEY----- and more"
    assert hide_secrets(f"look: {key}") == f"look: {REDACTED}"
    assert hide_secrets(f"look: {key.replace('x ' * 9000, 'x')}") == f"look: {REDACTED} and more"


@settings(max_examples=3000)
@given(built)
def test_the_fast_search_misses_no_text_and_no_name(text):
    if hide_secrets(text) != text:
        for holder in (text, [text, "x"], {text: 1}, {"x": json.dumps({"a": [text]})}):
            assert may_hold_secret(dumps(holder))
    if is_secret_name(text):
        for holder in ({text: "x"}, [{"a": {text: ["x"]}}]):
            assert may_hold_secret(dumps(holder))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("around", ["", "x-", "_", "a.b "])
@pytest.mark.parametrize("more", ["", "_value", "-header", " Value"])
def test_the_fast_search_finds_every_name_in_every_case(name, around, more):
    for spelling in (name, name.upper(), name.lower()):
        whole = f"{around}{spelling}{more}"
        if is_secret_name(whole):
            assert may_hold_secret(dumps({"messages": [{whole: 1}]}))
            assert may_hold_secret(dumps({"messages": json.dumps({whole: 1})}))


def test_the_fast_search_lets_usual_payloads_pass():
    """Otherwise every payload would be walked."""
    for seed in range(20):
        usual = payload(seed, error_str="the basic limit of tokens is reached")
        usual["metadata"] = {**usual["metadata"], "used_client_oauth_token": False}
        assert not may_hold_secret(dumps(usual))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("more", [50, 100_000])
def test_a_truncated_text_ends_with_no_half_of_a_secret(form, more):
    before, after = "word " * 4000, " and more" * more
    for at in range(1, len(form)):
        given = {"response": f"{before}{form}{after}"}
        kept = build(given, max_field_bytes=str(len(before) + at))[1]["response"]
        assert not any(PLANTED[n : n + 8] in kept for n in range(len(PLANTED) - 8))


def test_a_truncated_text_keeps_all_up_to_its_bound():
    given = {"response": "a word, " * 4000}
    kept = build(given, max_field_bytes="20000")[1]["response"]
    assert kept.startswith(("a word, " * 4000)[:20_000] + "<cut: 20000 of 32000 characters")


class Named(Enum):
    KEY = "api_key"


@pytest.mark.parametrize("place", ["metadata", "response", "other"])
@pytest.mark.parametrize("name", [Named.KEY, "api\0_key", "\0token", "password\0"])
def test_a_secret_name_is_found_in_the_form_that_the_document_has(place, name):
    written, _ = build({place: {name: "hunter 2"}})
    assert "hunter 2" not in written


def test_a_secret_as_a_key_is_hidden():
    written, _ = build(payload(1, metadata={f"sk-{PLANTED}": 1}))
    assert PLANTED not in written


def test_the_tokens_of_logprobs_stay():
    response = {"logprobs": [{"token": "Hello", "logprob": -0.1}], "api_key": "sk-12345678"}
    _, document = build(payload(1, response=response))
    assert document["response"]["logprobs"] == [{"token": "Hello", "logprob": -0.1}]
    assert document["response"]["api_key"] == REDACTED


def test_the_rest_of_an_event_with_a_secret_stays_as_it_is():
    usual = payload(1, startTime=1_800_000_000.25, total_tokens="12", response_cost=float("nan"))
    _, clean = build(usual)
    _, with_secret = build({**usual, "metadata": {**usual["metadata"], "password": PLANTED}})
    assert with_secret["metadata"].pop("password") == REDACTED
    assert with_secret == clean


@pytest.mark.parametrize(
    ("one", "other", "hidden"),
    [("sk-11111111", "sk-22222222", {}), ("a", "b", {"redact_fields": "litellm_call_id"}),
     ("a", "b", {"redact_keys": "litellm_call_id"})],
)  # fmt: skip
def test_calls_that_look_alike_when_their_ids_are_hidden_stay_two_events(one, other, hidden):
    ids, environ = set(), {f"LLMLOG_{name.upper()}": value for name, value in hidden.items()}
    builder = EventBuilder(load(environ=environ), Stats())
    for call_id in (one, other, one):
        copy, _ = snapshot(payload(1, litellm_call_id=call_id), without=frozenset())
        event = Decoder().decode(builder.build(CapturedPayload(copy, "", 1_800_000_000.0)).value)
        assert event["litellm_call_id"] != call_id
        ids.add(event["event_id"])
    assert len(ids) == 2


def test_secrets_can_be_kept():
    written, _ = build(payload(1, metadata={"password": PLANTED}), redact_secrets="false")
    assert PLANTED in written


@pytest.mark.parametrize("seed", [1, 10], ids=["success", "failure"])
@pytest.mark.parametrize("mode", ["mask", "drop"])
def test_redacted_messages_are_redacted_in_errors_too(seed, mode):
    content = [{"role": "user", "content": [{"type": "text", "text": PLANTED}]}]
    given_ = payload(
        seed, messages=content, response={"choices": [{"message": {"content": PLANTED}}]},
        error_str=f"refused: {PLANTED}", error_information={"error_message": PLANTED},
    )  # fmt: skip
    written, document = build(given_, redact_messages=mode, redact_response=mode)
    assert PLANTED not in written
    if mode == "mask":
        assert document["messages"] == [
            {"role": "user", "content": [{"type": "text", "text": REDACTED}]}
        ]
        assert document["error_information"] == {"error_message": REDACTED}
    else:
        assert document["messages"] == REDACTED
    assert document["error_str"] == REDACTED
    assert document["extra"]["llmlog_redacted"] == [
        "messages", "response", "error_str", "error_information",
    ]  # fmt: skip
    assert given_["messages"] is content, "the gateway's own payload is not changed"
    assert content[0]["content"][0]["text"] == PLANTED


def test_errors_can_be_kept_while_messages_are_not():
    _, document = build(
        payload(10, error_str="rate limited"), redact_messages="drop", redact_error_str="keep"
    )
    assert document["error_str"] == "rate limited"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.a.b", {"a": {"b": REDACTED, "c": "2"}, "l": [{"b": "3"}], "x.y": "4"}),
        ("metadata.a", {"a": REDACTED, "l": [{"b": "3"}], "x.y": "4"}),
        ("metadata.*.b", {"a": {"b": REDACTED, "c": "2"}, "l": [{"b": "3"}], "x.y": "4"}),
        ("metadata.l.*.b", {"a": {"b": "1", "c": "2"}, "l": [{"b": REDACTED}], "x.y": "4"}),
        ("metadata.l.0.b", {"a": {"b": "1", "c": "2"}, "l": [{"b": REDACTED}], "x.y": "4"}),
        ("metadata.x.y", {"a": {"b": "1", "c": "2"}, "l": [{"b": "3"}], "x.y": REDACTED}),
        ("metadata.none", {"a": {"b": "1", "c": "2"}, "l": [{"b": "3"}], "x.y": "4"}),
        ("metadata.a.c.d", {"a": {"b": "1", "c": "2"}, "l": [{"b": "3"}], "x.y": "4"}),
    ],
)
def test_fields_are_redacted_by_their_paths(path, expected):
    metadata = {"a": {"b": "1", "c": "2"}, "l": [{"b": "3"}], "x.y": "4"}
    _, document = build(payload(1, metadata=metadata), redact_fields=f"{path}, none.at.all")
    assert document["metadata"] == expected


def test_a_dotted_key_is_found_beside_a_shorter_one():
    metadata = {"a": {"z": "1"}, "a.b": PLANTED, "a.b.c": PLANTED}
    _, document = build(payload(1, metadata=metadata), redact_fields="metadata.a.b")
    assert document["metadata"] == {"a": {"z": "1"}, "a.b": REDACTED, "a.b.c": PLANTED}


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("metadata.*.name", {"team.name", "a.name"}),
        ("metadata.team.*", {"team.name", "team.id"}),
        ("metadata.*.*", {"team.name", "team.id", "a.name"}),
        ("metadata.*", {"team.name", "team.id", "a.name", "team.name.first"}),
        ("metadata.*.*.first", {"team.name.first"}),
    ],
)
def test_a_star_stands_for_a_part_of_a_dotted_key_too(path, hidden):
    names = ("team.name", "team.id", "a.name", "team.name.first")
    metadata = dict.fromkeys(names, PLANTED)
    _, document = build(payload(1, metadata=metadata), redact_fields=path)
    assert {name for name in names if document["metadata"][name] == REDACTED} == hidden


@pytest.mark.parametrize("name", ["x-employee", "authorization"])
def test_the_whole_value_under_a_hidden_key_is_redacted(name):
    held = {"type": PLANTED, "role": PLANTED, PLANTED: [{"object": PLANTED}]}
    written, document = build(payload(1, metadata={name: held}), redact_keys="x-employee")
    assert PLANTED not in written
    assert document["metadata"] == {name: REDACTED}


def test_keys_are_redacted_anywhere_in_any_case():
    metadata = {"headers": {"X-Employee": PLANTED}, "deep": [{"x-employee": [PLANTED]}]}
    written, document = build(payload(1, metadata=metadata), redact_keys="x-employee")
    assert PLANTED not in written
    assert document["metadata"]["headers"] == {"X-Employee": REDACTED}


@pytest.fixture
def function(monkeypatch):
    """Name a redaction function of the user's."""

    def name_it(function):
        module = types.ModuleType("users_redaction")
        module.function = function
        monkeypatch.setitem(sys.modules, "users_redaction", module)
        return "users_redaction.function"

    return name_it


def test_the_event_is_what_a_users_function_returns(function):
    def without_names(given_):
        given_["end_user"] = "anonymous"
        return given_

    _, document = build(payload(1, end_user="eve"), redact_function=function(without_names))
    assert document["end_user"] == "anonymous"


def test_a_secret_that_a_users_function_adds_is_hidden(function):
    def with_secret(given_):
        return given_ | {"end_user": f"sk-{PLANTED}"}

    written, document = build(payload(1), redact_function=function(with_secret))
    assert PLANTED not in written
    assert document["end_user"] == REDACTED


def test_a_users_function_that_raises_costs_the_content_and_not_the_event(function, caplog):
    def fails(given_):
        raise ValueError(f"cannot read {given_}")

    for wrong in (fails, lambda given_: None, lambda given_: "text"):
        given_ = payload(10, error_str=PLANTED, messages=[{"content": PLANTED}], tomorrow=PLANTED)
        written, document = build(given_, redact_function=function(wrong))
        assert PLANTED not in written
        assert given_["litellm_call_id"] in written
        assert "messages" not in document
        assert document["extra"] == {"llmlog_redacted": ["everything: redaction failed"]}
    assert PLANTED not in caplog.text


@pytest.mark.parametrize("path", ["none.such", "json.none", "json.decoder", "x", "json"])
def test_a_path_that_names_no_function_is_a_wrong_setting(path):
    with pytest.raises(ConfigurationError, match="LLMLOG_REDACT_FUNCTION"):
        build({}, redact_function=path)


@pytest.mark.parametrize(
    ("mode", "error_information", "messages"),
    [
        ("keep", {"error_message": "why"}, [{"role": "user", "content": "what"}]),
        ("mask", {"error_message": REDACTED}, [{"role": "user", "content": REDACTED}]),
        ("drop", {}, REDACTED),
    ],
)
def test_each_mode_does_to_a_field_what_its_name_says(mode, error_information, messages):
    given_ = {
        "error_information": {"error_message": "why"},
        "messages": [{"role": "user", "content": "what"}],
        "model": "m",
    }
    modes = {"LLMLOG_REDACT_MESSAGES": mode, "LLMLOG_REDACT_ERROR_INFORMATION": mode}
    redacted = Redactor(load(environ=modes)).redact(given_)
    assert redacted["error_information"] == error_information
    assert redacted["messages"] == messages
    assert redacted["model"] == "m"
    assert ("llmlog_redacted" in redacted) == (mode != "keep")


@pytest.mark.parametrize(
    ("messages", "response", "error"),
    [
        ("keep", "keep", "why"),
        ("keep", "mask", REDACTED),
        ("drop", "mask", {}),
        ("mask", "drop", {}),
    ],
)
def test_errors_have_the_stricter_mode_of_messages_and_response(messages, response, error):
    modes = {"LLMLOG_REDACT_MESSAGES": messages, "LLMLOG_REDACT_RESPONSE": response}
    redactor = Redactor(load(environ=modes))
    redacted = redactor.redact({"error_information": "why", "error_str": "why"})
    assert redacted["error_information"] == error
    assert redacted["error_str"] == ("why" if error == "why" else REDACTED)


def test_an_unknown_mode_is_refused_and_masks_nothing():
    unknown = load(environ={}).model_copy(update={"redact_response": "hash"})
    with pytest.raises(ConfigurationError, match=r"'hash'.*keep, mask, drop"):
        Redactor(unknown)


def _repeating():
    """Return a payload that repeats in other fields what was asked and answered."""
    found = {"data": [{"content": [{"text": f"both {PLANTED}"}]}]}
    guardrail = {
        "guardrail_name": "pii", "guardrail_request": {"messages": f"both {PLANTED}"},
        "guardrail_response": [{"text": f"both {PLANTED}"}], "match_details": f"both {PLANTED}",
    }  # fmt: skip
    return payload(
        1, messages=[], response={}, guardrail_information=[guardrail],
        metadata={
            "mcp_tool_call_metadata": {
                "name": "find", "arguments": {"q": f"asked {PLANTED}"},
                "result": {"content": [{"text": f"answered {PLANTED}"}]},
            },
            "vector_store_request_metadata": [
                {"query": f"asked {PLANTED}", "vector_store_search_response": found},
            ],
            "prompt_management_metadata": {
                "prompt_id": "p", "prompt_variables": {"name": f"asked {PLANTED}"},
            },
        },
        model_parameters={
            "temperature": 0.5, "instructions": f"asked {PLANTED}", "query": f"asked {PLANTED}",
            "documents": [f"asked {PLANTED}"], "suffix": f"asked {PLANTED}",
            "prediction": {"type": "content", "content": f"asked {PLANTED}"},
        },
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["mask", "drop"])
@pytest.mark.parametrize(
    ("hidden", "left"),
    [
        ({"redact_messages"}, {"answered"}),
        ({"redact_response"}, {"asked"}),
        ({"redact_messages", "redact_response"}, set()),
    ],
)
def test_what_repeats_a_hidden_field_is_hidden_too(hidden, left, mode):
    written, document = build(_repeating(), **dict.fromkeys(hidden, mode))
    assert {
        word for word in ("asked", "answered", "both") if f"{word} {PLANTED}" in written
    } == left
    assert document["model_parameters"]["temperature"] == 0.5
    assert document["metadata"]["mcp_tool_call_metadata"]["name"] == "find"
    assert document["guardrail_names"] == ["pii"]


def test_what_repeats_a_kept_field_is_kept():
    written, document = build(_repeating(), redact_error_str="drop")
    assert all(f"{word} {PLANTED}" in written for word in ("asked", "answered", "both"))
    assert "llmlog_redacted" not in document.get("extra", {})
