from __future__ import annotations

import io
from random import Random

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bhk.codec.dtypes import DTYPE_NAMES
from bhk.codec.tensor import encode
from bhk.container.header import SCALAR_BYTES, CodebookEntry, ErrorEntry, Header, LayerEntry, to_json
from bhk.container.header_frame import compress_text, header_length
from bhk.container.header_size import likely_header_size, max_header_size, rounded
from bhk.container.writer import ContainerWriter


@pytest.mark.parametrize("preset", ["fine", "small", "birkhoff"])
def test_the_reserved_length_suffices_for_any_tensor(preset: str) -> None:
    generator = torch.Generator().manual_seed(5)
    shapes = [(1, 1), (3, 5), (40, 33), (2, 3, 3, 3), (7,), (), (0,), (1500, 1000)]
    tensors = [torch.randn(shape, generator=generator) * 10.0 ** (index - 5) for index, shape in enumerate(shapes)]
    tensors += [torch.randn(900, 7, generator=generator) ** 15, torch.randn(9, 9, generator=generator).double() / 3e20]
    tensors.append(torch.zeros(1_100_000, dtype=torch.uint8))
    layers, written, books = [], [], []
    writer = ContainerWriter(io.BytesIO(), 1 << 20)
    in_bytes = encode(torch.randn(1700, 1300, generator=generator), snr_db=9)
    assert [stream.kind for stream in in_bytes.streams] == ["codes"]
    for index, item in enumerate([*(encode(tensor, preset) for tensor in tensors), in_bytes]):
        encoding = "exact" if item.codebook is None else "trajectory"
        layer = LayerEntry(f"layer {index}", item.shape, DTYPE_NAMES[item.dtype], "embedding", encoding)
        layers.append(layer)
        layer = msgspec.structs.replace(layer, streams=writer.write(item.streams))
        if item.codebook is not None and item.error is not None:
            book = item.codebook
            figures = (rounded(item.error.mean_abs), rounded(item.error.max_abs), rounded(item.error.snr_db))
            fields = {"pairing": item.pairing, "codebook": len(books), "error": ErrorEntry(*figures)}
            layer = msgspec.structs.replace(layer, **fields)
            books.append(CodebookEntry(book.centre, book.side, book.windings, book.lattice, book.shells, book.spacing))
        written.append(layer)
    template = Header("bhk 1.2.3", tuple(layers), metadata={"source.name": "model.pth"})
    fields = {"layers": tuple(written), "codebooks": tuple(books), "required_features": (SCALAR_BYTES,)}
    final = msgspec.structs.replace(template, **fields)
    assert len(books) >= 4
    assert len(to_json(final)) <= max_header_size(template)
    assert likely_header_size(template) == pytest.approx(header_length(len(compress_text(to_json(final)))), rel=0.2)


def test_room_and_estimate_hold_the_notes_whole() -> None:
    notes = {"a": Random(0).randbytes(5000).hex()}
    with_notes, without = (Header("g", (), metadata=metadata) for metadata in (notes, {}))
    longer = len(to_json(with_notes)) - len(to_json(without))
    assert max_header_size(with_notes) - max_header_size(without) == longer
    assert 5000 <= likely_header_size(with_notes) - likely_header_size(without) < 6000


@given(st.floats(-1e300, 1e300))
def test_rounded_numbers_are_close_and_short_enough(value: float) -> None:
    short = rounded(value)
    assert rounded(short) == short
    assert len(msgspec.json.encode(short)) <= len("-1234500000000000.0")
    assert short == pytest.approx(value, rel=5.1e-5, abs=1e-307)
