"""The length of a header before anything is encoded: an upper bound, and an estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from bhk.codec.streams import CHUNK_ITEMS
from bhk.container.header import SCALAR_BYTES, CodebookEntry, ErrorEntry, Header, LayerEntry, StreamEntry, to_json

_WORST_FLOAT = -1.2345678901234567e-100
_WORST_CODEBOOK = CodebookEntry((_WORST_FLOAT, _WORST_FLOAT), abs(_WORST_FLOAT), 256, "centred", 255, abs(_WORST_FLOAT))
# The longest text of a number with five digits: from 1e16 on, JSON has an exponent.
_WORST_ERROR = ErrorEntry(1234500000000000.0, 1234500000000000.0, -1234.5)

_LIKELY_CODEBOOK = CodebookEntry((0.0, 0.0), 1.234567890123456, 64)
_LIKELY_ERROR = ErrorEntry(0.0012345, 0.012345, 12.345)
_LIKELY_RATIO = 8  # dense bytes to stream bytes; only the number of digits matters
# The 83 coded layers of the demo SAM share 19 to 29 codebooks if most have the same step; with a step for each they share none.
_LAYERS_A_CODEBOOK = 2


@dataclass(frozen=True)
class _Guess:
    """Assumptions about everything that a header does not know before the tensors are encoded.

    Attributes:
        planes: kinds of the streams of a coded layer.
        offset: the offset of every stream.
        stored: returns the stored bytes for a number of decoded bytes.
    """

    planes: tuple[str, ...]
    offset: int
    stored: Callable[[int], int]
    error: ErrorEntry
    codebooks: tuple[CodebookEntry, ...]

    def length(self, header: Header) -> int:
        """Return the length of the JSON of `header` in bytes, if the assumptions hold."""
        layers = tuple(map(self._layer, header.layers))
        return len(to_json(msgspec.structs.replace(header, layers=layers, codebooks=self.codebooks)))

    def _layer(self, layer: LayerEntry) -> LayerEntry:
        if layer.encoding == "exact":
            streams = (self._stream("values", "shuffle+zstd", layer.numel, layer),) if layer.numel else ()
            return msgspec.structs.replace(layer, streams=streams)
        planes = tuple(self._stream(kind, "zstd", layer.pairs.count, layer) for kind in self.planes)
        codebook = len(self.codebooks)
        return msgspec.structs.replace(layer, streams=planes, codebook=codebook, pairing="rows", error=self.error)

    def _stream(self, kind: str, codec: str, items: int, layer: LayerEntry) -> StreamEntry:
        decoded = items * layer.item_bytes
        count = -(-items // CHUNK_ITEMS)
        chunks = (self.stored(CHUNK_ITEMS * layer.item_bytes),) * count if count > 1 else ()
        return StreamEntry(kind, self.offset, self.stored(decoded), decoded, "0" * 64, codec, chunks=chunks)


def rounded(value: float) -> float:
    """Round a measured number to five significant digits, which `max_header_size` assumes."""
    return float(f"{value:.5g}")


def max_header_size(header: Header) -> int:
    """Return an upper bound of the length of `header` as JSON once its layers have streams, errors and codebooks."""
    worst = _Guess(
        planes=("winding", "phase", "shell"),  # bytes take one stream less, and their window is shorter than its entry
        offset=2 * _dense_bytes(header) + (1 << 30),
        stored=lambda decoded: 2 * decoded + 100,  # zstd never needs more
        error=_WORST_ERROR,
        codebooks=(_WORST_CODEBOOK,) * _coded(header),
    )
    return worst.length(msgspec.structs.replace(header, required_features=(SCALAR_BYTES,)))


def likely_header_size(header: Header) -> int:
    """Return an estimate of the length of `header` as JSON once its layers have streams, errors and codebooks."""
    likely = _Guess(
        planes=("winding", "phase"),
        offset=_dense_bytes(header) // _LIKELY_RATIO,
        stored=lambda decoded: decoded // 2,
        error=_LIKELY_ERROR,
        codebooks=(_LIKELY_CODEBOOK,) * (_coded(header) // _LAYERS_A_CODEBOOK),
    )
    return likely.length(header)


def _dense_bytes(header: Header) -> int:
    return sum(layer.dense_bytes for layer in header.layers)


def _coded(header: Header) -> int:
    return sum(layer.encoding == "trajectory" for layer in header.layers)
