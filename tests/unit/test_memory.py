"""The C library is told once to give large blocks back; one without the switch is left alone."""

from __future__ import annotations

import ctypes

from llmlog_consumer.memory import give_back_large_blocks


def test_the_c_library_is_told_the_size(monkeypatch):
    said = []
    library = type("Library", (), {"mallopt": lambda _self, *what: said.append(what)})
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library())
    give_back_large_blocks()
    assert said == [(-3, 131_072)]


def test_another_c_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    give_back_large_blocks()
