"""Damage to the bytes of a file of any format.

Each attack yields its cases, always the same ones: a name, and what makes the bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

Cases = Iterator[tuple[str, Callable[[], bytes | None]]]  # None: there is no such case

_RANGES = 60  # cases of each attack on ranges, for each file


@dataclass(frozen=True)
class Target:
    """A sound file.

    Attributes:
        name: its name.
        data: its bytes.
        other: another file of the same layout with other values, of which parts are taken; empty if there is none.
        parts: where the data of tensors lie: (first byte, end) of each.
        sampled: flip so many random bits only, and cut at a hundredth of as many places; 0 for all.
    """

    name: str
    data: bytes
    other: bytes = b""
    parts: tuple[tuple[int, int], ...] = ()
    sampled: int = 0


def flipped(target: Target) -> Cases:
    """Flip single bits."""
    bits = range(8 * len(target.data))
    for bit in sorted(random.Random(1).sample(bits, min(target.sampled, len(bits)))) if target.sampled else bits:
        yield f"bit {bit}", partial(_flip, target.data, bit)


def _flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit >> 3] ^= 1 << (bit & 7)
    return bytes(changed)


def cut(target: Target) -> Cases:
    """Cut the file off at every byte."""
    places = range(len(target.data))
    count = min(target.sampled // 100, len(places))
    for place in sorted(random.Random(2).sample(places, count)) if target.sampled else places:
        yield f"at {place}", partial(_joined, target.data, (0, place))


def lengthened(target: Target) -> Cases:
    """Append bytes."""
    data = target.data
    tails = [
        bytes(1),
        bytes(63),
        bytes(64),
        bytes(4096),
        b"\xff",
        b"\n",
        b"{}",
        data[-64:],
        data,
        data[: len(data) // 2],
    ]
    for index, tail in enumerate(tails):
        yield f"tail {index}", partial(bytes.__add__, data, tail)


def zeroed(target: Target) -> Cases:
    """Overwrite ranges with zeros, as a disk that lost a sector does."""
    for low, high in _ranges(target, 3):
        yield f"{low} to {high}", partial(_replaced, target.data, low, bytes(high - low))


def swapped(target: Target) -> Cases:
    """Swap two ranges of equal length."""
    data, draw = target.data, random.Random(4)
    for low, high in _ranges(target, 5):
        size = min(high - low, (len(data) - 1) // 2)
        first = draw.randrange(len(data) - 2 * size)
        second = draw.randrange(first + size, len(data) - size)
        places = (
            (0, first),
            (second, second + size),
            (first + size, second),
            (first, first + size),
            (second + size, len(data)),
        )
        yield f"{size} at {first} and {second}", partial(_joined, data, *places)


def doubled(target: Target) -> Cases:
    """Write ranges twice: once more behind themselves, and over what follows them."""
    data = target.data
    for low, high in _ranges(target, 6):
        yield f"{low} to {high} inserted", partial(_joined, data, (0, high), (low, len(data)))
        over = min(high - low, len(data) - high)
        yield f"{low} to {high} over", partial(_replaced, data, high, data[low : low + over])


def spliced(target: Target) -> Cases:
    """Put data of another file in place of a tensor's, or everything from a place on."""
    for low, high in target.parts:
        yield f"{low} to {high}", partial(_replaced, target.data, low, target.other[low:high])
        yield f"from {low}", partial(bytes.__add__, target.data[:low], target.other[low:])


def _joined(data: bytes, *ranges: tuple[int, int]) -> bytes:
    return b"".join(data[low:high] for low, high in ranges)


def _replaced(data: bytes, low: int, part: bytes) -> bytes:
    """Return data with other bytes from `low` on."""
    return data[:low] + part + data[low + len(part) :]


def _ranges(target: Target, seed: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of 1 byte to a quarter of the file."""
    draw, length = random.Random(seed), len(target.data)
    for index in range(_RANGES):
        size = 1 + draw.randrange(max(length >> (2 + index % 8), 1))
        low = draw.randrange(length - size + 1)
        yield low, low + size


DAMAGE = {
    "single bits flipped": flipped,
    "cut off": cut,
    "bytes appended": lengthened,
    "ranges zeroed": zeroed,
    "ranges swapped": swapped,
    "ranges doubled": doubled,
    "data of another file": spliced,
}
