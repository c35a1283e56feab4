"""Headers of safetensors and gguf files with other values in every place. These formats have no hashes to set right."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

from tools.corruption.attacks import Cases, Target
from tools.corruption.forged_headers import VALUES, WIDE, places, with_value


def safetensors_fields(target: Target) -> Cases:
    """Put each value in place of each value in the JSON header, and numbers into its length."""
    (length,) = struct.unpack_from("<Q", target.data)
    tree, body = json.loads(target.data[8 : 8 + length]), target.data[8 + length :]
    for path in places(tree):
        for value in VALUES:
            yield f"{'.'.join(map(str, path))} = {str(value)[:40]}", partial(_changed, tree, path, value, body)
    for value in WIDE:
        if 0 <= value < 1 << 64:
            yield f"length {value}", partial(bytes.__add__, struct.pack("<Q", value), target.data[8:])


def _changed(tree: Any, path: tuple[str | int, ...], value: str | None, body: bytes) -> bytes:
    text = with_value(tree, path, value).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return struct.pack("<Q", len(text)) + text + body


def gguf_fields(target: Target) -> Cases:
    """Put numbers in place of each number in the header."""
    for at, size in _numbers(target.data):
        for value in WIDE:
            if 0 <= value < 1 << 8 * size:
                number = value.to_bytes(size, "little")
                yield f"{value} at {at}", partial(_joined, target.data[:at], number, target.data[at + size :])


def _joined(*parts: bytes) -> bytes:
    return b"".join(parts)


def _numbers(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield place and size of each number in the header of a file whose metadata are one string or number each."""
    yield from ((4, 4), (8, 8), (16, 8))
    tensors, entries = struct.unpack_from("<QQ", data, 8)
    at = 24
    for _ in range(entries):
        yield at, 8
        at += 8 + struct.unpack_from("<Q", data, at)[0]
        yield at, 4
        (kind,) = struct.unpack_from("<I", data, at)
        at += 4
        size = 8 if kind == 8 else {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1}.get(kind, 8)
        yield at, size
        at += size + (struct.unpack_from("<Q", data, at)[0] if kind == 8 else 0)
    for _ in range(tensors):
        yield at, 8
        at += 8 + struct.unpack_from("<Q", data, at)[0]
        yield at, 4
        (dimensions,) = struct.unpack_from("<I", data, at)
        at += 4
        for size in (*([8] * dimensions), 4, 8):
            yield at, size
            at += size
