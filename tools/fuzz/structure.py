"""Changes to a file that keep its structure, so that they reach what lies behind checks of lengths and hashes."""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import zstandard

from tools.corruption.forged_headers import VALUES, places, with_value
from tools.format_spec.builder import align, seal

Mutate = Callable[[bytes], bytes]  # changes bytes without knowing what they are

# What a change may raise that finds no structure in an input.
FAULTS = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    struct.error,
    zstandard.ZstdError,
    RecursionError,
)
_LONGEST_VALUE = 2000


def container(data: bytes, draw: random.Random, mutate: Mutate) -> bytes:
    """Change a `.bhk` file in its header or its streams, and set lengths and hashes right."""
    try:
        frame_length, length = struct.unpack_from("<IQ", data, 12)
        length = min(length, align(len(data)))
        stored, body = data[64 : 64 + (frame_length or length)], data[64 + length :]
        text = zstandard.ZstdDecompressor().decompress(stored, 1 << 20) if frame_length else stored
        if draw.random() < 0.6:
            text = json_text(text, draw, mutate)
        else:
            body = _around(body, draw, mutate)
        return _sealed(data[:12], text, body, length, compressed=bool(frame_length))
    except FAULTS:
        changed = mutate(data)
        return seal(changed) if len(changed) >= 64 and draw.random() < 0.8 else changed


def _sealed(start: bytes, text: bytes, body: bytes, length: int, *, compressed: bool) -> bytes:
    end = 64 + length
    if compressed:
        frame = zstandard.ZstdCompressor().compress(_with_hashes(text, body, 64 + length, end, compressed=True))
        length = align(64 + len(frame)) - 64
        return seal(start + struct.pack("<IQ", len(frame), length) + bytes(40) + frame.ljust(length, b"\0") + body)
    text = _with_hashes(text, body, 64 + length, end, compressed=False).rstrip(b" ")
    length = max(length, align(64 + len(text)) - 64)
    return seal(start + struct.pack("<IQ", 0, length) + bytes(40) + text.ljust(length) + body)


def _with_hashes(text: bytes, body: bytes, first: int, end: int, *, compressed: bool) -> bytes:
    """Return the text of a header with the hashes of the streams that lie in `body`, as far as it can be read."""
    try:
        for layer in json.loads(text)["layers"]:
            for stream in layer.get("streams", ()):
                follows = compressed and stream.get("codec", "zstd") not in ("none", "packed")
                start = end if follows else align(end)
                end = start + stream["stored"]
                found = hashlib.sha256(body[start - first : end - first]).hexdigest()
                text = text.replace(stream["sha256"].encode(), found.encode(), 1)
    except FAULTS:
        pass
    return text


def checkpoint(data: bytes, draw: random.Random, mutate: Mutate) -> bytes:
    """Change an entry of a zip file, whose checksum is set right, or the header of a safetensors file."""
    try:
        if data[:2] == b"PK":
            return _zip(data, draw, mutate)
        (length,) = struct.unpack_from("<Q", data)
        text = json_text(data[8 : 8 + length], draw, mutate)
        return struct.pack("<Q", len(text)) + text + data[8 + length :]
    except (*FAULTS, zipfile.BadZipFile, NotImplementedError, OSError, EOFError, RuntimeError):
        return mutate(data)


def _zip(data: bytes, draw: random.Random, mutate: Mutate) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()[:50]}
    pickles = [name for name in entries if name.endswith(".pkl")]
    name = draw.choice(pickles if pickles and draw.random() < 0.8 else list(entries))
    entries[name] = _around(entries[name], draw, mutate)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def json_text(text: bytes, draw: random.Random, mutate: Mutate) -> bytes:
    """Put another value into one place of a JSON text, take one from another place, or change some bytes."""
    if draw.random() < 0.15:
        return mutate(text)
    tree = json.loads(text)
    found = list(places(tree))
    place = draw.choice(found)
    value: str | None = draw.choice(VALUES)
    if draw.random() < 0.4:
        other: Any = tree
        for key in draw.choice(found):
            other = other[key]
        value = json.dumps(other)
    elif draw.random() < 0.3:
        value = str(draw.randrange(-2, 300))
    if value is not None and len(value) > _LONGEST_VALUE:
        value = value[:_LONGEST_VALUE]
    return with_value(tree, place, value).encode("utf-8", "surrogatepass")


def _around(data: bytes, draw: random.Random, mutate: Mutate) -> bytes:
    """Change some bytes somewhere."""
    low = draw.randrange(len(data) + 1)
    high = min(len(data), low + draw.choice((1, 2, 4, 16, 64, 1 << 20)))
    return data[:low] + mutate(data[low:high]) + data[high:]
