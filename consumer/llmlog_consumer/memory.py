"""Owns how the C library gives memory back."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 128 * 1024


def give_back_large_blocks() -> None:
    """Have blocks of 128 KB and more given back when they are freed, where the C library is glibc.

    That is what it begins with. But with the first such block that is freed it learns to keep them
    all on its heap, up to 32 MB each: what batches of letters are unpacked into, at a cost of
    9 MB. Saying the size once keeps it from learning.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE)
