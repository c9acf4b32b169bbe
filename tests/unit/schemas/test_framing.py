"""Framing: told apart by the first bytes, and never taken for something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_schemas.framing import (
    Fingerprint,
    FramingError,
    RegistryId,
    confluent_header,
    read_header,
    single_object_header,
)


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
