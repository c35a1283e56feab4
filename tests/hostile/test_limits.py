"""Small files that stand for much (promises 4 and 5 of SECURITY.md)."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
import zstandard
from container.memory import MemorySource

import bhk
from bhk.base.limits import EXPANSION, Limit, LimitValueError, TooLargeError, check_expansion, parsed_size
from bhk.checkpoint import CorruptCheckpointError, LayoutError, NotACheckpointError, UnknownWeightsError, read
from bhk.checkpoint.layout import Layout
from bhk.codec.streams import pack, packed_size
from bhk.container.errors import StreamHashError
from bhk.container.header import CodebookEntry, ErrorEntry, Header, LayerEntry, StreamEntry
from bhk.container.reader import Container
from bhk.file import bhkfile
from bhk.pictures.image import ImageError, read_image
from tools.format_spec.builder import align


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of a few kilobytes, so that the files of a test are small."""
    monkeypatch.setenv("BHK_MAX_UNPACKED", "100kB")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bhk_bytes(header: Header, streams: bytes) -> bytes:
    """Return a file with a compressed header, whose streams follow each other without gaps."""
    text = msgspec.json.encode(header)
    frame = zstandard.ZstdCompressor().compress(text)
    length = align(64 + len(frame)) - 64
    data = frame.ljust(length, b"\0")
    preamble = struct.pack("<8sHHIQQ", b"\x89BHK\r\n\x1a\n", 1, 1, len(frame), length, 64 + length + len(streams))
    return preamble + bytes.fromhex(_sha256(data)) + data + streams


def _zeros(count: int, tensors: int = 1) -> bytes:
    """Return a file with exact tensors of `count` zero bytes."""
    chunks = [zstandard.ZstdCompressor().compress(bytes(min(1 << 20, count - at))) for at in range(0, count, 1 << 20)]
    data = b"".join(chunks)
    stream = StreamEntry("values", len(data), count, _sha256(data), chunks=tuple(map(len, chunks)))
    layers = tuple(
        LayerEntry(f"zeros.{n}", (count,), "U8", "buffer", "exact", streams=(stream,)) for n in range(tensors)
    )
    return _bhk_bytes(Header("x", layers), data * tensors)


def test_sizes_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limit("BHK_MAX_TEST", 5)
    assert limit.value == 5
    for text, value in (("7", 7), ("2kB", 2000), ("1.5 GiB", 3 << 29)):
        monkeypatch.setenv("BHK_MAX_TEST", text)
        assert limit.value == value
    monkeypatch.setenv("BHK_MAX_TEST", "much")
    with pytest.raises(LimitValueError, match="BHK_MAX_TEST is 'much'; expected a size such as 64GB"):
        _ = limit.value
    assert parsed_size("0") is parsed_size("0.2") is parsed_size("9" * 400) is None
    assert parsed_size("9007199254740993") == 9007199254740993
    monkeypatch.delenv("BHK_MAX_TEST")
    check_expansion("a", EXPANSION, 1, limit)
    check_expansion("a", 5, 0, limit)
    with pytest.raises(
        TooLargeError, match="a stands for 257 B, 257 times its 1 B; set the environment variable BHK_MAX"
    ):
        check_expansion("a", EXPANSION + 1, 1, limit)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("tensors", [1, 8])
def test_a_bhk_file_of_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensors: int) -> None:
    path, out = tmp_path / "a.bhk", tmp_path / "a.safetensors"
    path.write_bytes(_zeros(1 << 20, tensors))
    assert bhk.inspect(path).total.dense_bytes == tensors << 20  # which reads no stream
    module = torch.nn.Module()
    for work in (
        lambda: bhk.verify(path),
        lambda: bhk.load_arrays(path),
        lambda: bhk.load_state_dict(path),
        lambda: bhk.load_into(module, path, strict=False),
        lambda: bhk.export(path, out),
        lambda: bhk.diff(path, path),
    ):
        with pytest.raises(TooLargeError, match=r"a\.bhk .*'zeros\.0' of 1\.05 MB.* stands for .*BHK_MAX_UNPACKED=\d+"):
            work()
    assert not out.exists()
    with bhk.open(path) as file:
        with pytest.raises(TooLargeError, match=r"tensor 'zeros\.0' of .*a\.bhk stands for 1\.05 MB"):
            file.array("zeros.0")
        assert not file.array("zeros.0", slice(5, 1000)).any()  # only a few rows
    monkeypatch.setenv("BHK_MAX_UNPACKED", "1GB")
    assert bhk.verify(path).streams == tensors


def test_a_header_of_repetitions(tmp_path: Path) -> None:
    header = Header("x", (), metadata={"a": "b" * (5 << 20)})
    (tmp_path / "a.bhk").write_bytes(_bhk_bytes(header, b""))
    with pytest.raises(TooLargeError, match=r"the header of .*a\.bhk stands for 5\.24 MB.*BHK_MAX_HEADER=\d+"):
        bhk.inspect(tmp_path / "a.bhk")


