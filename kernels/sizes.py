"""Arithmetic for launches. Triton's own functions take 8 microseconds on the host, as long as a small layer's kernel runs."""

from __future__ import annotations


def ceil_div(number: int, divisor: int) -> int:
    """Return how many pieces of size `divisor` cover `number`."""
    return -(-number // divisor)


def power_of_2(number: int) -> int:
    """Return the least power of two that is at least `number`, which is positive."""
    return 1 << (number - 1).bit_length()
