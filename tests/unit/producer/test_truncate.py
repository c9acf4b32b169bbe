"""Large binary content becomes a marker; texts that a person wrote stay."""

import base64
import hashlib
import json
import random

import pytest

from llmlog_common.settings import load
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EventBuilder
from llmlog_producer.events.snapshot import snapshot
from llmlog_producer.events.truncate import Truncator
from llmlog_schemas.codec import Decoder
from support.payloads import payload

RAW = random.Random(1).randbytes(3000)
BLOB = base64.b64encode(RAW).decode()
URL_SAFE = base64.urlsafe_b64encode(RAW).decode()
VECTOR = [random.Random(2).uniform(-1, 1) for _ in range(1536)]


class Message:
    def __init__(self, **fields):
        self.fields = fields

    def model_dump(self):
        return self.fields


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def truncate(value, **environ):
    given = {"response": value}
    environ = {f"LLMLOG_{name.upper()}": text for name, text in environ.items()}
    number = Truncator(load(environ=environ)).truncate(given)
    return given, number


def of_magic(start):
    return base64.b64encode(start + RAW).decode()


@pytest.mark.parametrize(
    ("value", "kind", "size", "digest"),
    [
        (BLOB, "base64", 3000, sha256(BLOB)),
        (URL_SAFE, "base64", 3000, sha256(URL_SAFE)),
        (f"data:image/png;base64,{BLOB}", "image/png", 3000, sha256(BLOB)),
        (f"data:text/plain;charset=utf-8,{'a ' * 600}", "text/plain", 1200, sha256("a " * 600)),
        (of_magic(b"\x89PNG"), "image/png", 3004, None),
        (of_magic(b"\xff\xd8\xff"), "image/jpeg", 3003, None),
        (of_magic(b"RIFF1234WAVE"), "audio/wav", 3012, None),
        (of_magic(b"RIFF1234WEBP"), "image/webp", 3012, None),
        (of_magic(b"ID3"), "audio/mpeg", 3003, None),
        (of_magic(b"%PDF"), "application/pdf", 3004, None),
    ],
)  # fmt: skip
def test_blobs_become_markers(value, kind, size, digest):
    given, number = truncate({"data": [{"b64_json": value}]})
    (marker,) = given["response"]["data"][0]["b64_json"].values()
    assert (marker["type"], marker["bytes"]) == (kind, size)
    assert digest is None or marker["sha256"] == digest
    assert number == 1
    assert given["llmlog_cut"] == {"places": 1, "fields": ["response.data.0.b64_json"]}


def test_a_vector_becomes_a_marker():
    given, _ = truncate({"data": [{"embedding": VECTOR}, {"embedding": VECTOR[:16]}]})
    first, second = given["response"]["data"]
    assert first["embedding"]["llmlog_cut"]["length"] == 1536
    assert first["embedding"]["llmlog_cut"]["type"] == "vector"
    assert second["embedding"] == VECTOR[:16]


def test_blobs_within_objects_are_found():
    given, number = truncate(
        [Message(content=[{"input_audio": {"data": BLOB}}], kept=1), BLOB.encode()]
    )
    message, raw = given["response"]
    assert message["content"][0]["input_audio"]["data"]["llmlog_cut"]["bytes"] == 3000
    assert message["kept"] == 1
    assert raw["llmlog_cut"]["bytes"] == 3000
    assert number == 2


