"""Reading a .bhk file: its preamble, header and streams."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from bhk.base.files import ReadError, Stamp
from bhk.base.limits import HEADER, TooLargeError
from bhk.base.names import BHK_SUFFIX
from bhk.base.texts import size
from bhk.container import errors as e
from bhk.container.header import Header, LayerEntry, StreamEntry, parse
from bhk.container.header_frame import header_length, text_of
from bhk.container.places import ALIGNMENT, PREAMBLE_BYTES, placed
from bhk.container.validate import MAX_HEADER_BYTES, validate

MAGIC = b"\x89BHK\r\n\x1a\n"
VERSION = 1  # the major one
_BRACKET_BYTES = 16  # of text for each object or array, at least; a layer has 40 and more
_BLOCK = 1 << 24  # bytes that are hashed at a time
# magic, major, minor, length of the compressed header or 0, header length, file length, SHA-256 of the header
PREAMBLE = struct.Struct("<8sHHIQQ32s")


def is_bhk(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a .bhk file: whether its name or its content says so.

    A file called .bhk counts even if it holds something else or does not exist; reading it says what is wrong with it.
    """
    if Path(path).suffix == BHK_SUFFIX:
        return True
    try:
        if not Path(path).is_file():  # opening a pipe would wait for its writer
            return False
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class ByteSource(Protocol):
    """Random access to the bytes of a .bhk file."""

    name: str
    length: int

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset` on, or raise ReadError."""

    def close(self) -> None:
        """Close the source."""


class FileSource:
    """A local file, which any thread can read."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = os.fspath(path)
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
                kind = "a folder" if Path(path).is_dir() else "not a regular file"
                raise ReadError(f"{self.name} is {kind}; expected a .bhk file")
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 -- closed by close()
            self._stamp = Stamp.of(self._file.fileno())
            self.length = self._stamp.size
        except OSError as error:
            raise ReadError(f"cannot read {self.name}: {error.strerror or error}") from None
        self._lock = threading.Lock()

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset` on."""
        parts: list[bytes] = []
        done = 0
        while done < length:
            part = self._read_once(offset + done, length - done)
            if not part or Stamp.of(self._file.fileno()) != self._stamp:
                raise ReadError(f"{self.name} was changed in the meantime; open it again")
            parts.append(part)
            done += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_once(self, offset: int, length: int) -> bytes:
        try:
            if hasattr(os, "pread"):
                return os.pread(self._file.fileno(), length, offset)
            with self._lock:
                self._file.seek(offset)
                return self._file.read(length)
        except OSError as error:
            raise ReadError(f"cannot read {self.name}: {error.strerror or error}") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Container:
    """An open .bhk file with a valid header. Streams are read on demand, from any thread.

    Attributes:
        source: the bytes of the file.
        header_length: H, the length of the header in bytes, including its padding.
        header: the header, with the offsets of all streams.

    Raises:
        ReadError: the system could not read the file.
        FormatError: the file breaks a rule of the format.
    """

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        try:
            self.header_length, self.header = _read_header(source)
        except BaseException:
            source.close()
            raise

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Container:
        """Open the local file `path`."""
        return cls(FileSource(path))

    @property
    def layers(self) -> tuple[LayerEntry, ...]:
        """The layer map."""
        return self.header.layers

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than its dense tensors."""
        return sum(layer.dense_bytes for layer in self.layers) / self.source.length

    def read_stream(self, layer: LayerEntry, stream: StreamEntry, *, verify: bool = True) -> list[memoryview]:
        """Return the stored bytes of each chunk of `stream`.

        Raises:
            PaddingError: with `verify`, if the bytes in front of the stream are not zero.
            StreamHashError: with `verify`, if its hash is not the one in the layer map.
        """
        gap = self._gap_before(stream) if verify else 0  # read in one piece: over a network, each takes a request
        read = memoryview(self.source.read(stream.offset - gap, gap + stream.stored))
        data = read[gap:]
        if verify:
            _check_zeros(bytes(read[:gap]), layer, stream)
            _check_hash(hashlib.sha256(data).hexdigest(), layer, stream)
        return _cut(data, (stored for stored, _ in stream.chunk_lengths(layer.item_bytes)))

    def read_chunks(
        self, layer: LayerEntry, stream: StreamEntry, first: int, last: int, *, verify: bool = True
    ) -> list[memoryview]:
        """Return the stored bytes of chunks `first` to `last` only. Memory is needed for these, also with `verify`.

        Raises:
            PaddingError, StreamHashError: see `read_stream`.
        """
        if verify and stream.stored <= _BLOCK:
            return self.read_stream(layer, stream)[first : last + 1]
        lengths = [stored for stored, _ in stream.chunk_lengths(layer.item_bytes)]
        begin = stream.offset + sum(lengths[:first])
        end = begin + sum(lengths[first : last + 1])
        digest = hashlib.sha256()
        if verify:
            self._check_gap(layer, stream)
            self._hash(digest, stream.offset, begin)
        data = memoryview(self.source.read(begin, end - begin))
        if verify:
            digest.update(data)
            self._hash(digest, end, stream.offset + stream.stored)
            _check_hash(digest.hexdigest(), layer, stream)
        return _cut(data, lengths[first : last + 1])

    def _hash(self, digest: Any, begin: int, end: int) -> None:
        """Add the bytes from `begin` up to `end` to a hash, some at a time."""
        for start in range(begin, end, _BLOCK):
            digest.update(self.source.read(start, min(_BLOCK, end - start)))

    def check_padding(self) -> None:
        """Check that all bytes between streams are zero. Reading a stream checks those in front of it.

        Raises:
            PaddingError: they are not.
        """
        for layer in self.layers:
            for stream in layer.streams:
                self._check_gap(layer, stream)

    def _check_gap(self, layer: LayerEntry, stream: StreamEntry) -> None:
        """Check that the bytes in front of a stream are zero."""
        gap = self._gap_before(stream)
        if gap:
            _check_zeros(self.source.read(stream.offset - gap, gap), layer, stream)

    def _gap_before(self, stream: StreamEntry) -> int:
        """Return how many bytes lie between a stream and what is in front of it: at most 63."""
        return stream.offset - self._ends[bisect_right(self._ends, stream.offset) - 1]

    @cached_property
    def _ends(self) -> array[int]:
        """Where the header and each stream end, in the order of the file."""

        def ends() -> Iterator[int]:
            yield PREAMBLE_BYTES + self.header_length
            for layer in self.layers:
                for stream in layer.streams:
                    yield stream.offset + stream.stored

        return array("Q", ends())

    def close(self) -> None:
        """Close the file."""
        self.source.close()

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_hash(digest: str, layer: LayerEntry, stream: StreamEntry) -> None:
    if digest != stream.sha256:
        raise e.StreamHashError("other bytes", f"SHA-256 {stream.sha256[:16]}…", _where(layer, stream))


