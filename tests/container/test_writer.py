from __future__ import annotations

import hashlib
import io
import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bhk.base.files import WriteError, replace_file
from bhk.codec.dtypes import DTYPE_NAMES
from bhk.codec.streams import CHUNK_ITEMS, Stream, packed_stream, plane_stream, value_stream
from bhk.codec.tensor import EncodedTensor, encode, tensor_bytes
from bhk.container.errors import FieldTypeError, FormatError, HeaderLengthError, HeaderSyntaxError, UnknownDtypeError
from bhk.container.header import CodebookEntry, ErrorEntry, Header, LayerEntry
from bhk.container.places import align
from bhk.container.reader import Container
from bhk.container.validate import MAX_HEADER_BYTES
from bhk.container.writer import BLOCK_BYTES, ContainerWriter
from bhk.file.bhkfile import BhkFile
from bhk.file.codebooks import entry_of
from container.memory import MemorySource, validate_all


def _write(tensors: dict[str, torch.Tensor], preset: str = "balanced") -> tuple[bytes, dict[str, EncodedTensor]]:
    """Write tensors with `codec` and `container` only."""
    file = io.BytesIO()
    writer = ContainerWriter(file, 20_000)
    layers, codebooks, coded = [], [], {}
    for name, tensor in tensors.items():
        encoded = coded[name] = encode(tensor, preset)
        streams = writer.write(encoded.streams)
        fields: dict[str, Any] = {"encoding": "exact"}
        if encoded.codebook is not None and encoded.error is not None:
            book = encoded.codebook
            error = ErrorEntry(encoded.error.mean_abs, encoded.error.max_abs)
            fields = {"encoding": "trajectory", "pairing": encoded.pairing, "codebook": len(codebooks), "error": error}
            codebooks.append(
                CodebookEntry(book.centre, book.side, book.windings, book.lattice, book.shells, book.spacing)
            )
        dtype = DTYPE_NAMES[encoded.dtype]
        layers.append(LayerEntry(name, encoded.shape, dtype, "other", streams=streams, **fields))
    _, length = writer.finish(Header("test", tuple(layers), tuple(codebooks)))
    assert length == len(file.getvalue())
    return file.getvalue(), coded


def _tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "odd": torch.randn(7, 5, generator=generator),
        "half": torch.randn(6, 4, generator=generator).half(),
        "brain": torch.randn(3, 3, 3, generator=generator).bfloat16(),
        "double": torch.randn(5, 1, generator=generator).double(),
        "outliers": torch.randn(40, 10, generator=generator) ** 9,
        "vector": torch.arange(11),
        "scalar": torch.tensor(True),
        "empty": torch.zeros(0, 4),
        "many": torch.randn(1100, 1000, generator=generator),
    }


@pytest.fixture(scope="module", params=["balanced", "birkhoff"])
def written(request: pytest.FixtureRequest) -> tuple[bytes, dict[str, EncodedTensor]]:
    return _write(_tensors(), request.param)


def test_written_tensors_are_read_back(written: tuple[bytes, dict[str, EncodedTensor]]) -> None:
    data, coded = written
    file = validate_all(data)
    assert list(file.names) == list(coded)
    for name, encoded in coded.items():
        tensor = file.tensor(name)
        assert tensor.dtype == encoded.dtype
        assert tuple(tensor.shape) == encoded.shape
        assert tensor_bytes(tensor).tobytes() == tensor_bytes(encoded.decode()).tobytes()


def test_the_bytes_are_where_the_text_says(written: tuple[bytes, dict[str, EncodedTensor]]) -> None:
    data, coded = written
    has_grid = any(one.codebook is not None and one.codebook.lattice == "grid" for one in coded.values())
    assert data[:12] == b"\x89BHK\r\n\x1a\n\x01\0" + (b"\2\0" if has_grid else b"\1\0")
    frame_length, length, total = struct.unpack_from("<IQQ", data, 12)
    assert (64 + length) % 64 == 0
    assert 0 <= length - frame_length < 64
    assert total == len(data)
    assert data[32:64] == hashlib.sha256(data[64 : 64 + length]).digest()
    assert not any(data[64 + frame_length : 64 + length])
    header = json.loads(zstandard.ZstdDecompressor().decompress(data[64 : 64 + frame_length]))
    end = 64 + length
    for layer, encoded in zip(header["layers"], coded.values(), strict=True):
        for entry, stream in zip(layer.get("streams", ()), encoded.streams, strict=True):
            assert "offset" not in entry
            start = end if "zstd" in stream.codec else align(end)
            assert not any(data[end:start])
            end = start + entry["stored"]
            assert data[start:end] == b"".join(stream.chunks)
            assert entry["sha256"] == hashlib.sha256(data[start:end]).hexdigest()
            assert entry.get("chunks", [entry["stored"]]) == list(map(len, stream.chunks)) or stream.codec in (
                "none",
                "packed",
            )
    assert end == len(data)