def of_samples(*samples):
    """Return base64 of audio that repeats these samples."""
    return base64.b64encode(bytes(samples) * (3000 // len(samples))).decode()


WAV = b"RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00"


@pytest.mark.parametrize(
    ("silence", "kind"),
    [
        (of_samples(0), "base64"),  # 16 bits, or floats
        (of_samples(0, 0, 1, 0, 255, 255, 2, 0), "base64"),  # noise of one or two steps
        (of_samples(0x80), "base64"),  # 8 bits
        (of_samples(0xFF), "base64"),  # mu-law
        (of_samples(0xD5), "base64"),  # A-law
        (base64.b64encode(WAV + bytes(6000)).decode(), "audio/wav"),
        (base64.b64encode(bytes(3000) + RAW).decode(), "base64"),  # speech comes later
        (base64.encodebytes(bytes(3000)).decode(), "base64"),
        (base64.b64encode(b"\xff\xfb\x90\x64" + bytes(2000)).decode(), "audio/mpeg"),
    ],
)
def test_silent_audio_becomes_a_marker(silence, kind):
    given, number = truncate({"input_audio": {"data": silence, "format": "wav"}})
    assert number == 1
    assert given["response"]["input_audio"]["data"]["llmlog_cut"]["type"] == kind


@pytest.mark.parametrize(
    "value",
    [
        "-" * 3000, "=" * 3000, "haha" * 900, "0" * 3000, "lalala" * 500, "10" * 2000, "/a/b" * 500,
        "words and words " * 500, "x" * 5000, "ab" * 3000, BLOB[:1000], list(range(5000)),
        ["1.5"] * 500, "Grüße" * 500, f"look: {BLOB}", [0.5] * 100 + ["x"] * 100, {"a": None},
    ],
)  # fmt: skip
def test_texts_and_short_lists_stay(value):
    given, number = truncate(json.loads(json.dumps(value)))
    assert (given, number) == ({"response": value}, 0)


def test_an_object_in_a_field_of_a_plain_type_stays_one():
    given = {"litellm_call_id": Message(), "model": Message()}
    before = dict(given)
    assert Truncator(load(environ={})).truncate(given) == 0
    assert given == before


def test_binary_can_be_kept():
    value = [BLOB, VECTOR, f"data:image/png;base64,{BLOB}"]
    assert truncate(list(value), keep_binary="true") == ({"response": value}, 0)


def test_a_text_up_to_the_bound_stays_whole():
    given, number = truncate(["w " * 1000, "w " * 1000 + "x"], max_field_bytes="2000")
    assert given["response"][0] == "w " * 1000
    assert given["response"][1].startswith("w " * 1000 + "<cut: 2000 of 2001 characters")
    assert number == 1


def test_a_text_past_the_bound_keeps_its_beginning():
    text = "word " * 1000
    given, _ = truncate([text, "short"], max_field_bytes="2000")
    long, short = given["response"]
    assert long == f"{text[:2000]}<cut: 2000 of 5000 characters, sha256 {sha256(text)}>"
    assert short == "short"


def test_only_the_first_places_are_listed():
    given, number = truncate([BLOB] * 60)
    assert number == 60
    assert given["llmlog_cut"]["places"] == 60
    assert len(given["llmlog_cut"]["fields"]) == 50


def test_the_gateways_own_payload_is_not_changed():
    given = payload(1, messages=[{"content": [{"data": BLOB}]}])
    copy, _ = snapshot(given, without=frozenset())
    stats = Stats()
    item = EventBuilder(load(environ={}), stats).build(CapturedPayload(copy, "", 1.0))
    assert given["messages"][0]["content"][0]["data"] == BLOB
    event = Decoder().decode(item.value)
    extra = json.loads(event["document"])["extra"]
    assert extra["llmlog_cut"]["fields"] == ["messages.0.content.0.data"]
    assert stats.snapshot()["truncated"] == 1


@pytest.mark.parametrize("limit", [2000, 100_000, 300_000])
def test_an_event_never_exceeds_its_bound(limit):
    environ = {"LLMLOG_MAX_EVENT_BYTES": str(limit)}
    given = payload(1, messages="Some words. " * 120_000, metadata={"a": "b c " * 50_000})
    stats = Stats()
    item = EventBuilder(load(environ=environ), stats).build(CapturedPayload(given, "", 1.0))
    assert stats.snapshot()["truncated"] == 1
    event = Decoder().decode(item.value)
    assert len(item.value) <= limit
    assert json.loads(event["document"])["messages"]["llmlog_cut"]["bytes"] > 1_400_000
