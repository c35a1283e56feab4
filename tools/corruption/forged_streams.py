"""Streams of `.bhk` files that a stranger wrote: frames, codes and data of other files, with every hash set right."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tools.corruption.attacks import Cases, Target, cut, flipped
from tools.corruption.forged_headers import DRAFTS
from tools.format_spec import zstd_frames as frames
from tools.format_spec.builder import Draft, compressed, draft, exact_layer

_SPLICES = 4000
_PIECE = 1 << 17  # the largest block of zstd
_CHUNK_BYTES = 1 << 24


def spliced() -> Cases:
    """Put the data of one stream in place of another's, in the same file or in another."""
    streams = [(name, index) for name, make in DRAFTS.items() for index in range(len(make().data))]
    draw = random.Random(7)
    made = {name: make() for name, make in DRAFTS.items()}
    for _ in range(_SPLICES):
        (name, index), (other, place) = draw.choice(streams), draw.choice(streams)
        data = partial(list.__getitem__, made[other].data, place)
        yield f"{name} {index} from {other} {place}", partial(_with_stream, made[name], index, data)


def frames_changed() -> Cases:
    """Flip every bit of frames, and cut them off at every byte."""
    for name in ("planes_recorded", "bytes_recorded", "exact_zstd", "zstd_frames", "compressed_recorded"):
        made = DRAFTS[name]()
        for index, data in enumerate(made.data):
            for attack in (flipped, cut):
                for case, change in attack(Target(name, data)):
                    yield f"{name}, stream {index}: {case}", partial(_with_stream, made, index, change)


def header_frames_changed() -> Cases:
    """Do the same with the frame of a header."""
    made = DRAFTS["compressed_recorded"]()
    assert made.frame is not None
    frame = made.frame(b"")
    for attack in (flipped, cut):
        for case, change in attack(Target("header", frame)):
            yield case, partial(_with_header, made, change)


def _with_stream(made: Draft, index: int, change: Callable[[], bytes | None]) -> bytes | None:
    """Return a file with other bytes for one of its streams."""
    file = made.copy()
    file.data[index] = change() or b""
    return file.encode() if file.data[index] else None


def _with_header(made: Draft, change: Callable[[], bytes | None]) -> bytes | None:
    """Return a file with another frame for its header."""
    frame = change()
    file = made.copy()
    file.frame = lambda _: frame or b""
    return file.encode() if frame else None


def frames_that_lie() -> Cases:
    """Frames that hold, declare or need something else: sizes, windows, dictionaries, skippable frames, bombs."""
    content = b"abc"
    whole = frames.frame(content)
    skippable = [bytes([0x50 + kind]) + b"\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc" for kind in range(16)]
    endless = b"\x50\x2a\x4d\x18\xff\xff\xff\xff"
    made: dict[str, bytes] = {"no bytes but one": b"\x28", "magic alone": frames.MAGIC, "endless skippable": endless}
    for index, frame in enumerate(skippable):
        made |= {f"skippable {index} before": frame + whole, f"skippable {index} behind": whole + frame}
    made |= {"two": whole + whole, "empty behind": whole + frames.frame(b""), "empty before": frames.frame(b"") + whole}
    for field in (1, 2, 4, 8):
        for size in (0, 1, 2, 4, 255, 256, 1 << 16, _CHUNK_BYTES, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 64) - 1):
            if size - (256 if field == 2 else 0) in range(1 << 8 * field):
                made[f"declares {size} in {field}"] = frames.frame(content, size=size, field=field)
    for window in range(256):
        made[f"window {window}"] = (
            frames.MAGIC + b"\x80" + bytes([window]) + struct.pack("<I", 3) + frames.raw_block(content)
        )
    for descriptor in range(256):
        made[f"descriptor {descriptor}"] = frames.MAGIC + bytes([descriptor]) + bytes(14) + frames.raw_block(content)
    for width, flag in ((1, 1), (2, 2), (4, 3)):
        for number in (0, 1, 7, (1 << 8 * width) - 1):
            identity = number.to_bytes(width, "little")
            made[f"dictionary {number} in {width}"] = (
                frames.MAGIC + bytes([0x20 | flag]) + identity + b"\3" + frames.raw_block(content)
            )
    for count in (1, 4, 1 << 10, _PIECE, (1 << 21) - 1):
        made[f"block of {count}"] = frames.frame(content, frames.rle_block(0, count), size=3)
        made[f"expands to {count}"] = frames.frame(
            content, frames.raw_block(content, last=False) + frames.rle_block(0, count)
        )
    for kind in range(4):
        for size in (0, 3, 1000, (1 << 21) - 1):
            made[f"block type {kind}, size {size}"] = frames.frame(
                content, (size << 3 | kind << 1 | 1).to_bytes(3, "little") + content
            )
    made["many empty blocks"] = frames.frame(
        content, frames.raw_block(b"", last=False) * 200_000 + frames.raw_block(content)
    )
    for name, frame in made.items():
        yield name, partial(_values, frame, len(content))


def bombs() -> Cases:
    """Little data that stands for much: what is declared is right, or less than what is there."""
    for chunks in (1, 4):
        zeros = frames.rle_block(0, _PIECE, last=False) * (_CHUNK_BYTES // _PIECE - 1) + frames.rle_block(0, _PIECE)
        bomb = frames.frame(b"", zeros, size=_CHUNK_BYTES)
        entry, data = compressed("values", "zstd", chunks * _CHUNK_BYTES, [bomb] * chunks)
        made = exact_layer(draft(), "values", [chunks << 20], "C128", b"", (entry, data))
        yield f"{chunks} chunks of zeros", made.encode
        lying = made.copy()
        lying.stream()["decoded"] = 16
        yield f"{chunks} chunks of zeros, declared as 16 bytes", lying.encode
        yield f"{chunks} chunks of zeros in a tensor of 3 bytes", partial(_values, bomb * chunks, 3)


def codes_out_of_range() -> Cases:
    """Put every byte at the end of a plane, and ones into packed codes."""
    for name, make in DRAFTS.items():
        made = make()
        for place, (layer, entry) in enumerate(_streams(made)):
            if layer["encoding"] != "trajectory":
                continue
            for case, data in _codes(entry, made.data[place]):
                yield f"{name}, stream {place}: {case}", partial(_in_one_chunk, made, place, data)


def _in_one_chunk(made: Draft, place: int, data: bytes) -> bytes:
    """Return a file with other bytes for one of its streams, which is not cut into chunks."""
    file = made.copy()
    file.data[place] = data
    for key in ("chunks", "chunk"):
        _streams(file)[place][1].pop(key, None)
    return file.encode()


def _codes(entry: dict[str, Any], data: bytes) -> Iterator[tuple[str, bytes]]:
    if entry["kind"] == "codes" and entry.get("codec") == "packed":
        for at in range(min(len(data), 40)):
            yield f"ones at {at}", data[:at] + b"\xff" + data[at + 1 :]
        return
    count = entry["decoded"]
    for value in range(256):
        yield f"last is {value}", frames.frame(bytes(count - 1) + bytes([value]))


def _streams(made: Draft) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(layer, stream) for layer in made.layers for stream in layer.get("streams", ())]


def _values(frame: bytes, length: int) -> bytes:
    """Return a file with one stream: this frame, for a tensor of `length` bytes."""
    stream = compressed("values", "zstd", length, [frame])
    return exact_layer(draft(), "values", [length], "U8", bytes(length), stream).encode()