def test_a_header_that_is_not_much_longer_than_its_file(tmp_path: Path) -> None:
    data = bytes(1 << 20)
    stream = StreamEntry("values", len(data), len(data), _sha256(data), "none")
    layer = LayerEntry("a", (len(data),), "U8", "other", "exact", streams=(stream,))
    (tmp_path / "a.bhk").write_bytes(_bhk_bytes(Header("x", (layer,), metadata={"a": "b" * (5 << 20)}), data))
    assert bhk.inspect(tmp_path / "a.bhk").total.layers == 1


def test_a_long_header_of_brackets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BHK_MAX_HEADER", "10kB")
    for unit, count in (("[],", 5000), ('{"a":[[]]},', 2000)):
        text = '{"generator":"x","layers":[],"x-a":[' + unit * count + "0]}"
        text += " " * (align(64 + len(text)) - 64 - len(text))
        data = text.encode()
        preamble = struct.pack("<8sHHIQQ", b"\x89BHK\r\n\x1a\n", 1, 1, 0, len(data), 64 + len(data))
        (tmp_path / "a.bhk").write_bytes(preamble + hashlib.sha256(data).digest() + data)
        with pytest.raises(TooLargeError, match=r"a\.bhk holds [\d,]+ objects and arrays in .*BHK_MAX_HEADER="):
            bhk.inspect(tmp_path / "a.bhk")
    monkeypatch.setenv("BHK_MAX_HEADER", "100kB")
    assert bhk.inspect(tmp_path / "a.bhk").total.layers == 0


def _one_code_a_chunk(count: int, chunk: int, bits: int) -> bytes:
    codes = np.arange(count, dtype=np.uint32) % (1 << bits)
    runs = [pack(codes[at : at + chunk], bits) for at in range(0, count, chunk)]
    data = b"".join(runs)
    stream = StreamEntry("codes", len(data), len(data), _sha256(data), "packed", chunk, bits=bits)
    layer = LayerEntry("a", (2 * count,), "F32", "other", "trajectory", "flat", 0, (stream,), ErrorEntry(0.0, 0.0))
    return _bhk_bytes(Header("x", (layer,), (CodebookEntry((0.0, 0.0), 1.0, 4),)), data)


@pytest.mark.parametrize("bits", [1, 3, 4])
def test_chunks_of_a_few_codes_decode_like_large_ones(bits: int) -> None:
    count = 1001
    expected = None
    for chunk in (1, 7, 64, 1000, 1001, 1 << 20):
        with bhkfile.BhkFile(Container(MemorySource(_one_code_a_chunk(count, chunk, bits)))) as file:
            found = file.array("a")
            expected = found if expected is None else expected
            assert np.array_equal(found, expected)
            for rows in (slice(0, 1), slice(3, 500), slice(1999, 2002)):
                assert np.array_equal(file.array("a", rows), expected[rows])
    assert packed_size(1, bits) == 1


def test_chunks_of_one_code_take_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    decode_into = bhkfile.Decoder.decode_into

    def counted(*args: Any) -> None:
        nonlocal calls
        calls += 1
        decode_into(*args)

    monkeypatch.setattr(bhkfile.Decoder, "decode_into", counted)
    with bhkfile.BhkFile(Container(MemorySource(_one_code_a_chunk(70_000, 1, 2)))) as file:
        file.array("a")
    assert calls == 2


def test_a_row_needs_memory_for_its_chunks_only(tmp_path: Path) -> None:
    rows, row = 64, 1 << 20
    data = np.random.default_rng(0).integers(0, 256, rows * row, dtype=np.uint8).tobytes()
    stream = StreamEntry("values", len(data), len(data), _sha256(data), "none", 1 << 20)
    path = tmp_path / "a.bhk"
    path.write_bytes(
        _bhk_bytes(Header("x", (LayerEntry("a", (rows, row), "U8", "other", "exact", streams=(stream,)),)), data)
    )
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1  # in another row than the one that is read
    (tmp_path / "b.bhk").write_bytes(damaged)
    with bhk.open(path) as file:
        tracemalloc.start()
        found = file.array("a", slice(3, 4))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.tobytes() == data[3 * row : 4 * row]
        assert most < 24 << 20
    with bhk.open(tmp_path / "b.bhk") as file, pytest.raises(StreamHashError):
        file.array("a", slice(3, 4))
    with bhk.open(tmp_path / "b.bhk", verify=False) as file:
        assert file.array("a", slice(3, 4)).tobytes() == data[3 * row : 4 * row]


@pytest.mark.usefixtures("_small")
def test_a_tensor_of_one_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(3), "wide": torch.zeros(1).expand(1000, 1000)}, path)
    with pytest.raises(TooLargeError, match=r"a\.pth, whose largest tensor is 'wide', stands for 4 MB"):
        read(path)
    monkeypatch.setenv("BHK_MAX_UNPACKED", "5MB")
    assert read(path).values("wide").shape == (1000, 1000)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("name", ["a.zip", "a.pth"])
