"""Good files with a compressed header; each function bears the name of its file."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tools.format_spec import zstd_frames as frames
from tools.format_spec.builder import (
    Draft,
    align,
    codebook,
    coded_layer,
    compressed,
    draft,
    exact_layer,
    packed,
    plain,
    planes,
    registered,
    scalar_bytes,
    shuffle,
)

COMPRESSED: dict[str, Callable[[], Draft]] = {}
good = registered(COMPRESSED)


def squeezed(file: Draft, frame: Callable[[bytes], bytes] = frames.frame) -> Draft:
    """Let `frame` compress the header of a file."""
    file.frame, file.minor = frame, 1
    return file


def value_frame(file: Draft, name: str, content: bytes, codec: str = "zstd") -> Draft:
    """Add a layer of 2-byte values in a zstd frame."""
    stored = frames.frame(shuffle(content, 2) if codec == "shuffle+zstd" else content)
    stream = compressed("values", codec, len(content), [stored])
    return exact_layer(file, name, [len(content) // 2], "F16", content, stream)


@good
def compressed_minimal() -> Draft:
    return squeezed(draft())


@good
def compressed_places() -> Draft:
    """Streams that are decompressed follow each other; the others start at multiples of 64, wherever they are."""
    file = draft(codebook(35, 0.1), codebook(4, 0.5, shells=1, spacing=0.125), required_features=["scalar-bytes"])
    codes = [0, 1224, 600]
    exact_layer(file, "first", [3], "U8", b"abc", plain(b"abc"))
    coded_layer(file, "planes", [6], codes, planes(file, codes, frames.frame))
    value_frame(file, "zstd", b"abcdef")
    exact_layer(file, "none", [5], "U8", b"fghij", plain(b"fghij"))
    exact_layer(file, "none again", [64], "U8", bytes(range(64)), plain(bytes(range(64))))
    exact_layer(file, "none once more", [1], "U8", b"k", plain(b"k"))
    value_frame(file, "shuffled", b"ghijkl", "shuffle+zstd")
    exact_layer(file, "empty", [0, 3], "F32", b"", None)
    coded_layer(file, "packed", [6], [1, 2, 31], [packed([1, 2, 31], 5)], book=1)
    codes = [0, 5, 16 + 6]
    coded_layer(file, "bytes", [3, 2], codes, scalar_bytes(file, codes, (0, 0, 4), frames.frame, book=1), book=1)
    return squeezed(coded_layer(file, "in chunks", [6], [3, 2, 1], planes(file, [3, 2, 1], frames.frame, chunk=2)))


@good
def compressed_recorded() -> Draft:
    """A header that is really compressed, by zstd."""
    file = draft(codebook(4, 0.5), metadata={"source.name": "recorded.pth"})
    for index in range(6):
        coded_layer(file, f"blocks.{index}.weight", [2, 2], [7, 8], planes(file, [7, 8], frames.frame))
        value_frame(file, f"blocks.{index}.bias", struct.pack("<2e", index, -1.5))
    return squeezed(file, lambda _: frames.recorded("header"))


@good
def compressed_blocks() -> Draft:
    """A frame of several blocks, which declares a window."""

    def frame(text: bytes) -> bytes:
        blocks = frames.raw_block(text[:9], last=False) + frames.raw_block(text[9:])
        return frames.MAGIC + bytes([2 << 6, 9 << 3]) + struct.pack("<I", len(text)) + blocks

    return squeezed(value_frame(draft(), "bias", b"ab"), frame)


@good
def compressed_without_padding() -> Draft:
    """The frame fills the header to its end, with the help of spaces behind the object."""

    def frame(text: bytes) -> bytes:
        length = len(frames.frame(text, field=4))
        return frames.frame(text.ljust(len(text) + align(length) - length), field=4)

    return squeezed(value_frame(draft(), "bias", b"ab"), frame)


@good
def compressed_notations() -> Draft:
    """White space around the object, an offset of 0, minor version 0."""
    file = value_frame(draft(), "bias", b"ab")
    exact_layer(file, "mask", [1], "U8", b"\1", plain(b"\1"))
    file.stream(layer=1)["offset"] = 0
    file.text = lambda text: "\n\t " + text.replace(",", " ,\r") + "  "
    squeezed(file).minor = 0
    return file
