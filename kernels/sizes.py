"""Arithmetic of launches. Triton's functions for it take 8 microseconds on the host, as much as a small layer's kernel."""

from __future__ import annotations


def ceil_div(number: int, divisor: int) -> int:
    """Return how many pieces of `divisor` hold `number`."""
    return -(-number // divisor)


def power_of_2(number: int) -> int:
    """Return the least power of two that is not below a positive `number`."""
    return 1 << (number - 1).bit_length()