def test_the_same_tensors_give_the_same_bytes() -> None:
    tensors = {name: tensor for name, tensor in _tensors().items() if name != "many"}
    assert _write(tensors)[0] == _write(tensors)[0]


def test_streams_of_several_chunks() -> None:
    count = CHUNK_ITEMS + 3
    plane = (np.arange(count) % 7).astype(np.uint8)
    values = np.arange(2 * count, dtype=np.uint16).view(np.uint8)[: 2 * count]
    file = io.BytesIO()
    writer = ContainerWriter(file, 4000)
    coded = writer.write([plane_stream("winding", plane), plane_stream("phase", plane)])
    packed = writer.write([packed_stream(plane.astype(np.int32) * 8, 6)])
    kept = writer.write([value_stream(values, 2)])
    assert [len(stream.chunks) for stream in (*coded, *packed)] == [2, 2, 0]
    error = ErrorEntry(0.0, 0.0)
    layers = (
        LayerEntry("planes", (2 * count,), "F32", "other", "trajectory", "flat", 0, coded, error),
        LayerEntry("packed", (2 * count,), "F32", "other", "trajectory", "flat", 0, packed, error),
        LayerEntry("values", (count,), "U16", "other", "exact", streams=kept),
    )
    writer.finish(Header("test", layers, (CodebookEntry((0.0, 0.0), 7.0, 7, "centred"),)))
    read: BhkFile = validate_all(file.getvalue())
    codes, packed_codes = read.planes("planes"), read.planes("packed")
    assert codes is not None
    assert packed_codes is not None
    assert codes.winding.numpy().tobytes() == plane.tobytes()
    assert torch.equal(packed_codes.scalars(7), torch.from_numpy(plane.astype(np.int32) * 8))
    assert tensor_bytes(read.tensor("values")).tobytes() == values.tobytes()


_names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5)
_notes = st.dictionaries(st.text("abc.-", max_size=5), st.text(max_size=9), max_size=3)


@settings(deadline=None)
@given(st.dictionaries(_names, st.binary(max_size=200), max_size=5), _notes, st.integers(0, 500))
def test_any_bytes_under_any_names_come_back(contents: dict[str, bytes], notes: dict[str, str], more: int) -> None:
    file = io.BytesIO()
    writer = ContainerWriter(file, 4000 + more)
    layers = []
    for name, data in contents.items():
        stream = value_stream(np.frombuffer(data, dtype=np.uint8), 1)
        streams = writer.write([stream] if data else [])
        layers.append(LayerEntry(name, (len(data),), "U8", "other", "exact", streams=streams))
    writer.finish(Header("test", tuple(layers), metadata=notes))
    read = validate_all(file.getvalue())
    assert read.metadata == notes
    assert {name: bytes(read.tensor(name).tolist()) for name in read.names} == contents


def _kept(room: int, count: int = 12) -> bytes:
    """Write `count` vectors behind `room` bytes for the header."""
    file = io.BytesIO()
    writer = ContainerWriter(file, room)
    layers = []
    for index in range(count):
        streams = writer.write([Stream("values", "none", (bytes([index]) * (100 + index),), 100 + index)])
        layers.append(LayerEntry(f"layer {index}", (100 + index,), "U8", "other", "exact", streams=streams))
    header, length = writer.finish(Header("test", tuple(layers)))
    assert length == len(file.getvalue())
    assert header.layers == validate_all(file.getvalue()).layers
    return file.getvalue()


@given(room=st.integers(3000, 200_000))
@settings(max_examples=40, deadline=None)
def test_the_bytes_do_not_depend_on_the_room(room: int) -> None:
    data = _kept(room)
    assert data == _kept(3000)
    frame_length, length = struct.unpack_from("<IQ", data, 12)
    assert length - frame_length < 64


