"""Every pattern over text from outside: its time grows as its text does."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import re
import time
from itertools import product
from pathlib import Path

import pytest

import llmlog_common
import llmlog_consumer
import llmlog_producer
import llmlog_schemas
from llmlog_common.texts import MAX_CHARACTERS
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage, read_es_error
from llmlog_consumer.dead_letters.reasons import find_offending_field, redact
from llmlog_consumer.elasticsearch.error_rules import Rule, judge_item, judge_request
from llmlog_producer.events.secrets import hide_secrets, is_secret_name
from llmlog_producer.events.secrets_in_json import may_hold_secret
from llmlog_schemas.json_form import dumps

PACKAGES = (llmlog_common, llmlog_schemas, llmlog_consumer, llmlog_producer)
LEFT_OUT = {"llmlog_producer.callback", "llmlog_consumer.service.preloaded"}
"""The first needs LiteLLM; to import the second is to take no signals any more."""
SHORT, FACTOR = 1_000, 8
MOST_TIMES_LONGER = 28
"""A text that is 8 times as long: 8 where time grows as the text does, 64 where it squares."""
QUICK_SECONDS = 0.001
MOST_SECONDS = 2.0
"""Ten times what 800 KB of the worst text take."""

ATOMS = (
    *("'", '"', "\\", "'\\", "\\'", '"\\', "b'", "x'", " '", "''", "[", "]", "[[", "] [", "(", ")"),
    *(" ", "\n", "a", "A", "_", "-", "1", "0x", "a_", "_a", "1.", "aa ", ",", ":", "//", "@", "="),
    *("A" * 20, "A" * 19 + " ", "a" * 20 + "_", "[1:1]", "[-1:", "true", "\ud800"),
)  # fmt: skip


def patterns_in(value, seen):
    """Yield each pattern that a module keeps, in tables as well, and how it is used."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, re.Pattern):
        yield value, ("finditer", "fullmatch")
    elif isinstance(value, Rule):
        yield from ((pattern, ("match",)) for pattern in [value.reason] if pattern)
    elif isinstance(value, (tuple, list, set, frozenset)):
        for one in value:
            yield from patterns_in(one, seen)
    elif isinstance(value, dict):
        yield from patterns_in(list(value.values()), seen)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from patterns_in(getattr(value, field.name), seen)


def modules():
    for package in PACKAGES:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__") and found.name not in LEFT_OUT:
                yield importlib.import_module(found.name)


def all_patterns():
    seen, found = set(), {}
    for module in modules():
        for name, value in vars(module).items():
            if not name.startswith("__"):
                for pattern, ways in patterns_in(value, seen):
                    found.setdefault(pattern, ways)
    return [pytest.param(*one, id=text_of(one[0])[:40].strip()) for one in found.items()]


def text_of(pattern):
    text = pattern.pattern
    return text.decode("latin-1") if isinstance(text, bytes) else text


def words_of(pattern):
    """Return the plain words of a pattern: what a text has to hold so that the rest is tried."""
    plain = text_of(pattern).replace("\\ ", " ").replace("\\[", "[").replace("\\(", "(")
    return [word for word in re.findall(r"""[A-Za-z_' ."=/[(:]{3,}""", plain) if word.strip()]


def hostile(pattern):
    words = words_of(pattern)
    units = {*ATOMS, *words, *(word + atom for word, atom in product(words, ATOMS[:16]))}
    firsts = {"", "'", "b'", *words}
    return [(first, unit) for unit in units for first in (firsts if len(unit) < 4 else {""})]


def seconds(pattern, way, text):
    value = text.encode("utf-8", "replace") if isinstance(pattern.pattern, bytes) else text
    began = time.thread_time()
    result = getattr(pattern, way)(value)
    if way == "finditer":
        for _ in result:
            pass
    return time.thread_time() - began


