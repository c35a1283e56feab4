"""A .bhk file as large as that of SAM ViT-H but without weights: the header is real, the streams are holes of a sparse file."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import torch
from sam.state_dicts import shapes_of

from bhk.checkpoint.roles import role_of
from bhk.codec.shape import Shape
from bhk.codec.streams import CHUNK_ITEMS
from bhk.container.header import CodebookEntry, ErrorEntry, Header, LayerEntry, ModelEntry, StreamEntry, to_json
from bhk.container.reader import MAGIC, PREAMBLE, VERSION
from bhk.container.validate import PREAMBLE_BYTES, align

_PLANES = {"winding": 0.62, "phase": 0.62, "shell": 0.004}  # stored bytes per pair at the default preset


def write_sam_h(path: Path) -> int:
    """Write the file and return the length of its header."""
    start, found = 0, align(1)
    while start != found:  # until the streams begin where the header ends
        start = found
        header = _header(start)
        found = align(PREAMBLE_BYTES + len(to_json(header)))
    data = to_json(header).ljust(start - PREAMBLE_BYTES, b" ")
    last = header.layers[-1].streams[-1]
    end = last.offset + last.stored
    preamble = PREAMBLE.pack(MAGIC, VERSION, 0, bytes(4), len(data), end, hashlib.sha256(data).digest())
    with path.open("wb") as file:
        file.write(preamble + data)
        file.truncate(end)
    return len(data)


def _header(start: int) -> Header:
    """Return a header for streams that begin at `start`, with as many digits as in a converted checkpoint."""
    numbers = random.Random(0)
    end = start

    def stream(kind: str, decoded: int, rate: float, width: int, codec: str) -> StreamEntry:
        nonlocal end
        lengths = [min(CHUNK_ITEMS * width, decoded - at) for at in range(0, decoded, CHUNK_ITEMS * width)]
        chunks = tuple(max(int(length * rate) - numbers.randrange(50), 10) for length in lengths)
        offset, stored = align(end), sum(chunks)
        end = offset + stored
        sha256 = numbers.randbytes(32).hex()
        return StreamEntry(kind, offset, stored, decoded, sha256, codec, chunks=chunks if len(chunks) > 1 else ())

    def single(scale: float) -> float:
        return torch.tensor(scale * numbers.random()).item()

    def error() -> ErrorEntry:
        return ErrorEntry(round(numbers.random() / 1e3, 8), round(numbers.random() / 1e2, 7), 28.046)

    layers = []
    for name, shape in sorted(shapes_of("sam_vit_h").items()):
        tensor = torch.empty(shape, device="meta")
        role = role_of(name, tensor)
        if role in ("linear", "conv", "embedding") and tensor.numel() > 10_000:
            pairing = "rows" if role == "linear" else "flat"
            count = Shape(shape, "rows" if role == "linear" else "flat").count
            streams = tuple(stream(kind, count, rate, 1, "zstd") for kind, rate in _PLANES.items())
            layers.append(
                LayerEntry(name, shape, "F32", role, "trajectory", pairing, len(layers) % 9, streams, error())
            )
        else:
            values = stream("values", tensor.nbytes, 0.93, 4, "shuffle+zstd")
            layers.append(LayerEntry(name, shape, "F32", role, "exact", streams=(values,)))
    return Header(
        "bhk 0.1.0",
        tuple(layers),
        tuple(CodebookEntry((0.0, 0.0), single(1), 64, "centred", 15, single(1e-3)) for _ in range(9)),
        metadata={"source.name": "sam_vit_h_4b8939.pth", "source.bytes": "2564550879", "source.sha256": "a7" * 32},
        model=ModelEntry("sam", "vit_h", {"depth": 32, "width": 1280, "heads": 16, "image_size": 1024}),
    )
