"""Framing: told apart by the first bytes, and never taken for something else."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmlog_schemas import framing
from llmlog_schemas.codec import DecodeError, Decoder, Encoder, schema_text
from llmlog_schemas.framing import (
    Fingerprint,
    FramingError,
    RegistryId,
    confluent_header,
    read_header,
    single_object_header,
)
from support.payloads import encoded, event


@given(st.integers(0, 2**64 - 1), st.binary(max_size=20))
def test_a_fingerprint_comes_back(number, body):
    header = single_object_header(Fingerprint(number))
    assert read_header(header + body) == (Fingerprint(number), 10)


@given(st.integers(0, 2**32 - 1), st.binary(max_size=20))
def test_a_registry_id_comes_back(number, body):
    header = confluent_header(RegistryId(number))
    assert read_header(header + body) == (RegistryId(number), 5)


def test_the_two_names_are_of_different_types():
    name, _ = read_header(confluent_header(RegistryId(7)))
    assert isinstance(name, RegistryId)
    name, _ = read_header(single_object_header(Fingerprint(7)))
    assert isinstance(name, Fingerprint)


def test_a_fingerprint_prints_as_16_hexadecimal_digits():
    assert str(Fingerprint(0x1A)) == "000000000000001a"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "0 bytes that begin with nothing"),
        (b"\xc3", "1 bytes that begin with c3"),
        (b"\xc3\x01" + bytes(7), "9 bytes that begin with c3 01 00 00 00 00 00 00 "),
        (b"\xc3\x02" + bytes(20), "22 bytes that begin with c3 02 00"),
        (b"\x00\x00\x00\x00", "4 bytes that begin with 00 00 00 00"),
        (b'{"a": 1}', "8 bytes that begin with 7b 22 61 22 3a 20 31 7d"),
    ],
)
def test_a_value_without_framing_is_refused_with_its_first_bytes(value, said):
    with pytest.raises(FramingError) as caught:
        read_header(value)
    assert said in str(caught.value)


@given(st.binary(max_size=30))
def test_any_bytes_are_framed_or_refused(value):
    try:
        _, start = read_header(value)
    except FramingError:
        return
    assert start <= len(value)


# The event id at the beginning of a value


class FakeRegistry:
    def schema_text(self, _schema_id):
        return schema_text()


@pytest.mark.parametrize("schema_id", [None, 7])
def test_the_id_of_an_event_is_read_without_its_schema(schema_id):
    value = Encoder(schema_id).encode(event(1))
    assert framing.peek_event_id(value) == event(1)["event_id"]
    assert framing.find_event_id(value) == event(1)["event_id"].encode()


@given(st.integers(0, 9), st.sampled_from([None, 7]), st.integers(0, 3000), st.binary(max_size=3))
def test_a_value_holds_an_event_exactly_where_its_head_can_be_decoded(seed, schema, cut, more):
    value = (Encoder(schema).encode(event(seed)) + more)[:cut]
    try:
        expected = Decoder(FakeRegistry()).head(value)["event_id"]
    except DecodeError:
        expected = None
    assert framing.peek_event_id(value) == expected


@given(st.one_of(st.none(), st.binary(max_size=60)), st.one_of(st.none(), st.integers(0, 99)))
@example(b"\xc3\x01" + bytes(8) + b"\x28" + b"A" * 20 + b"\x01", None)
@example(b"\x00\x00\x00\x00\x01\x28" + b"A" * 20 + b"\xff" * 9, None)
def test_any_bytes_are_looked_at_without_an_error(value, length):
    found = framing.peek_event_id(value, length)
    assert found is None or found.encode() == framing.find_event_id(value)


def test_of_a_truncated_value_the_length_of_the_whole_one_counts():
    value = encoded(1)
    assert framing.peek_event_id(value[:60]) is None
    assert framing.peek_event_id(value[:60], len(value)) == event(1)["event_id"]


def test_a_document_of_a_size_below_zero_is_none():
    beginning = encoded(1)[:31]
    assert framing.peek_event_id(beginning + b"\x00") == event(1)["event_id"]
    assert framing.peek_event_id(beginning + b"\x01") is None
