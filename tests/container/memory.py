"""Containers in memory, and the verdict of a reader on them."""

from __future__ import annotations

import struct
from pathlib import Path

import zstandard

from bhk.base.files import ReadError
from bhk.container.reader import Container, FileSource
from bhk.file.bhkfile import BhkFile
from tools.format_spec.builder import align, seal


class MemorySource:
    name = "memory.bhk"

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)
        self.closed = False

    def read(self, offset: int, length: int) -> bytes:
        part = self._data[offset : offset + length]
        if len(part) < length:
            raise ReadError(f"{self.name} ended at {offset + len(part)} bytes")
        return part

    def close(self) -> None:
        self.closed = True


def is_compressed(data: bytes) -> bool:
    """Return whether the header of a file is compressed."""
    return data[12:16] != bytes(4)


def header_text(data: bytes) -> bytes:
    """Return the text of the header of a file.

    Raises:
        ZstdError: it does not decode.
    """
    frame_length, length = struct.unpack_from("<IQ", data, 12)
    stored = data[64 : 64 + (frame_length or length)]
    return zstandard.ZstdDecompressor().decompress(stored) if frame_length else stored


def with_text(data: bytes, text: bytes, streams: bytes) -> bytes:
    """Return a file with a preamble and a header like those of `data`, but with another text and other streams."""
    stored = zstandard.ZstdCompressor().compress(text) if is_compressed(data) else text
    length = align(64 + len(stored)) - 64
    frame_length = len(stored) if is_compressed(data) else 0
    header = stored.ljust(length, b"\0" if is_compressed(data) else b" ")
    return seal(data[:12] + struct.pack("<IQ", frame_length, length) + bytes(40) + header + streams)


def validate_all(file_or_data: Path | bytes, *, verify: bool = True) -> BhkFile:
    """Open a file, check its padding and decode everything, like a validator."""
    source = MemorySource(file_or_data) if isinstance(file_or_data, bytes) else FileSource(file_or_data)
    file = BhkFile(Container(source), verify=verify)
    file.container.check_padding()
    for layer in file.layers:
        file.tensor(layer.name)
    return file
