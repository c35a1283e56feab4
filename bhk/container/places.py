"""Where the streams of a .bhk file lie: section 2 of format_spec/README.md."""

from __future__ import annotations

import msgspec

from bhk.container.header import Header, LayerEntry, StreamEntry

ALIGNMENT = 64
PREAMBLE_BYTES = 64


def align(offset: int) -> int:
    """Return the first multiple of 64 at or after `offset`."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def place(codec: str, end: int, *, compressed: bool) -> int:
    """Return where a stream starts if the bytes before it end at `end`.

    In a file with a compressed header, streams that are decompressed anyway need no alignment.
    """
    return end if compressed and "zstd" in codec else align(end)


def placed(header: Header, header_length: int) -> Header:
    """Return a compressed header, which leaves out offsets, with the offsets of its streams."""
    end = PREAMBLE_BYTES + header_length

    def after(stream: StreamEntry) -> StreamEntry:
        nonlocal end
        start = place(stream.codec, end, compressed=True)
        end = start + stream.stored
        return msgspec.structs.replace(stream, offset=start)

    def moved(layer: LayerEntry) -> LayerEntry:
        return msgspec.structs.replace(layer, streams=tuple(map(after, layer.streams)))

    return msgspec.structs.replace(header, layers=tuple(map(moved, header.layers)))
