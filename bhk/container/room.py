"""How much room a header can need, before anything is encoded."""

from __future__ import annotations

import msgspec

from bhk.codec.streams import CHUNK_ITEMS
from bhk.container.header import CodebookEntry, ErrorEntry, Header, LayerEntry, StreamEntry, to_json

# Room for free text, so that offsets do not depend on the length of a source's name.
METADATA_STEP = 4096
_WORST_FLOAT = -1.2345678901234567e-100
# The longest that five digits become: from 1e16 on, JSON has an exponent.
_WORST_ERROR = ErrorEntry(1234500000000000.0, 1234500000000000.0, -1234.5)
_WORST_CODEBOOK = CodebookEntry((_WORST_FLOAT, _WORST_FLOAT), abs(_WORST_FLOAT), 256, "centred", 255, abs(_WORST_FLOAT))


def rounded(value: float) -> float:
    """Round a measured figure to five significant digits, as `header_room` counts on."""
    return float(f"{value:.5g}")


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
    if layer.encoding == "exact":
        return msgspec.structs.replace(
            layer, streams=(_worst_stream("values", "shuffle+zstd", layer.numel, layer, total),)
        )
    planes = tuple(
        _worst_stream(kind, "zstd", layer.pairs.count, layer, total) for kind in ("winding", "phase", "shell")
    )
    return msgspec.structs.replace(layer, streams=planes, codebook=coded, pairing="rows", error=_WORST_ERROR)


def _worst_stream(kind: str, codec: str, items: int, layer: LayerEntry, total: int) -> StreamEntry:
    decoded = layer.dense_bytes if kind == "values" else items
    longest = 2 * decoded + 100  # more than zstd makes of anything
    count = -(-items // CHUNK_ITEMS)
    chunks = (min(longest, 20 * CHUNK_ITEMS),) * count if count > 1 else ()
    return StreamEntry(kind, total, longest, decoded, "0" * 64, codec, chunks=chunks)