def _check_zeros(gap: bytes, layer: LayerEntry, stream: StreamEntry) -> None:
    if gap.strip(b"\0"):
        expected = f"zeros from {stream.offset - len(gap)} to {stream.offset}"
        raise e.PaddingError("other bytes", expected, _where(layer, stream))


def _cut(data: memoryview, lengths: Iterable[int]) -> list[memoryview]:
    """Return consecutive parts of `data` of these lengths."""
    parts, start = [], 0
    for length in lengths:
        parts.append(data[start : start + length])
        start += length
    return parts


def _where(layer: LayerEntry, stream: StreamEntry) -> str:
    return f"layer {layer.name!r}, stream {stream.kind}"


def _check_density(text: bytes, where: str) -> None:
    """Check that a long header does not consist of brackets, each of which takes 20 times its length in memory.

    Raises:
        TooLargeError: it does.
    """
    count = text.count(b"[") + text.count(b"{")
    if len(text) > HEADER.value and count * _BRACKET_BYTES > len(text):
        raise TooLargeError(
            f"the header of {where} holds {count:,} objects and arrays in {size(len(text))}; {HEADER.raised_to(len(text))}"
        )


def _read_header(source: ByteSource) -> tuple[int, Header]:
    """Check preamble and header, and return H, the length of the header, and the header."""
    length = source.length
    if length < PREAMBLE_BYTES:
        head = source.read(0, length)
        if head[: len(MAGIC)] != MAGIC[: len(head)]:
            raise e.BadMagicError(f"the bytes {head[:8].hex(' ')}" if head else "nothing", MAGIC.hex(" "), source.name)
        raise e.FileTooShortError(f"{length} bytes", f"at least {PREAMBLE_BYTES}; the file is cut off", source.name)
    magic, major, minor, compressed, room, file_length, digest = PREAMBLE.unpack(source.read(0, PREAMBLE_BYTES))
    if magic != MAGIC:
        raise e.BadMagicError(f"the bytes {magic.hex(' ')}", MAGIC.hex(" "), source.name)
    if major != VERSION:
        raise e.UnsupportedVersionError(f"version {major}.{minor}", f"{VERSION}.x; update bhk", source.name)
    if compressed and header_length(compressed) != room:
        found = f"a compressed header of {compressed} bytes in a header of {room}"
        raise e.CompressedLengthError(found, f"a header of {header_length(compressed)} bytes", source.name)
    if not 2 <= room <= MAX_HEADER_BYTES or (PREAMBLE_BYTES + room) % ALIGNMENT:
        expected = f"a multiple of {ALIGNMENT} up to {MAX_HEADER_BYTES}"
        raise e.HeaderLengthError(f"a header of {room} bytes", expected, source.name)
    if file_length != length:
        state = "cut off" if length < file_length else "followed by other bytes"
        raise e.FileLengthError(f"{length} bytes", f"{file_length}; the file is {state}", source.name)
    if PREAMBLE_BYTES + room > length:
        raise e.HeaderLengthError(f"a header of {room} bytes", f"at most {length - PREAMBLE_BYTES}", source.name)
    data = source.read(PREAMBLE_BYTES, room)
    if hashlib.sha256(data).digest() != digest:
        raise e.HeaderHashError("other header bytes", f"SHA-256 {digest.hex()[:16]}…; the file is damaged", source.name)
    text = text_of(data, compressed, source.name, length)
    _check_density(text, source.name)
    header = parse(text)
    validate(header, room, length, compressed=bool(compressed))
    return room, placed(header, room) if compressed else header
