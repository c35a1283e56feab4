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
from bhk.container.header_frame import compress_text, header_length
from bhk.container.places import placed
from bhk.container.reader import MAGIC, PREAMBLE, VERSION

_PLANES = {"winding": 0.62, "phase": 0.62, "shell": 0.004}  # stored bytes per pair at the default preset


def write_sam_h(path: Path) -> int:
    """Write the file and return the length of its header."""
    header = _header()
    frame = compress_text(to_json(header))
    data = frame.ljust(header_length(len(frame)), b"\0")
    last = placed(header, len(data)).layers[-1].streams[-1]
    end = last.offset + last.stored
    preamble = PREAMBLE.pack(MAGIC, VERSION, 1, len(frame), len(data), end, hashlib.sha256(data).digest())
    with path.open("wb") as file:
        file.write(preamble + data)
        file.truncate(end)
    return len(data)


def _header() -> Header:
    """Return a header with as many digits as in a converted checkpoint."""
    numbers = random.Random(0)

    def stream(kind: str, decoded: int, rate: float, width: int, codec: str) -> StreamEntry:
        lengths = [min(CHUNK_ITEMS * width, decoded - at) for at in range(0, decoded, CHUNK_ITEMS * width)]
        chunks = tuple(max(int(length * rate) - numbers.randrange(50), 10) for length in lengths)
        sha256 = numbers.randbytes(32).hex()
        return StreamEntry(kind, sum(chunks), decoded, sha256, codec, chunks=chunks if len(chunks) > 1 else ())

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