def test_streams_that_are_decompressed_follow_each_other() -> None:
    file = io.BytesIO()
    writer = ContainerWriter(file, 2000)
    entries = [writer.write([Stream("values", codec, (b"abc",), 3)])[0] for codec in ("none", "zstd", "zstd", "none")]
    layers = tuple(
        LayerEntry(str(index), (3,), "U8", "other", "exact", streams=(entry,)) for index, entry in enumerate(entries)
    )
    header, length = writer.finish(Header("test", layers))
    starts = [layer.streams[0].offset for layer in header.layers]
    assert starts[0] % 64 == 0
    assert [start - starts[0] for start in starts] == [0, 3, 6, 64]
    assert length == starts[3] + 3 == len(file.getvalue())
    assert header == Container(MemorySource(file.getvalue())).header


def test_streams_longer_than_a_block_are_moved_whole() -> None:
    contents = np.random.default_rng(0).integers(0, 256, 2 * BLOCK_BYTES + 777, dtype=np.uint8).tobytes()
    files = []
    for room in (400, 7000):
        file = io.BytesIO()
        writer = ContainerWriter(file, room)
        streams = writer.write([Stream("values", "none", (contents[:-9], contents[-9:]), len(contents))])
        writer.finish(Header("test", (LayerEntry("a", (len(contents),), "U8", "other", "exact", streams=streams),)))
        files.append(file.getvalue())
    assert files[0] == files[1]
    assert bytes(validate_all(files[1]).tensor("a").numpy()) == contents


def test_the_closed_gap_is_cut_off_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.bhk"
    with replace_file(path) as file:
        writer = ContainerWriter(file, 50_000)
        streams = writer.write([Stream("values", "none", (b"abc",), 3)])
        _, length = writer.finish(Header("test", (LayerEntry("a", (3,), "U8", "other", "exact", streams=streams),)))
    assert path.stat().st_size == length < 1000
    assert validate_all(path.read_bytes()).tensor("a").tolist() == list(b"abc")


def test_an_error_while_streams_are_moved_leaves_nothing(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def truncate(self, size: int | None = None) -> int:
            raise OSError(28, "No space left on device")

    path = tmp_path / "a.bhk"
    path.write_bytes(b"old")
    with pytest.raises(WriteError, match="nothing was changed"), replace_file(path):
        ContainerWriter(Full(), 5000).finish(Header("test", ()))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bhk"]
    assert path.read_bytes() == b"old"


def test_a_header_that_outgrows_its_room_is_refused() -> None:
    with pytest.raises(HeaderLengthError, match="reserved"):
        ContainerWriter(io.BytesIO(), 64).finish(Header("g" * 100, ()))


def test_a_reserved_length_beyond_the_limit_is_refused_before_writing() -> None:
    file = io.BytesIO()
    with pytest.raises(HeaderLengthError):
        ContainerWriter(file, MAX_HEADER_BYTES + 1)
    assert not file.getvalue()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"dtype": "F12"}, UnknownDtypeError),
        ({"name": "\ud800"}, HeaderSyntaxError),
        ({"error": ErrorEntry(float("nan"), 0.0)}, FieldTypeError),
    ],
)
def test_an_invalid_header_is_not_written(fields: dict[str, Any], expected: type[FormatError]) -> None:
    file = io.BytesIO()
    writer = ContainerWriter(file, 1000)
    streams = writer.write([Stream("values", "none", (b"abc",), 3)])
    layer = msgspec.structs.replace(LayerEntry("a", (3,), "U8", "other", "exact", streams=streams), **fields)
    with pytest.raises(expected):
        writer.finish(Header("test", (layer,)))
    assert not any(file.getvalue()[:1000])


@pytest.mark.parametrize(
    ("snr_db", "has_zeros", "features", "minor"),
    [
        (9, False, ("scalar-bytes",), 1),
        (30, False, (), 1),
        (30, True, ("grid-lattice",), 2),
        (9, True, ("scalar-bytes", "grid-lattice"), 2),
    ],
)
def test_a_file_requires_the_features_that_it_uses(
    snr_db: float, has_zeros: bool, features: tuple[str, ...], minor: int
) -> None:
    tensor = torch.randn(64, 32, generator=torch.Generator().manual_seed(3))
    tensor[5:9] *= not has_zeros
    encoded = encode(tensor, snr_db=snr_db)
    assert encoded.codebook is not None
    file = io.BytesIO()
    writer = ContainerWriter(file, 4096)
    streams = writer.write(encoded.streams)
    layer = LayerEntry("w", (64, 32), "F32", "linear", "trajectory", "rows", 0, streams, ErrorEntry(0.1, 0.2))
    claimed = Header("test", (layer,), (entry_of(encoded.codebook),), required_features=("scalar-bytes",))
    header, _ = writer.finish(claimed)
    assert header.required_features == features
    assert struct.unpack_from("<HH", file.getvalue(), 8) == (1, minor)
