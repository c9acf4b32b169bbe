"""The hook's copy of a payload: the same whichever way it is made, and made in bounded time."""

import gc
import sys
import threading
from collections import deque
from enum import Enum
from uuid import UUID

import orjson
import pytest

from llmlog_common.settings import load
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EventBuilder
from llmlog_producer.events.memory import size_of
from llmlog_producer.events.snapshot import snapshot
from llmlog_schemas.codec import Decoder
from llmlog_schemas.json_form import SELF_REFERENCE, to_plain
from support.payloads import payload


class Odd(Enum):
    WORD = "chat"
    NUMBER = 1_800_000_000.25
    SWITCH = True
    ID = UUID(int=7)


def copied(given):
    return snapshot(given, without=frozenset())[0]


def event_of(given):
    captured = CapturedPayload(copied(given), "", 1_800_000_000.0)
    return Decoder().decode(EventBuilder(load(environ={}), Stats()).build(captured).value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("litellm_call_id", UUID(int=7)),
        ("litellm_call_id", Odd.ID),
        ("call_type", Odd.WORD),
        ("status", Odd.ID),
        ("startTime", Odd.NUMBER),
        ("stream", Odd.SWITCH),
        ("response_cost", Odd.NUMBER),
        ("model", UUID(int=7)),
    ],
)
def test_a_doubly_fired_pair_is_one_event_whichever_way_each_was_copied(name, value):
    given = payload(1) | {name: value}
    as_json, as_dict = payload(1) | {name: to_plain(value)}, given | {"response": {"odd": {1}}}
    assert isinstance(copied(as_json), bytes)
    assert isinstance(copied(as_dict), dict)

    one, other = event_of(as_json), event_of(as_dict)

    assert one["event_id"] == other["event_id"]
    documents = [orjson.loads(event["document"]) for event in (one, other)]
    assert documents[0][name] == documents[1][name]


def test_a_value_that_refers_to_itself_ends_there():
    around = {"text": "kept"}
    around["in"], around["list"] = around, [around]

    copy = copied({"metadata": around})

    assert copy == {"metadata": {"text": "kept", "in": SELF_REFERENCE, "list": [SELF_REFERENCE]}}
    assert size_of(copy) < 5000
    assert orjson.loads(event_of({"metadata": around})["document"])["metadata"]["text"] == "kept"


class _Held:
    def __init__(self, **held):
        self.__dict__.update(held)


class _Said(str):
    __slots__ = ()

    def __len__(self):
        raise RuntimeError("len")


class _Shy:
    def __getattribute__(self, name):
        raise RuntimeError(name)


def test_the_memory_that_objects_hold_is_counted():
    text, raw = "x" * 1_000_000, bytes(1_000_000)
    around = _Held(text=text)
    around.itself = around
    for held in (
        *(text, raw, bytearray(raw), (text,), [[text]], {text}, deque([text])),
        *(_Held(b=_Held(c=text)), _Said(text), 10**2_300_000),
    ):
        assert 950_000 <= size_of({"a": held}) < 1_025_000
        assert 950_000 <= snapshot({"a": held}, without=frozenset())[1] < 1_025_000
    assert size_of({"a": [around] * 100_000, "b": _Shy()}) < 2_000_000


@pytest.mark.parametrize(
    "value", [_Held(a=[[] for _ in range(9_000)]), {(n,) for n in range(9_000)}]
)
def test_an_object_of_many_parts_is_left_out(value):
    copy = copied({"model": "m", "odd": value})
    assert copy == {"model": "m", "odd": f"<cut: {type(value).__name__} of many parts>"}


class _Broken(Enum):
    WORD = 1

    @property
    def value(self):
        raise RuntimeError


def test_an_enumeration_that_cannot_be_read_ends_neither_the_hook_nor_the_process():
    for given in ({"model": _Broken.WORD}, {"a": [{"b": _Broken.WORD}]}, {_Broken.WORD: 1}):
        assert event_of(given)["event_id"]


def test_a_payload_that_refers_to_itself_ends_there():
    given = {"model": "m"}
    given["extra"] = [given]

    assert copied(given) == {"model": "m", "extra": [SELF_REFERENCE]}


def test_a_value_in_two_places_stays_in_both():
    shared = {"a": [1]}

    assert copied({"x": shared, "y": [shared, shared], "z": {1}}) == {
        "x": shared, "y": [shared, shared], "z": {1},
    }  # fmt: skip


def test_a_dict_that_another_thread_adds_to_is_copied_all_the_same():
    changing = {f"key{n}": {} for n in range(1000)}
    done, interval = threading.Event(), sys.getswitchinterval()

    def change():
        while not done.is_set():
            changing.update({f"more{n}": {} for n in range(7)})
            for n in range(7):
                del changing[f"more{n}"]

    def collected(_phase, _what):  # runs wherever something is allocated, and lets others run
        sum(range(100))

    thread, thresholds = threading.Thread(target=change), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.callbacks.append(collected)
    gc.set_threshold(50)
    thread.start()
    try:
        for _ in range(200):
            assert len(copied({"metadata": changing, "odd": {1}})["metadata"]) >= 1000
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(collected)
