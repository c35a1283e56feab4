"""Codes and exact tensors <-> bytes, without loss.

A stream is cut into chunks of at most CHUNK_ITEMS items (pairs, or elements of an exact tensor), each coded on its own, so
that chunks decode in parallel and alone. Codecs:

    none            the bytes as they are
    zstd            one Zstandard frame a chunk, which declares its content size
    shuffle+zstd    the same, after the bytes of the chunk's elements were regrouped into byte planes
    packed          scalar codes of `bits` bits each, least significant bit first, each chunk padded to a whole byte

Where the steps in use lie in a window of at most 256, a pair is one byte (`Window`), and zstd's Huffman coder comes within 2 %
of the entropy at any rate. Separate planes cannot go below a bit each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zstandard

from bhk.base.errors import BhkError
from bhk.base.memory import is_memory_error

Kind = Literal["winding", "phase", "shell", "codes", "values"]
Codec = Literal["none", "zstd", "shuffle+zstd", "packed"]
Bytes = npt.NDArray[np.uint8]

CHUNK_ITEMS = 1 << 20
# Level 1: the Huffman stage comes within 1.5 % of the order-0 entropy of the planes; level 3 and up is no smaller.
ZSTD_LEVEL = 1
# Below 3.5 bits a symbol, codes repeat by chance, and level 1 spends more on these matches than they save. This setting hardly
# looks for any: planes of 2.1 bits a symbol become 13 % smaller.
FEW_MATCHES = {"min_match": 7, "hash_log": 6, "chain_log": 6, "window_log": 17}
SETTING_SAMPLE = 1 << 18  # items


class CorruptStreamError(BhkError):
    """Bytes do not decode to what their description says; `found` and `expected` say how."""

    def __init__(self, found: str, expected: str) -> None:
        self.found, self.expected = found, expected
        super().__init__(f"found {found}, expected {expected}")


@dataclass(frozen=True)
class Window:
    """Steps that bytes stand for: byte b is the winding `winding` + b div `phases` at phase `phase` + b mod `phases`.

    >>> window = Window(winding=30, phase=29, phases=5)
    >>> window.planes(np.array([0, 7], dtype=np.uint8))
    (array([30, 31], dtype=uint8), array([29, 31], dtype=uint8))
    """

    winding: int
    phase: int
    phases: int

    @classmethod
    def around(cls, winding: Bytes, phase: Bytes) -> Window | None:
        """Return the smallest window that holds all pairs, uint8 (P,) each, P >= 1; None if it has more than 256 steps."""
        low, high = (winding.min(), phase.min()), (winding.max(), phase.max())
        windings, phases = (int(most) - int(least) + 1 for least, most in zip(low, high, strict=True))
        return cls(int(low[0]), int(low[1]), phases) if windings * phases <= 256 else None

    def steps(self, windings: int) -> int:
        """Return how many bytes stand for steps of a square of `windings` windings: they are below this number."""
        return min((windings - self.winding) * self.phases, 256)

    def bytes(self, winding: Bytes, phase: Bytes) -> Bytes:
        """Return pairs within the window as bytes (P,)."""
        # A window of 256 phases has one winding, whose offset is 0 whatever its factor.
        factor = np.uint8(self.phases % 256)
        return (winding - np.uint8(self.winding)) * factor + (phase - np.uint8(self.phase))

    def planes(self, data: Bytes) -> tuple[Bytes, Bytes]:
        """Return winding and phase of the bytes `data` (P,), uint8 (P,) each."""
        # Arithmetic takes an eighth of the time of two tables.
        winding = data // np.uint8(self.phases) if self.phases < 256 else np.zeros_like(data)
        phase = data - winding * np.uint8(self.phases % 256)
        return winding + np.uint8(self.winding), phase + np.uint8(self.phase)


@dataclass(frozen=True)
class Stream:
    """A coded stream.

    Attributes:
        chunks: the stored bytes of each chunk.
        decoded: decoded length in bytes (of codec packed: of the packed codes, equal to the stored length).
        bits: bits a code with codec packed, else 0.
        window: what the bytes stand for, if each is a pair.
    """

    kind: Kind
    codec: Codec
    chunks: tuple[bytes, ...]
    decoded: int
    bits: int = 0
    window: Window | None = None

    @property
    def stored(self) -> int:
        """Stored length in bytes."""
        return sum(map(len, self.chunks))


_local = threading.local()


def _zstd(name: str, make: Callable[[], Any]) -> Any:
    """Return this thread's zstd context `name`; contexts are costly to create and cannot be shared."""
    context = getattr(_local, name, None)
    if context is None:
        context = make()
        setattr(_local, name, context)
    return context


def compress(data: Bytes) -> bytes:
    """Return `data` as one zstd frame that declares its content size."""
    compressor = _zstd("compressor", lambda: zstandard.ZstdCompressor(level=ZSTD_LEVEL))
    frame: bytes = compressor.compress(data)
    return frame


def compress_codes(chunks: Sequence[Bytes]) -> tuple[bytes, ...]:
    """Return chunks of codes as zstd frames, all made with the setting that makes their beginning smallest."""
    beginning = chunks[0][:SETTING_SAMPLE]
    tried = {setting: setting(beginning) for setting in (compress, _compress_few_matches)}
    best = min(tried, key=lambda setting: len(tried[setting]))
    whole = len(chunks) == 1 and len(chunks[0]) == len(beginning)
    return (tried[best],) if whole else tuple(map(best, chunks))