def grows(measure, first, unit):
    """Return how many times longer the longer text takes; 0 where even that is quick."""
    short = first + unit * (SHORT // len(unit))
    long = first + unit * (SHORT * FACTOR // len(unit))
    if (longer := measure(long)) < QUICK_SECONDS:
        return 0.0
    return min(longer, measure(long), measure(long)) / max(
        min(measure(short) for _ in range(3)), QUICK_SECONDS / 100
    )


@pytest.mark.parametrize(("pattern", "ways"), all_patterns())
def test_time_grows_as_the_text_does(pattern, ways):
    for (first, unit), way in product(hostile(pattern), ways):

        def measure(text, way=way):
            # What does not fit any more is what makes a pattern go back.
            return seconds(pattern, way, text + "!" * (way == "fullmatch"))

        factor = grows(measure, first, unit)
        if factor > MOST_TIMES_LONGER:  # again, because other processes share this machine
            factor = min(grows(measure, first, unit) for _ in range(3))
        assert factor <= MOST_TIMES_LONGER, (way, first, unit)


@pytest.mark.parametrize("quadratic", [r"'(?:[^'\\]|\\.)*'", r"field \[[^\]]*\]"])
def test_the_test_above_sees_a_pattern_that_squares(quadratic):
    pattern = re.compile(quadratic)
    with pytest.raises(AssertionError):
        test_time_grows_as_the_text_does(pattern, ("finditer",))


def test_patterns_are_kept_where_the_test_above_finds_them():
    functions = {"sub", "subn", "match", "search", "fullmatch", "findall", "finditer", "split"}
    found = [
        f"{path.name}:{node.lineno}"
        for package in PACKAGES
        for path in Path(package.__path__[0]).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "re"
        and node.attr in functions
    ]
    assert not found


# What is done with a text from outside


QUOTES = "".join("pwd:" + "\\" * k + quote for k in range(130, -1, -1) for quote in "'\"")
QUOTES += "x " * 4096
SECRETS = (
    *("eyJ", "sk-", "token='", "token=\\\\'", "bearer ", "bearer+", "basic\u00e4", "://a:", "x="),
    *(
        "api_key",
        "SG.",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN ",
        "AKIA",
        "xoxb-",
        "password: ",
    ),
    *(
        "_",
        "a=",
        "eyJa.",
        "eyJaaaa.-",
        "token={",
        "token ",
        "sig=\n",
        "basic+,",
        "k_live_",
        '"',
        "\\",
    ),
    *("pwd:'", 'pwd:"\\', "\ud800", "-----END ", QUOTES),
)


@pytest.mark.parametrize(
    "look",
    [hide_secrets, is_secret_name, lambda text: may_hold_secret(dumps(text))],
    ids=["hide", "name", "fast"],
)
@pytest.mark.parametrize("unit", SECRETS, ids=lambda unit: repr(unit[:20]))
def test_time_grows_as_a_users_text_does_whatever_is_in_it(look, unit):
    def measure(text):
        began = time.thread_time()
        look(text)
        return time.thread_time() - began

    short, long = (unit * (size // len(unit) + 1) for size in (100_000, 800_000))
    times = [(measure(long), measure(short)) for _ in range(3)]
    assert (
        min(longer / max(shorter, QUICK_SECONDS / 10) for longer, shorter in times)
        <= MOST_TIMES_LONGER
    )
    assert min(times)[0] < MOST_SECONDS, "a window of kilobytes for each word is linear too"


def used(text):
    error = {"type": "es_rejected_execution_exception", "reason": text, "caused_by": {"type": text}}
    cause = Cause(Stage.INDEX, Ending.PERMANENT, **read_es_error(error), model=text)
    redact(text)
    find_offending_field(text, text)
    judge_item(429, error)
    judge_request(400, error)
    return cause


@pytest.mark.parametrize(
    "unit", ["'\\", "\\'", '"', "'", "[", "field [", "max_a_", "A", "preview of field's value: '"]
)
def test_a_reason_of_megabytes_takes_no_longer_than_one_of_a_page(unit):
    began = time.thread_time()
    cause = used("x " + unit * (8_000_000 // len(unit)))
    assert len(cause.fingerprint) == 12
    assert time.thread_time() - began < 1.0
    texts = (cause.reason, cause.es_caused_by, cause.model, cause.message)
    assert all(len(text) <= 2 * MAX_CHARACTERS for text in texts)
