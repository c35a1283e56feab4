"""Containers in memory, and the verdict of a reader on them."""

from __future__ import annotations

from pathlib import Path

from bhk.base.files import ReadError
from bhk.container.reader import Container, FileSource
from bhk.file.bhkfile import BhkFile


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


def validate_all(file_or_data: Path | bytes, *, verify: bool = True) -> BhkFile:
    """Open a file, check its padding and decode everything, like a validator."""
    source = MemorySource(file_or_data) if isinstance(file_or_data, bytes) else FileSource(file_or_data)
    file = BhkFile(Container(source), verify=verify)
    file.container.check_padding()
    for layer in file.layers:
        file.tensor(layer.name)
    return file