def test_zip_files_that_unpack_to_much_more(tmp_path: Path, name: str) -> None:
    inner = io.BytesIO()
    torch.save({"a": torch.zeros(1000, 1000)}, inner)
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if name == "a.zip":
            archive.writestr("weights.pth", inner.getvalue())
        else:
            with zipfile.ZipFile(inner) as stored:
                for member in stored.namelist():
                    archive.writestr(member, stored.read(member))
    with pytest.raises(TooLargeError, match=rf"{name} stands for 4 MB, \d+ times its"):
        read(path)


def _laughs(protocol: int) -> bytes:
    """Return a pickle of a dictionary whose key holds another tuple twice, which holds another twice, …"""
    parts = [b"\x80" + bytes([protocol]), b"}", b"K\x01"]
    for number in range(80):
        parts += [b"q", bytes([number]), b"h", bytes([number]), b"\x86"]
    return b"".join([*parts, b"K\x01s."])


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_key_that_holds_itself_over_and_over(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", _laughs(protocol))
        archive.writestr("a/version", "3\n")
    with pytest.raises(CorruptCheckpointError, match=r"a\.pth .*a key of tuples within tuples"):
        read(path)
    legacy = tmp_path / "b.pth"
    start = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": sys.byteorder == "little"})
    legacy.write_bytes(b"".join(pickle.dumps(part, 2) for part in start) + _laughs(2))
    with pytest.raises(CorruptCheckpointError, match=r"b\.pth .*a key of tuples within tuples"):
        read(legacy)


def test_entries_that_hold_each_other_over_and_over(tmp_path: Path) -> None:
    nested: Any = [1]
    for _ in range(60):
        nested = [nested, nested]
    torch.save({"a": torch.ones(2, 2), "nested": nested, (((1,),),): 3}, tmp_path / "a.pth")
    assert len(read(tmp_path / "a.pth").left_out) == 2
    with pytest.raises(UnknownWeightsError):
        read(tmp_path / "a.pth", key="nested")
    torch.save(nested, tmp_path / "b.pth")
    with pytest.raises(NotACheckpointError, match="holds a list"):
        read(tmp_path / "b.pth")


def test_a_prefix_before_every_name() -> None:
    for metadata in (
        {"checkpoint.prefix": "x" * 2000},
        {"checkpoint.groups": json.dumps(["x" * 2000])},
        {"checkpoint.wrapper": json.dumps(["x" * 2000])},
        {"checkpoint.wrapper": json.dumps(["x"] * 65)},
    ):
        with pytest.raises(LayoutError, match="expected"):
            Layout.from_metadata(metadata)
    assert Layout.from_metadata({"checkpoint.prefix": "x" * 1000}).prefix == "x" * 1000


def _png(width: int, height: int) -> bytes:
    """Return a grey picture without most of its data."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(b"\0\0")) + part(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            (1, 178_000_000),
            r"a\.png has 1 x 178,000,000 pixels, more than 131,072 pixels along a side; .*BHK_MAX_SIDE=",
        ),
        ((131_073, 2), r"a\.png has 131,073 x 2 pixels, more than 131,072 pixels along a side"),
        (
            (13_378, 13_378),
            r"a\.png has more than 178,956,970 pixels; cut it into tiles, or set BHK_MAX_PIXELS to more",
        ),
        ((100_000, 100_000), r"a\.png has more than 178,956,970 pixels"),
    ],
)
def test_small_files_of_large_pictures(tmp_path: Path, size: tuple[int, int], message: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_png(*size))
    tracemalloc.start()
    with pytest.raises(ImageError, match=message):
        read_image(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 << 20


def test_one_large_picture_ends_no_calibration(tmp_path: Path) -> None:
    from PIL import Image

    from bhk.pictures.prompted import from_folder

    (tmp_path / "tall.png").write_bytes(_png(1, 178_000_000))
    Image.new("RGB", (40, 30), "red").save(tmp_path / "good.png")
    found, skipped = from_folder(tmp_path, 5, 0, 64)
    assert len(found) == 1
    assert len(skipped) == 1
    assert "tall.png has 1 x 178,000,000 pixels" in skipped[0]


def test_a_limit_can_be_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    monkeypatch.setenv("BHK_MAX_PIXELS", "1000")
    with pytest.raises(ImageError, match="more than 1,000 pixels"):
        read_image(tmp_path / "a.png")


def test_a_companion_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a.weight": torch.randn(40, 40)}, tmp_path / "model.safetensors")
    with open(tmp_path / "config.json", "wb") as file:
        file.truncate(1 << 33)  # a sparse file
    report = bhk.convert(tmp_path / "model.safetensors", tmp_path / "a.bhk")
    assert any("config.json has more than 1,000,000 bytes" in warning for warning in report.warnings)
