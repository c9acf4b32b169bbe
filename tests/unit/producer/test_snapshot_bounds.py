"""What a hook copies of a payload of any shape: never more than the bound, and a chat's newest."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.settings import load
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EventBuilder
from llmlog_producer.events.snapshot import MAX_CONTAINERS, VALUES_IN_A_CONTAINER, snapshot
from llmlog_schemas.codec import Decoder
from llmlog_schemas.limits import CUT, MAX_PAYLOAD_DEPTH

NONE = frozenset()
NAN = float("nan")
BUILDER = EventBuilder(load(environ={}), Stats())

_LEAVES = st.sampled_from(["text", "", 7, 0.5, True, None])


def _repeated(inner):
    numbers = st.sampled_from([0, 1, 2, 3, 20, 700, 9_000])
    return st.one_of(
        st.builds(lambda item, number: [item] * number, inner, numbers),
        st.builds(lambda item, number: {f"k{n}": item for n in range(number)}, inner, numbers),
        st.builds(lambda *items: list(items), inner, inner),
        st.builds(lambda *items: dict(zip("abc", items, strict=True)), inner, inner, inner),
    )


SHAPES = st.recursive(_LEAVES, _repeated, max_leaves=12)
CONTENTS = st.one_of(
    st.just("what was said"),
    st.lists(st.just({"type": "text", "text": "said"}), min_size=1, max_size=9),
)


def containers_of(value):
    """Return how many dicts and lists a copy has, and how deep it is."""
    number, deepest, parts = 0, 0, [(value, 1)]
    while parts:
        part, depth = parts.pop()
        deepest = max(deepest, depth)
        if isinstance(part, dict | list):
            number += 1
            inner = part.values() if isinstance(part, dict) else part
            parts.extend((item, depth + 1) for item in inner)
    return number, deepest


@given(SHAPES, SHAPES, SHAPES)
def test_a_copy_is_bounded_whatever_the_shape(one, other, third):
    # A number that JSON does not have, so that it is copied value by value.
    payload = {"messages": one, "metadata": other, "response": third, "response_cost": NAN}
    copy, _ = snapshot(payload, without=NONE)
    number, depth = containers_of(copy)
    assert number <= 3 * MAX_CONTAINERS, "a marker is two dicts"
    assert depth <= MAX_PAYLOAD_DEPTH + 4


@given(SHAPES, SHAPES, CONTENTS, st.sampled_from([1, 2, 50, 290, 3_000, 40_000]), SHAPES)
def test_the_newest_message_of_a_long_chat_is_in_the_event(system, turn, newest, number, answer):
    messages = [
        {"role": "system", "content": system},
        *[{"role": "user", "content": turn}] * number,
        {"role": "user", "content": newest},
    ]
    payload = {"messages": messages, "response": answer, "response_cost": NAN}
    copy, size = snapshot(payload, without=NONE)
    assert copy["messages"][-1] == messages[-1]
    assert copy["messages"][0]["role"] == "system"
    markers = [one for one in copy["messages"] if one.get(CUT, {}).get("type") == "list"]
    left_out = sum(one[CUT]["items"] for one in markers)
    assert len(copy["messages"]) - len(markers) + left_out == len(messages)
    event = Decoder().decode(BUILDER.build(CapturedPayload(copy, "", 1.0, size)).value)
    assert orjson.loads(event["document"])["messages"][-1] == messages[-1]


def test_a_chat_of_300_messages_is_whole_and_of_a_longer_one_the_newest_are():
    def messages_in_copy_of(number):
        given = [{"role": "user", "content": f"{n}: {'x' * 1_000}"} for n in range(number)]
        answer = {"choices": [{"message": {"role": "assistant", "content": "x" * 3_000}}]}
        payload = {"messages": given, "response": answer, "metadata": {"a": ["b" * 3_000]}}
        return given, snapshot(payload, without=NONE)[0]["messages"]

    given, copied = messages_in_copy_of(300)
    assert copied == given
    given, copied = messages_in_copy_of(5_000)
    assert copied[0] == given[0]
    assert copied[1][CUT]["items"] == 5_000 - len(copied) + 1
    assert copied[3:] == given[3 - len(copied) :]
    assert len(copied) > 500


def test_what_the_first_item_of_a_list_takes_is_not_there_for_the_others():
    def dicts_in_copy_of(first, number):
        payload = {"messages": [first, *[{"a": 1}] * number], "response_cost": NAN}
        return containers_of(snapshot(payload, without=NONE)[0])[0]

    small = {"a": 1}
    most = MAX_CONTAINERS * VALUES_IN_A_CONTAINER // (VALUES_IN_A_CONTAINER + len(small))
    for first in (
        {"content": [small] * 9_000},
        [[small] * 9_000],
        {f"k{n}": small for n in range(9_000)},
    ):
        assert most * 0.9 < dicts_in_copy_of(first, 9_000) <= most + 10, "a marker is two dicts"
