"""Bytes that are on people's topics are read for ever, and written the same for ever."""

import hashlib
import json
import math
from importlib import resources
from pathlib import Path

import pytest

from llmlog_schemas import framing as wire
from llmlog_schemas.codec import (
    CURRENT_VERSION,
    Decoder,
    Encoder,
    current_fingerprint,
    fingerprint_of,
    schema_text,
)
from support.golden_events import EVENTS

GOLDEN = Path(__file__).parent / "golden"

# Of each published version: the fingerprint on the wire, and the SHA-256 of the whole file
# (a fingerprint sees neither defaults nor documentation).
PUBLISHED = {
    1: (
        0x1FA9DCB9F01BDECB,
        "4d7c4df8a2428e61b0e70f860c90fa241fda6b41ce571863c04264528259ff68",
    ),
    2: (
        0x3B114CB1D02FEF41,
        "28563807356f0a2cdae2c70a5f7acbd375ab0a7ebc68efa7d2383f8644c336a4",
    ),
}


def golden(version):
    """Return the recorded values of a version by their names."""
    values = {}
    for line in (GOLDEN / f"llm_event.v{version}.hex").read_text().splitlines():
        if line.startswith("["):
            name = line.strip("[]")
            values[name] = b""
        elif not line.startswith("#"):
            values[name] += bytes.fromhex(line)
    return values


FIRST, VALUES = golden(1), golden(2)


def same(left, right):
    """Compare events; an absent number is NaN, which equals nothing."""
    return left.keys() == right.keys() and all(
        left[key] == right[key] or (left[key] != left[key] and right[key] != right[key])
        for key in left
    )


class OnlyOurs:
    """A registry that knows one version under every id."""

    def __init__(self, version):
        self.version = version

    def schema_text(self, schema_id):
        return schema_text(self.version)


def of_version_1(event):
    """Return an event as a gateway of version 1 sent it: without a place."""
    return {**event, "index_place": ""}


def test_every_recorded_event_has_its_bytes():
    assert VALUES.keys() == FIRST.keys() == EVENTS.keys()
    assert math.isnan(EVENTS["minimal"]["response_cost"])


@pytest.mark.parametrize("name", EVENTS)
def test_old_bytes_decode_to_the_recorded_event(name):
    assert same(Decoder().decode(VALUES[name]), EVENTS[name])
    assert same(Decoder().decode(FIRST[name]), of_version_1(EVENTS[name]))


@pytest.mark.parametrize("name", EVENTS)
def test_what_the_index_needs_comes_first(name):
    event, parts = EVENTS[name], ("event_id", "document", "index_place")
    assert Decoder().head(VALUES[name]) == {part: event[part] for part in parts}
    assert Decoder().head(FIRST[name]) == {part: of_version_1(event)[part] for part in parts}


@pytest.mark.parametrize("name", EVENTS)
def test_the_encoder_writes_the_recorded_bytes(name):
    assert Encoder().encode(EVENTS[name]) == VALUES[name]


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("schema_id", [0, 1, 258, 2**32 - 1])
def test_confluent_framing_has_the_same_body(name, schema_id):
    value = Encoder(schema_id).encode(EVENTS[name])
    assert value == b"\x00" + schema_id.to_bytes(4, "big") + VALUES[name][10:]
    assert same(Decoder(OnlyOurs(2)).decode(value), EVENTS[name])
    old = b"\x00" + schema_id.to_bytes(4, "big") + FIRST[name][10:]
    assert same(Decoder(OnlyOurs(1)).decode(old), of_version_1(EVENTS[name]))
    assert Decoder(OnlyOurs(1)).head(old)["index_place"] == ""


@pytest.mark.parametrize("name", EVENTS)
def test_single_object_framing_is_marker_and_little_endian_fingerprint(name):
    for version, values in ((1, FIRST), (2, VALUES)):
        fingerprint = PUBLISHED[version][0]
        assert values[name][:10] == b"\xc3\x01" + fingerprint.to_bytes(8, "little")


@pytest.mark.parametrize("name", EVENTS)
def test_a_journal_of_version_1_is_sent_in_the_framing_that_a_topic_has(name):
    assert Encoder().reframe(FIRST[name]) == FIRST[name]
    sent = Encoder(7).reframe(FIRST[name])
    assert same(Decoder(OnlyOurs(2)).decode(sent), of_version_1(EVENTS[name]))


# A published schema is never edited, only succeeded.


@pytest.mark.parametrize("version", PUBLISHED)
def test_a_published_schema_is_never_edited(version):
    fingerprint, sha256 = PUBLISHED[version]
    text = schema_text(version)
    assert hashlib.sha256(text.encode()).hexdigest() == sha256
    assert fingerprint_of(json.loads(text)).value == fingerprint


def test_every_shipped_schema_is_pinned_and_has_golden_bytes():
    shipped = {
        path.name
        for path in resources.files("llmlog_schemas").joinpath("avro").iterdir()
        if path.name.endswith(".avsc")
    }
    assert shipped == {f"llm_event.v{version}.avsc" for version in PUBLISHED}
    assert set(PUBLISHED) == set(range(1, CURRENT_VERSION + 1))
    for version in PUBLISHED:
        assert golden(version)
    assert current_fingerprint().value == PUBLISHED[CURRENT_VERSION][0]


def crc_64_avro(data):
    """Compute the fingerprint as the Avro specification writes it down, bit by bit."""
    empty = 0xC15D213AA4D7A795
    fingerprint = empty
    for byte in data:
        fingerprint ^= byte
        for _ in range(8):
            fingerprint = (fingerprint >> 1) ^ (empty if fingerprint & 1 else 0)
    return fingerprint


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [
        ("null", 0x63DD24E7CC258F8A),
        ("boolean", 0x9F42FC78A4D4F764),
        ("int", 0x7275D51A3F395C8F),
        ("long", 0xD054E14493F41DB7),
        ("string", 0x8F014872634503C7),
        ("bytes", 0x4FC016DAC3201965),
    ],
)
def test_fingerprints_are_those_of_the_avro_specification(name, fingerprint):
    """The published test vectors; on the wire they stand little-endian."""
    assert crc_64_avro(f'"{name}"'.encode()) == fingerprint
    assert fingerprint_of(name).value == fingerprint
    assert fingerprint_of({"type": name}).value == fingerprint
    header = wire.single_object_header(fingerprint_of(name))
    assert header == b"\xc3\x01" + fingerprint.to_bytes(8, "little")


def test_the_fingerprint_of_a_record_is_of_its_canonical_form():
    """Documentation and order of attributes do not make another schema."""
    fields = ",".join(
        f'{{"name":"{field["name"]}","type":"{field["type"]}"}}'
        for field in json.loads(schema_text(1))["fields"]
    )
    canonical = f'{{"name":"llmlog.v1.LLMEvent","type":"record","fields":[{fields}]}}'
    assert crc_64_avro(canonical.encode()) == PUBLISHED[1][0]
