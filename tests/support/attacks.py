"""Payloads that a client may send to keep a gateway busy: each kind in each size, and mixtures.

What is in them is JSON, as a proxy reads it; `objects` adds what only a program can hand over.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

SIZES = (1_000, 10_000, 100_000, 1_000_000, 8_000_000)
"""Bytes of JSON, about."""


def _text(unit: str) -> Callable[[int], Any]:
    return lambda size: unit * (size // len(unit.encode("utf-8", "surrogatepass")) + 1)


def _items(make: Callable[[int], Any], width: int) -> Callable[[int], Any]:
    return lambda size: [make(number) for number in range(size // width + 1)]


def _nested(width: int) -> Callable[[int], Any]:
    def make(size: int) -> Any:
        value: Any = "end"
        for number in range(min(size // 2, 900)):
            value = {"a": value} if number % width else [value]
        return [value] * max(1, size // 2_000)

    return make


def _quotes(size: int) -> str:
    block = "".join("pwd:" + "\\" * k + quote for k in range(130, -1, -1) for quote in "'\"")
    return ((block + "x " * 4096) * (size // len(block) + 1))[:size]


def _vectors(size: int) -> Any:
    return [[0.001 * n + k for n in range(1536)] for k in range(size // 15_000 + 1)]


KINDS: dict[str, Callable[[int], Any]] = {
    **{
        f"text of {unit!r}": _text(unit)
        for unit in (
            *('"', "'", "\\", "{", "[", '{"a":', "pwd:'", 'token="\\', "sk-", "eyJ", "bearer ", "://a:"),
            *("AKIA", "-----BEGIN PRIVATE KEY-----", "data:", "A", "\x01", "\u20ac", "\U0001f30d"),
            *("\ud800", "\xe4", "word ", "api_key=", "\n", "%3D", "password: "),
        )
    },
    "quotes at every depth": _quotes,
    "base64": _text("QUJDREVGabcdefghijkl0123456789+/MNOPRSTVWXYZmnopqrstuvwxyz"),
    "nested lists": _nested(10**9),
    "nested dicts": _nested(1),
    "nested both": _nested(2),
    "empty lists": _items(lambda _: [], 3),
    "empty dicts": _items(lambda _: {}, 3),
    "small dicts": _items(lambda number: {"a": number}, 12),
    "lists of lists": _items(lambda number: [[[number]]], 12),
    "short texts": _items(lambda number: f"t{number}", 9),
    "secrets": _items(lambda number: f"sk-{number:020}", 26),
    "texts of a kilobyte": _items(lambda number: f"w{number} " * 150, 1_000),
    "whole numbers": _items(lambda number: number, 7),
    "numbers": _items(lambda number: number * 0.1, 8),
    "numbers of 4,000 digits": _items(lambda number: 10**3_999 + number, 4_000),
    "numbers, then a text": lambda size: [*range(size // 7), "x"],
    "true": _items(lambda _: True, 5),
    "keys": lambda size: {f"key-number-{number}": number for number in range(size // 24)},
    "keys of secrets": lambda size: {f"x{n}_api_key": "v" for n in range(size // 24)},
    "one long key": lambda size: {"k" * size: 1},
    "vectors": _vectors,
    "log probabilities": _items(
        lambda n: {"token": f"t{n}", "logprob": -0.1 * n, "bytes": [97, 98], "top_logprobs": []}, 70
    ),
}  # fmt: skip
PLACES = ("messages", "response", "metadata", "model_parameters", "error_str")


def attacks(sizes: tuple[int, ...] = SIZES) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield each attack's name, and what makes its payload anew."""
    for size in sizes:
        for place, (name, make) in enumerate(KINDS.items()):
            where = PLACES[place % len(PLACES)]
            yield f"{name}, {size}", lambda m=make, s=size, w=where: _payload({w: m(s)})
        for seed in range(15):
            yield f"mixture {seed}, {size}", lambda s=size, n=seed: _payload(_mixture(n, s))


def _mixture(seed: int, size: int) -> dict[str, Any]:
    pick = random.Random(seed)
    names = pick.sample(list(KINDS), 4)
    return {place: KINDS[name](size // 4) for place, name in zip(PLACES, names, strict=False)}


def _payload(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "litellm_call_id": "call", "call_type": "acompletion", "status": "success",
        "startTime": 1_800_000_000.5, "model": "gpt", "metadata": {"user_api_key_alias": "a"},
        **fields,
    }  # fmt: skip
