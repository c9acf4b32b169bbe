"""Whatever lies on the topic is an event or a `DecodeError`, and never anything else."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlog_schemas.codec import DecodeError, Decoder, Encoder
from support.golden_events import EVENTS

VALUES = {name: Encoder().encode(event) for name, event in EVENTS.items()}
HEADER = VALUES["full"][:10]


def zigzag(number):
    """Return an Avro long."""
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def refusal(value, registry=None):
    with pytest.raises(DecodeError) as caught:
        Decoder(registry).decode(value)
    text = str(caught.value)
    assert text
    return text


def event_or_refused(value):
    try:
        head = Decoder().head(value)
    except DecodeError:
        refusal(value)
        return
    assert head.keys() == {"event_id", "document", "index_place"}
    try:
        event = Decoder().decode(value)
    except DecodeError:
        return
    assert event.keys() == EVENTS["full"].keys()
    assert event | head == event


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_cut_at_any_byte_is_no_event(name):
    value = VALUES[name]
    decoder = Decoder()
    for length in range(len(value)):
        with pytest.raises(DecodeError):
            decoder.decode(value[:length])


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_cut_within_its_document_or_place_has_no_head(name):
    value = VALUES[name]
    document, place = EVENTS[name]["document"], EVENTS[name]["index_place"]
    whole = value.index(document) + len(document) + 1 + len(place)
    for length in range(whole):
        with pytest.raises(DecodeError):
            Decoder().head(value[:length])
    for length in range(whole, len(value)):
        assert Decoder().head(value[:length])["document"] == document


@pytest.mark.parametrize("more", [b"\x00", b"\n", b"x" * 1000, VALUES["full"]])
def test_bytes_behind_an_event_are_not_overlooked(more):
    assert f"{len(more)} bytes follow the event" in refusal(VALUES["full"] + more)


@settings(max_examples=300)
@given(st.binary(max_size=300), st.sampled_from([b"", HEADER, b"\xc3\x01", b"\x00", b"\x00" * 5]))
def test_random_bytes_are_an_event_or_refused(noise, start):
    """Behind the right header 32 zero bytes are an event; its document is another matter."""
    event_or_refused(start + noise)


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(VALUES)),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_an_event_with_some_bytes_replaced_is_an_event_or_refused(name, replacements):
    value = bytearray(VALUES[name])
    for position, byte in replacements:
        value[position % len(value)] = byte
    event_or_refused(bytes(value))


@pytest.mark.parametrize("length", [2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1])
@pytest.mark.parametrize("fields_before", [0, 1])
def test_a_huge_length_takes_no_memory(length, fields_before):
    value = HEADER + zigzag(20) + b"a" * 20 if fields_before else HEADER
    value += zigzag(length) + b"some"
    tracemalloc.start()
    try:
        refusal(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("length", [-1, -2, -(2**31), -(2**63)])
def test_a_negative_length_is_refused(length):
    refusal(HEADER + zigzag(length) + b"some")


@pytest.mark.parametrize("number", [b"\xff" * 9 + b"\x01", b"\x80" * 200, b"\xff" * 200])
def test_a_number_without_end_is_refused(number):
    refusal(HEADER + number)


def test_text_that_is_not_utf_8_is_refused():
    assert "UnicodeDecodeError" in refusal(HEADER + zigzag(4) + b"\xff\xfe\xc3\x28" + b"\0" * 200)


def test_an_empty_value_is_refused():
    assert "0 bytes that begin with nothing" in refusal(b"")


def test_a_null_value_is_refused():
    assert refusal(None) == "the record has no value"


@pytest.mark.parametrize("value", [b"{}", b'{"model":"x"}', b"\xc3", b"\xc3\x01", b"\x00\x00\x00"])
def test_what_has_no_framing_is_named_by_its_first_bytes(value):
    assert value[:8].hex(" ") in refusal(value)


def test_an_unknown_fingerprint_is_named():
    value = b"\xc3\x01" + bytes.fromhex("8f5c393f1ad57572") + VALUES["full"][10:]
    text = refusal(value)
    assert "7275d51a3f395c8f" in text
    assert "upgrade the consumer" in text


def test_confluent_framing_without_a_registry_names_the_setting():
    text = refusal(Encoder(258).encode(EVENTS["full"]))
    assert "schema id 258" in text
    assert "LLMLOG_SCHEMA_REGISTRY_URL" in text


class Registered:
    """A registry that answers with this text."""

    def __init__(self, text):
        self.text = text
        self.asked = 0

    def schema_text(self, schema_id):
        self.asked += 1
        return self.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "null",
        "7",
        "[]",
        "{}",
        '"no_such_type"',
        '{"type":"record"}',
        '{"type":"record","name":"a","fields":7}',
        '{"type":"object","properties":{}}',
        "[" * 100_000,
    ],
)
def test_a_registered_schema_that_is_no_avro_is_refused(text):
    assert "schema id 7 is " in refusal(Encoder(7).encode(EVENTS["full"]), Registered(text))


@pytest.mark.parametrize(
    "text", ['"bytes"', '{"type":"record","name":"Other","fields":[{"name":"a","type":"int"}]}']
)
def test_a_registered_schema_of_something_else_is_refused(text):
    assert "no version that this release knows" in refusal(
        b"\x00\x00\x00\x00\x07", Registered(text)
    )


def test_a_known_id_is_asked_for_once():
    from llmlog_schemas.codec import schema_text

    registry = Registered(schema_text())
    decoder = Decoder(registry)
    for _ in range(3):
        decoder.decode(Encoder(7).encode(EVENTS["full"]))
    assert registry.asked == 1
