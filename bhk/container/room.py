"""How much room a header can need, before anything is encoded."""

from __future__ import annotations

import msgspec

from bhk.codec.streams import CHUNK_ITEMS
from bhk.container.header import CodebookEntry, ErrorEntry, Header, LayerEntry, StreamEntry, to_json

# Room for free text, so that offsets do not depend on the length of a source's name.
METADATA_STEP = 4096
_WORST_FLOAT = -1.2345678901234567e-100
_WORST_ERROR = ErrorEntry(-1.23456e-100, -1.23456e-100, -123.456)
_WORST_CODEBOOK = CodebookEntry((_WORST_FLOAT, _WORST_FLOAT), _WORST_FLOAT, 256, "centred", 255, _WORST_FLOAT)


def rounded(value: float) -> float:
    """Round a measured figure to six significant digits, as `header_room` counts on."""
    return float(f"{value:.6g}")


def header_room(header: Header) -> int:
    """Return an upper bound of the JSON bytes of `header` once its layers have streams, errors and codebooks."""
    total = 2 * sum(layer.dense_bytes for layer in header.layers) + (1 << 20)
    coded = sum(layer.encoding == "trajectory" for layer in header.layers)
    worst = msgspec.structs.replace(
        header,
        layers=tuple(_worst_layer(layer, total, coded) for layer in header.layers),
        codebooks=(_WORST_CODEBOOK,) * coded,
        metadata={},
    )
    free = len(msgspec.json.encode(header.metadata)) + METADATA_STEP // 2
    return len(to_json(worst)) + -(-free // METADATA_STEP) * METADATA_STEP


def _worst_layer(layer: LayerEntry, total: int, coded: int) -> LayerEntry:
    exact = (_worst_stream("values", layer.numel, layer.dense_bytes, total),)
    if layer.encoding == "exact":
        return msgspec.structs.replace(layer, streams=exact)
    planes = tuple(
        _worst_stream(kind, layer.pairs.count, layer.pairs.count, total) for kind in ("winding", "phase", "shell")
    )
    return msgspec.structs.replace(layer, streams=planes, codebook=coded, pairing="rows", error=_WORST_ERROR)


def _worst_stream(kind: str, items: int, decoded: int, total: int) -> StreamEntry:
    frame = 2 * CHUNK_ITEMS * max(1, decoded // max(items, 1)) if items else 0
    chunks = (min(frame, 2 * decoded + 100),) * -(-items // CHUNK_ITEMS)
    return StreamEntry(kind, "shuffle+zstd", total, 2 * decoded + 100, decoded, "0" * 64, chunks=chunks, bits=24)