def _compress_few_matches(data: Bytes) -> bytes:
    def make() -> zstandard.ZstdCompressor:
        parameters = zstandard.ZstdCompressionParameters.from_level(ZSTD_LEVEL, **FEW_MATCHES)
        return zstandard.ZstdCompressor(compression_params=parameters)

    frame: bytes = _zstd("few matches", make).compress(data)
    return frame


def decompress(frame: bytes | memoryview, size: int) -> Bytes:
    """Return the `size` bytes of a zstd frame.

    Raises:
        CorruptStreamError: not one whole frame, or one whose declared or true content size is not `size`.
    """
    try:
        parameters = zstandard.get_frame_parameters(frame)
        if parameters.content_size != size:
            unknown = parameters.content_size == zstandard.CONTENTSIZE_UNKNOWN
            declared = "no content size" if unknown else f"{parameters.content_size} bytes"
            raise CorruptStreamError(f"a zstd frame that declares {declared}", f"{size} bytes")
        decompressor = _zstd("decompressor", lambda: zstandard.ZstdDecompressor())
        data: bytes = decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        if is_memory_error(error):
            raise MemoryError from error
        raise CorruptStreamError(f"{len(frame)} bytes that do not decode ({error})", "one zstd frame") from None
    if len(data) != size:
        raise CorruptStreamError(f"a zstd frame of {len(data)} bytes", f"{size} bytes")
    return np.frombuffer(data, dtype=np.uint8)


def pack(codes: npt.NDArray[np.integer[Any]], bits: int) -> bytes:
    """Return codes (P,), each below 2^bits, as a run of bits: code i in bits i*bits ... of the run, least significant first."""
    columns = np.ascontiguousarray(codes, dtype="<u4").view(np.uint8).reshape(-1, 4)
    return np.packbits(np.unpackbits(columns, axis=1, count=bits, bitorder="little"), bitorder="little").tobytes()


def unpack(data: bytes | memoryview, count: int, bits: int, runs: int = 1) -> npt.NDArray[np.uint32]:
    """Return the codes of packed runs of `count` codes each, which follow each other: (runs * count,).

    Raises:
        CorruptStreamError: the data have another length, or bits set behind the last code of a run.
    """
    width = packed_size(count, bits)
    if len(data) != runs * width:
        raise CorruptStreamError(f"{runs * count} codes of {bits} bits in {len(data)} bytes", f"{runs * width} bytes")
    stream = np.unpackbits(np.frombuffer(data, dtype=np.uint8).reshape(runs, width), axis=1, bitorder="little")
    if stream[:, count * bits :].any():
        raise CorruptStreamError("bits set behind the last packed code", "zeros")
    columns = np.packbits(stream[:, : count * bits].reshape(runs * count, bits), axis=1, bitorder="little")
    codes = np.zeros((runs * count, 4), dtype=np.uint8)
    codes[:, : columns.shape[1]] = columns
    return codes.reshape(-1).view("<u4").astype(np.uint32, copy=False)


def packed_size(count: int, bits: int) -> int:
    """Return the bytes of a packed run."""
    return (count * bits + 7) // 8


def shuffle(data: Bytes, width: int) -> Bytes:
    """Regroup elements of `width` bytes into byte planes: all first bytes, all second bytes, ..."""
    return np.ascontiguousarray(data.reshape(-1, width).T).reshape(-1)


def unshuffle(data: Bytes, width: int) -> Bytes:
    """Undo `shuffle`."""
    return np.ascontiguousarray(data.reshape(width, -1).T).reshape(-1)


def _chunks(data: npt.NDArray[Any], items: int) -> list[npt.NDArray[Any]]:
    return [data[start : start + items] for start in range(0, len(data), items)]


def plane_stream(kind: Kind, plane: Bytes) -> Stream:
    """Compress a plane of codes, uint8 (P,)."""
    return Stream(kind, "zstd", compress_codes(_chunks(plane, CHUNK_ITEMS)), len(plane))


def byte_stream(winding: Bytes, phase: Bytes, window: Window) -> Stream:
    """Compress pairs within `window`, uint8 (P,) each, as one byte a pair."""
    data = window.bytes(winding, phase)
    return Stream("codes", "zstd", compress_codes(_chunks(data, CHUNK_ITEMS)), len(data), window=window)


def packed_stream(codes: npt.NDArray[np.integer[Any]], bits: int) -> Stream:
    """Pack scalar codes (P,)."""
    chunks = tuple(pack(chunk, bits) for chunk in _chunks(codes, CHUNK_ITEMS))
    return Stream("codes", "packed", chunks, sum(map(len, chunks)), bits)


def value_stream(data: Bytes, width: int) -> Stream:
    """Store the bytes of an exact tensor of `width`-byte elements with the codec that makes its first chunk smallest."""
    raw = _chunks(data, CHUNK_ITEMS * width)
    coders: dict[Codec, Callable[[Bytes], bytes]] = {
        "none": lambda chunk: chunk.tobytes(),
        "zstd": compress,
        "shuffle+zstd": lambda chunk: compress(shuffle(chunk, width)),
    }
    codec = min(coders, key=lambda name: len(coders[name](raw[0]))) if raw else "none"
    return Stream("values", codec, tuple(map(coders[codec], raw)), len(data))
