"""Unpacking the stored chunks of a layer: from bytes of streams to codes or values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bhk.codec.geometry import ByteCodes, Geometry, Planes
from bhk.codec.streams import CorruptStreamError, Window, decompress, unpack, unshuffle
from bhk.container.errors import ChunkDataError, CodeRangeError
from bhk.container.header import LayerEntry, StreamEntry

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class StoredPart:
    """Consecutive chunks of a stream.

    Attributes:
        low: index of the first chunk.
        chunks: (stored bytes, decoded length in bytes) of each.
    """

    stream: StreamEntry
    low: int
    chunks: tuple[tuple[bytes | memoryview, int], ...]


@dataclass(frozen=True)
class StoredLayer:
    """A layer and the stored chunks of its streams, for all or some of its items (pairs, or elements of exact layers)."""

    layer: LayerEntry
    parts: tuple[StoredPart, ...]

    @property
    def window(self) -> Window | None:
        """What the bytes of the codes stand for; None if they are coded in another way."""
        window = self.parts[0].stream.window
        return None if window is None else Window(*window)

    def planes(self, geometry: Geometry, first: int, count: int) -> Planes:
        """Return the codes of pairs `first` ... `first + count - 1` as planes; see `codes`."""
        codes = self.codes(geometry, first, count)
        return codes.planes() if isinstance(codes, ByteCodes) else codes

    def codes(self, geometry: Geometry, first: int, count: int) -> Planes | ByteCodes:
        """Return the codes of pairs `first` ... `first + count - 1`, as bytes if they are stored so.

        Raises:
            ChunkDataError, CodeRangeError: a chunk is damaged (rules D3 and D4).
        """
        if self.parts[0].stream.codec == "packed":
            scalars = self._packed(first, count)
            self._check_below(scalars, geometry.code_count, "codes")
            return Planes.from_scalars(scalars, geometry.windings, geometry.shells)
        planes = [self._items(part, first, count) for part in self.parts]
        n, window = geometry.windings, self.window
        limits = (n, n) if window is None else (window.steps(n),)
        for plane, limit, part in zip(planes, (*limits, geometry.shells + 1), self.parts, strict=False):
            self._check_below(plane, limit, part.stream.kind)
        return Planes(*planes) if window is None else ByteCodes(planes[0], window, *planes[1:])

    def values(self, first: int, count: int) -> Bytes:
        """Return the bytes of elements `first` ... `first + count - 1` of an exact layer.

        Raises:
            ChunkDataError: a chunk is damaged (rule D3).
        """
        return self._items(self.parts[0], first, count)

    def _items(self, part: StoredPart, first: int, count: int) -> Bytes:
        """Return the decoded bytes of items `first` ... `first + count - 1` of a plane or value stream."""
        stream, width = part.stream, self.layer.item_bytes
        low, high = first // stream.chunk, (first + count - 1) // stream.chunk
        chunks = part.chunks[low - part.low : high - part.low + 1]
        data = np.empty(sum(length for _, length in chunks), dtype=np.uint8)
        if stream.codec == "none":
            data[:] = np.frombuffer(b"".join(chunk for chunk, _ in chunks), dtype=np.uint8)
        else:
            at = 0
            for chunk, length in chunks:
                with self._rule_d3(stream):
                    plain = decompress(chunk, length)
                data[at : at + length] = unshuffle(plain, width) if stream.codec == "shuffle+zstd" else plain
                at += length
        skip = (first - low * stream.chunk) * width
        return data[skip : skip + count * width]

    def _packed(self, first: int, count: int) -> npt.NDArray[np.uint32]:
        """Return the scalar codes of pairs `first` ... `first + count - 1` of a packed stream."""
        part = self.parts[0]
        stream = part.stream
        low, high = first // stream.chunk, (first + count - 1) // stream.chunk
        data = [chunk for chunk, _ in part.chunks[low - part.low : high - part.low + 1]]
        codes = []
        left = self.layer.pairs.count - high * stream.chunk  # codes in the last of these chunks
        if left < stream.chunk:
            with self._rule_d3(stream):
                codes.append(unpack(data.pop(), left, stream.bits))
        if data:  # full chunks, which may be as small as a code
            with self._rule_d3(stream):
                full = data[0] if len(data) == 1 else b"".join(data)
                codes.insert(0, unpack(full, stream.chunk, stream.bits, len(data)))
        skip = first - low * stream.chunk
        return np.concatenate(codes)[skip : skip + count]

    @contextlib.contextmanager
    def _rule_d3(self, stream: StreamEntry) -> Iterator[None]:
        """Turn an error of the codec about a chunk into one that names rule and place."""
        try:
            yield
        except CorruptStreamError as error:
            raise ChunkDataError(error.found, error.expected, self._where(stream.kind)) from None

    def _check_below(self, codes: npt.NDArray[np.unsignedinteger[Any]], limit: int, kind: str) -> None:
        largest = int(codes.max())
        if largest >= limit:
            raise CodeRangeError(largest, f"at most {limit - 1}", self._where(kind))

    def _where(self, kind: str) -> str:
        return f"layer {self.layer.name!r}, stream {kind}"
