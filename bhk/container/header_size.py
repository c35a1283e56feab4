"""The length of a header before anything is encoded: an upper bound of its text, and an estimate of what it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import msgspec

from bhk.codec.streams import CHUNK_ITEMS
from bhk.container.header import KNOWN_FEATURES, CodebookEntry, ErrorEntry, Header, LayerEntry, StreamEntry, to_json
from bhk.container.header_frame import compress_text, header_length

_WORST_FLOAT = -1.2345678901234567e-100
_WORST_CODEBOOK = CodebookEntry((_WORST_FLOAT, _WORST_FLOAT), abs(_WORST_FLOAT), 256, "centred", 255, abs(_WORST_FLOAT))
# The longest text of a number with five digits: from 1e16 on, JSON has an exponent.
_WORST_ERROR = ErrorEntry(1234500000000000.0, 1234500000000000.0, -1234.5)

# The 83 coded layers of the demo SAM share 19 to 29 codebooks if most have the same step; with a step for each they share none.
_LAYERS_A_CODEBOOK = 2


@dataclass(frozen=True)
class _Guess:
    """Assumptions about everything that a header does not know before the tensors are encoded.

    Attributes:
        planes: kinds of the streams of a coded layer.
        stored: returns the stored bytes for a number of decoded bytes.
        error: returns the error of a layer.
        codebook: returns a codebook.
        layers_a_codebook: how many coded layers share a codebook.
    """

    planes: tuple[str, ...]
    stored: Callable[[int, Random], int]
    error: Callable[[Random], ErrorEntry]
    codebook: Callable[[Random], CodebookEntry]
    layers_a_codebook: int

    def text(self, header: Header) -> bytes:
        """Return the text of `header`, if the assumptions hold. It takes the same numbers for random every time."""
        random = Random(0)
        coded = sum(layer.encoding == "trajectory" for layer in header.layers)
        codebooks = tuple(self.codebook(random) for _ in range(coded // self.layers_a_codebook))
        layers = tuple(self._layer(layer, len(codebooks), random) for layer in header.layers)
        return to_json(msgspec.structs.replace(header, layers=layers, codebooks=codebooks))

    def _layer(self, layer: LayerEntry, codebooks: int, random: Random) -> LayerEntry:
        if layer.encoding == "exact":
            streams = (self._stream("values", "shuffle+zstd", layer.numel, layer, random),) if layer.numel else ()
            return msgspec.structs.replace(layer, streams=streams)
        planes = tuple(self._stream(kind, "zstd", layer.pairs.count, layer, random) for kind in self.planes)
        error = self.error(random)
        return msgspec.structs.replace(layer, streams=planes, codebook=codebooks, pairing="rows", error=error)

    def _stream(self, kind: str, codec: str, items: int, layer: LayerEntry, random: Random) -> StreamEntry:
        decoded = items * layer.item_bytes
        count = -(-items // CHUNK_ITEMS)
        sizes = (self.stored(CHUNK_ITEMS * layer.item_bytes, random) for _ in range(count))
        chunks = tuple(sizes) if count > 1 else ()
        digest = random.randbytes(32).hex()
        return StreamEntry(kind, self.stored(decoded, random), decoded, digest, codec, chunks=chunks)


def rounded(value: float) -> float:
    """Round a measured number to five significant digits, which `max_header_size` assumes."""
    return float(f"{value:.5g}")


def max_header_size(header: Header) -> int:
    """Return an upper bound of the text of `header` in bytes once its layers have streams, errors and codebooks."""
    worst = _Guess(
        planes=("winding", "phase", "shell"),  # bytes take one stream less, and their window is shorter than its entry
        stored=lambda decoded, _: 2 * decoded + 100,  # zstd never needs more
        error=lambda _: _WORST_ERROR,
        codebook=lambda _: _WORST_CODEBOOK,
        layers_a_codebook=1,
    )
    return len(worst.text(msgspec.structs.replace(header, required_features=tuple(KNOWN_FEATURES))))


def likely_header_size(header: Header) -> int:
    """Return an estimate of H, the length of the compressed header once its layers have streams, errors and codebooks."""
    likely = _Guess(
        planes=("winding", "phase"),
        stored=lambda decoded, random: decoded // 2 + random.randrange(decoded // 4 + 1),
        error=lambda random: ErrorEntry(*(rounded(random.random() / scale) for scale in (1000, 100, 0.02))),
        codebook=lambda random: CodebookEntry((0.0, 0.0), random.random(), 64),
        layers_a_codebook=_LAYERS_A_CODEBOOK,
    )
    return header_length(len(compress_text(likely.text(header))))
