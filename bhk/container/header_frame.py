"""The compressed form of a header: one zstd frame, and zeros behind it."""

from __future__ import annotations

import zstandard

from bhk.base.limits import HEADER, check_expansion
from bhk.codec.streams import CorruptStreamError, decompress
from bhk.container.errors import HeaderFrameError
from bhk.container.places import PREAMBLE_BYTES, align
from bhk.container.validate import MAX_HEADER_BYTES

# 10 % smaller than level 12, in 50 ms for the 240 kB of SAM ViT-H; level 19 gains 0.5 % in four times as long.
ZSTD_LEVEL = 15
EXPANSION = 32  # times the frame, or 8 times the file; headers with hashes become 4 to 8 times smaller


def compress_text(text: bytes) -> bytes:
    """Return the text of a header as a zstd frame that declares its content size."""
    frame: bytes = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(text)
    return frame


def header_length(frame_length: int) -> int:
    """Return H for a compressed header of `frame_length` bytes."""
    return align(PREAMBLE_BYTES + frame_length) - PREAMBLE_BYTES


def max_frame_length(text_length: int) -> int:
    """Return an upper bound of the length of a frame that holds `text_length` bytes, as zstd defines it."""
    return text_length + (text_length >> 8) + 64


def text_of(data: bytes, frame_length: int, where: str, file_length: int = 0) -> bytes:
    """Return the text in the header bytes `data`: a frame of `frame_length` bytes and zeros, or if that is 0, the text itself.

    Args:
        where: the name of the file.
        file_length: its length in bytes.

    Raises:
        HeaderFrameError: rule P8.
        TooLargeError: the text is much longer than the frame and the file.
    """
    if not frame_length:
        return data
    frame = data[:frame_length]
    if data[frame_length:].strip(b"\0"):
        raise HeaderFrameError("other bytes behind the compressed header", "zeros", where)
    try:
        size = zstandard.get_frame_parameters(frame).content_size
        if not 2 <= size <= MAX_HEADER_BYTES:
            raise HeaderFrameError("a frame that declares no or another size", f"2 to {MAX_HEADER_BYTES} bytes", where)
        stored = max(frame_length, file_length // 4)
        check_expansion(f"the header of {where}", size, stored, HEADER, times=EXPANSION)
        return decompress(frame, size).tobytes()
    except (zstandard.ZstdError, CorruptStreamError) as error:
        raise HeaderFrameError(f"a compressed header that does not decode ({error})", "one zstd frame", where) from None
