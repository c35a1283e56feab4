"""Recognising that the system gave no memory or no thread, which libraries report in many ways."""

from __future__ import annotations

import errno

NOT_ENOUGH = "not enough memory, or no more threads; end other programs, or use fewer threads"

# torch, zstd, C++ and the loader of shared libraries say it in the message only.
_WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "alloc_cpu.cpp",  # of torch, whose own message is cut off where there is no memory for it
    "allocation error",
    "failed to map segment",
    "can't start new thread",
    "error return without exception set",  # of Python itself, where an import finds no memory
)


def is_memory_error(error: BaseException) -> bool:
    """Return whether an error, or one that it came from, says that the system gave no memory or no thread."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    text = str(error).lower()
    if any(words in text for words in _WORDS):
        return True
    return error.__cause__ is not None and is_memory_error(error.__cause__)
