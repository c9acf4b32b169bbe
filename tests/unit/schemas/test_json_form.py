"""The JSON form of whatever stands in a payload: always valid, always one line, never raising."""

import dataclasses
import datetime as dt
import json
import math
from collections import OrderedDict, UserDict, namedtuple
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from unittest.mock import MagicMock
from uuid import UUID

import orjson
import pytest

from llmlog_schemas.json_form import dumps, dumps_in_parts, to_plain, to_text
from llmlog_schemas.limits import MAX_DOCUMENT_DEPTH

Point = namedtuple("Point", "x y")  # noqa: PYI024 - what a caller may have written


class Word(str, Enum):  # noqa: UP042 - LiteLLM's own enumerations are made like this
    SUCCESS = "success"


class Number(IntEnum):
    ONE = 1


class Model:
    """Like a pydantic model."""

    def __init__(self, **fields):
        self.fields = fields

    def model_dump(self):
        return self.fields


class Endless:
    def model_dump(self):
        return Endless()


class Itself:
    def model_dump(self):
        return self


class Broken:
    """Raises whatever is asked of it."""

    def __repr__(self):
        raise RuntimeError("no")

    __str__ = __repr__

    def model_dump(self):
        raise RuntimeError("no")


class LyingText(str):
    __slots__ = ()

    def __str__(self):
        raise RuntimeError("no")


@dataclasses.dataclass
class Pair:
    left: object
    right: object


@dataclasses.dataclass(slots=True)
class Slotted:
    here: int
    gone: int


def read(value):
    """Return what a strict reader makes of the JSON of a value."""
    written = dumps(value)
    assert b"\n" not in written
    assert b"\r" not in written
    return json.loads(written.decode("utf-8", "strict"), parse_constant=pytest.fail)


def nested(depth, leaf=1):
    value = leaf
    for _ in range(depth):
        value = [value]
    return value


def depth_of(value):
    depth = 0
    while isinstance(value, list):
        value, depth = value[0], depth + 1
    return depth


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (-1.5, -1.5),
        ("é\n\r\u2028", "é\n\r\u2028"),
        ("a\0b", "a\0b"),
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset("ba"), ["a", "b"]),
        (b"text", "text"),
        (bytearray(b"text"), "text"),
        (memoryview(b"text"), "text"),
        (b"\xff\x00", "/wA="),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2026-01-02T03:04:05+00:00"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(seconds=1.5), 1.5),
        (Decimal("0.10"), "0.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Word.SUCCESS, "success"),
        (Number.ONE, 1),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Model(role="user", content=b"hi"), {"role": "user", "content": "hi"}),
        (Pair(1, Pair("a", None)), {"left": 1, "right": {"left": "a", "right": None}}),
        (ValueError("what"), "ValueError: what"),
        (LyingText("honest"), "honest"),
        (Model, repr(Model)),
        (Pair, repr(Pair)),
        (len, "<built-in function len>"),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (2**64, str(2**64)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        pytest.param(10**5000, hex(10**5000), id="5000 digits"),
        ("\ud800", "\\ud800"),
        ("a\udfffb", "a\\udfffb"),
    ],
)
@pytest.mark.parametrize("beside", [None, object()], ids=["alone", "beside an object"])
def test_the_same_form_on_the_fast_path_and_on_the_slow_one(value, expected, beside):
    """An object that orjson refuses sends everything beside it down the slow path."""
    assert read([value, beside])[0] == expected
    assert to_plain(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({1: "a", 2.5: "b", None: "c"}, {"1": "a", "2.5": "b", "null": "c"}),
        ({False: 0}, {"false": 0}),
        ({Word.SUCCESS: 1, Number.ONE: 2}, {"success": 1, "1": 2}),
        ({(1, 2): "t", b"k": "b"}, {"(1, 2)": "t", "b'k'": "b"}),
        ({"": 1, "a.b": 2, "n\0l": 3}, {"": 1, "a.b": 2, "n\0l": 3}),
        ({LyingText("key"): 1}, {"key": 1}),
    ],
)
def test_keys_become_strings(value, expected):
    assert read(value) == expected


def test_keys_that_become_the_same_string_stay_two():
    read_back = read({1: "int", "1": "str", "\ud800": "lone", "\\ud800": "spelt"})
    assert len(read_back) == 4
    assert sorted(read_back.values()) == ["int", "lone", "spelt", "str"]
    assert read_back["1"] == "int"


def test_many_keys_that_become_the_same_string_take_no_time():
    """With a search for a free name that begins anew each time this takes minutes."""
    same = {"k" * 600 + str(number): number for number in range(5000)}
    kept = to_plain(same, max_key_bytes=512)
    assert sorted(kept.values()) == list(range(5000))
    assert max(map(len, kept)) <= 512


def test_keys_are_short_without_nul_and_never_empty_where_asked():
    keys = ["", "\0", "a\0b", "x" * 2000, "é" * 400, "fits"]
    kept = list(to_plain(dict.fromkeys(keys), max_key_bytes=512))
    assert len(kept) == len(keys)
    assert kept[0] == "_"
    assert kept[2] == "ab"
    assert kept[5] == "fits"
    assert all(0 < len(key.encode()) <= 512 and "\0" not in key for key in kept)


@pytest.mark.parametrize(
    "value",
    [Broken(), {"a": [Broken()]}, {Broken(): 1}, {1, Broken()}, MagicMock(), Endless(), Itself()],
    ids=["object", "inside", "key", "set", "mock", "endless", "itself"],
)
def test_an_object_that_misbehaves_is_replaced_by_a_text(value):
    written = json.dumps(read({"value": value, "beside": "kept"}))
    assert "<unreadable " in written or "<cut: refers to itself>" in written
    assert '"beside": "kept"' in written


def test_a_key_that_misbehaves_does_not_lose_the_others():
    assert read({Broken(): 1, "b": 2}) == {"<unreadable Broken>": 1, "b": 2}


def test_a_dataclass_with_an_empty_slot_does_not_end_the_process():
    value = Slotted(1, 2)
    del value.gone
    assert read([value, "kept"]) == ["<unreadable Slotted: AttributeError>", "kept"]


def test_a_number_too_long_to_print_does_not_lose_the_others():
    assert read({"huge": 10**5000, "b": 2})["b"] == 2


def test_a_cycle_is_replaced_where_it_closes():
    loop = {"name": "a"}
    loop["self"] = loop
    row = [1]
    row.append(row)
    assert read(loop) == {"name": "a", "self": "<cut: refers to itself>"}
    assert read(row) == [1, "<cut: refers to itself>"]


def test_the_same_object_twice_is_no_cycle():
    shared = {"a": 1}
    assert to_plain([shared, shared]) == [shared, shared]


@pytest.mark.parametrize("depth", [MAX_DOCUMENT_DEPTH, 255, 2_000, 50_000])
def test_values_deeper_than_the_bound_are_replaced(depth):
    assert depth_of(read([nested(depth), object()])[0]) <= MAX_DOCUMENT_DEPTH
    assert depth_of(read(nested(depth))) <= max(MAX_DOCUMENT_DEPTH, 254)


def test_depth_is_kept_up_to_the_bound():
    assert to_plain(nested(MAX_DOCUMENT_DEPTH)) == nested(MAX_DOCUMENT_DEPTH)
    cut = to_plain(nested(3), max_depth=2)
    assert cut == [["<cut: deeper than 2 levels>"]]


def test_nothing_is_changed_in_place():
    value = {"a": (1, {2}), 3: b"x"}
    before = dict(value)
    to_plain(value)
    dumps(value)
    assert value == before


@pytest.mark.parametrize("value", ["plain", "é", "", "\U0001f600"])
def test_text_that_is_well_formed_stays(value):
    assert to_text(value) == value


@pytest.mark.parametrize("value", [LyingText("a"), Word.SUCCESS])
def test_text_of_a_subclass_is_its_content(value):
    assert type(to_text(value)) is str
    assert to_text(value) in ("a", "success")


@pytest.mark.parametrize(
    "unit", ["word ", '"', "\\", "\x01", "\u20ac", "\U0001f30d", "a\ud800", "\ud83d\ude00"]
)
def test_a_long_text_is_written_part_by_part_as_it_would_be_at_once(unit):
    long = {"a": [unit * 50_000, {"b": unit}], unit: 1}
    assert orjson.loads(dumps_in_parts(long)) == orjson.loads(dumps(long))
