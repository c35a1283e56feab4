from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import bhk
from bhk.base.errors import BhkError
from bhk.base.files import ReadError
from bhk.codec.shape import Shape
from bhk.codec.streams import CHUNK_ITEMS, Stream, Window, compress, packed_stream, plane_stream
from bhk.codec.tensor import tensor_bytes
from bhk.container.errors import ChunkDataError, CodeRangeError, StreamHashError
from bhk.container.header import CodebookEntry, ErrorEntry, Header, LayerEntry
from bhk.container.header_size import max_header_size
from bhk.container.writer import ContainerWriter
from bhk.file.bhkfile import UnknownTensorError

_CHUNKED = ["rows.weight", "flat.weight", "exact.index"]


def _weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(11)

    def random(*dims: int) -> torch.Tensor:
        return torch.randn(dims, generator=generator) * 0.02

    weights = {
        "linear.weight": random(65, 77),
        "even.weight": random(64, 48).half(),
        "conv.weight": random(33, 7, 3, 3).bfloat16(),
        "stem.weight": random(9, 5, 7, 11).double(),
        "experts.down": random(5, 21, 33),
        "shells.weight": random(33, 35),
        "zero.weight": torch.zeros(33, 35),
        "linear.bias": random(65),
        "small.weight": random(5, 3),
        "mask": random(7, 5) > 0,
        "noise": torch.randint(0, 256, (5, 3), dtype=torch.uint8, generator=generator),
        "steps": torch.tensor(9),
        "none": torch.zeros(0, 4),
        "empty rows": torch.zeros(3, 0, 5),
        "table": torch.arange(99, dtype=torch.int16).reshape(11, 9),
        "scale": random(7, 3).to(torch.float8_e4m3fn),
        "rotation": torch.complex(random(7, 5), random(7, 5)),
        # More than one chunk: 2^20 pairs, or elements where kept exact. Rows end within chunks.
        "rows.weight": random(1151, 2001),
        "flat.weight": random(229, 101, 99),
        "exact.index": torch.arange(3 * 700_001, dtype=torch.int16).reshape(-1, 3),
    }
    weights["shells.weight"][7, 7] = 3.0
    weights["tied.weight"] = weights["linear.weight"]
    return weights


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors are equal bit for bit."""
    return (
        one.dtype == other.dtype and one.shape == other.shape and bytes(tensor_bytes(one)) == bytes(tensor_bytes(other))
    )


_SOURCE = _weights()
_ROWS = [name for name, tensor in _SOURCE.items() if tensor.ndim]


@pytest.fixture(
    scope="module", params=["balanced", bhk.Quality(snr_db=9), "birkhoff"], ids=["planes", "bytes", "packed"]
)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.save(_SOURCE, folder / "model.pth")
    report = bhk.convert(folder / "model.pth", quality=request.param, threads=2)
    assert report.path == folder / "model.bhk"
    return report.path


@pytest.fixture
def file(path: Path) -> Iterator[bhk.BhkFile]:
    with bhk.open(path) as opened:
        yield opened


def test_every_tensor_comes_back_in_shape_and_dtype(file: bhk.BhkFile) -> None:
    assert set(file.names) == set(_SOURCE)
    encodings = set()
    for name, original in _SOURCE.items():
        decoded, layer = file.tensor(name), file.layer(name)
        encodings.add(layer.encoding)
        assert (decoded.dtype, decoded.shape) == (original.dtype, original.shape)
        assert decoded.is_contiguous()
        if layer.encoding == "exact":
            assert _same(decoded, original)
            assert file.codes(name) is file.codebook(name) is None
        else:
            noise = (decoded.double() - original.double()).abs()
            assert layer.error is not None
            assert float(noise.max()) == pytest.approx(layer.error.max_abs, rel=1e-4)
    assert encodings == {"exact", "trajectory"}


def test_the_file_covers_the_cases_below(file: bhk.BhkFile, request: pytest.FixtureRequest) -> None:
    chunks = {name: len(file.layer(name).streams[0].chunk_lengths(file.layer(name).item_bytes)) for name in _CHUNKED}
    assert chunks == {"rows.weight": 2, "flat.weight": 2, "exact.index": 3}
    codecs = {stream.codec for layer in file.layers for stream in layer.streams}
    assert codecs >= {"none", "shuffle+zstd"}
    assert codecs & {"packed", "zstd"}
    codings = {layer.streams[0].kind for layer in file.layers if layer.name in ("rows.weight", "flat.weight")}
    assert codings == ({"winding"} if "planes" in request.node.name else {"codes"})
    assert any(codebook.shells for codebook in file.codebooks) == ("bytes" not in request.node.name)
    assert file.metadata["source.name"] == "model.pth"


@settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_rows_equal_those_of_the_whole_tensor(file: bhk.BhkFile, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name in _ROWS if name not in _CHUNKED]))
    ends = st.none() | st.integers(-99, 99)
    rows = slice(data.draw(ends), data.draw(ends), data.draw(st.sampled_from([None, 1])))
    assert _same(file.tensor(name, rows), file.tensor(name)[rows])


@pytest.mark.parametrize("name", _CHUNKED)
def test_rows_across_chunks_equal_those_of_the_whole_tensor(file: bhk.BhkFile, name: str) -> None:
    whole = file.tensor(name)
    items = whole.shape[0] and whole[0].numel()
    # The row in which the first chunk ends: pairs of two weights (rows of odd length have a padding weight more).
    border = {
        "rows.weight": CHUNK_ITEMS // ((items + 1) // 2),
        "flat.weight": 2 * CHUNK_ITEMS // items,
        "exact.index": CHUNK_ITEMS // items,
    }[name]
    assert 0 < border < whole.shape[0] - 2
    last = whole.shape[0]
    for start, stop in [
        (border - 1, border + 2),
        (border, border + 1),
        (border + 1, border + 2),
        (border - 7, border),
        (0, border + 1),
        (0, 1),
        (border + 1, last),
        (last - 1, last),
        (1, last - 1),
        (0, last),
    ]:
        part = file.tensor(name, slice(start, stop))
        assert part.shape[0] == stop - start
        assert torch.equal(part, whole[start:stop])


@pytest.mark.parametrize("rows", [slice(0, 5, 2), slice(None, None, -1)])
def test_rows_with_steps_are_refused(file: bhk.BhkFile, rows: slice) -> None:
    with pytest.raises(BhkError, match="not a range of rows"):
        file.tensor("linear.weight", rows)


def test_a_scalar_has_no_rows(file: bhk.BhkFile) -> None:
    with pytest.raises(BhkError, match="not a range of rows"):
        file.tensor("steps", slice(0, 1))


def test_tied_names_are_one_tensor(path: Path, file: bhk.BhkFile) -> None:
    layer = file.layer("tied.weight")
    assert layer is file.layer("linear.weight")
    assert (layer.name, layer.aliases) == ("linear.weight", ("tied.weight",))
    assert torch.equal(file.tensor("tied.weight", slice(3, 9)), file.tensor("linear.weight")[3:9])
    loaded = bhk.load_state_dict(path)
    assert loaded["tied.weight"] is loaded["linear.weight"]


@pytest.mark.parametrize("ask", ["tensor", "layer", "codebook", "codes"])
def test_an_unknown_name_is_refused(file: bhk.BhkFile, ask: str) -> None:
    with pytest.raises(UnknownTensorError, match=r"holds no tensor 'linear'; see `bhk inspect`"):
        getattr(file, ask)("linear")


@pytest.mark.parametrize("name", ["linear.weight", "conv.weight", "shells.weight", *_CHUNKED[:2]])
def test_codes_and_codebook_decode_to_the_tensor(file: bhk.BhkFile, name: str) -> None:
    codes, codebook, layer = file.planes(name), file.codebook(name), file.layer(name)
    assert codes is not None
    assert codebook is not None
    shape = Shape(layer.shape, "rows" if layer.pairing == "rows" else "flat")
    assert len(codes) == shape.count
    decoded = shape.join(codebook.decode(codes)).to(_SOURCE[name].dtype)
    assert torch.equal(decoded, file.tensor(name))


def test_the_state_dict_is_the_same_with_any_number_of_threads(path: Path, file: bhk.BhkFile) -> None:
    names = [name for layer in file.layers for name in (layer.name, *layer.aliases)]
    one, many, default = (bhk.load_state_dict(path, threads=threads) for threads in (1, 4, None))
    assert list(one) == list(many) == list(default) == names
    for name in names:
        assert one[name].dtype == _SOURCE[name].dtype
        assert _same(one[name], many[name])
        assert _same(one[name], default[name])
        assert one[name].shape == file.tensor(name).shape


def test_decoded_tensors_belong_to_the_caller(file: bhk.BhkFile) -> None:
    for name in ("linear.weight", "linear.bias", "mask"):
        before = file.tensor(name)
        file.tensor(name).zero_()
        assert torch.equal(file.tensor(name), before)


def test_a_safetensors_source_loads_the_same(path: Path, tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in _SOURCE.items() if name != "tied.weight" and name not in _CHUNKED}
    save_file(weights, tmp_path / "model.safetensors")
    torch.save(weights, tmp_path / "model.pth")
    loaded = [
        bhk.load_state_dict(bhk.convert(tmp_path / f"model.{kind}", tmp_path / f"{kind}.bhk").path or "")
        for kind in ("safetensors", "pth")
    ]
    assert list(loaded[0]) == list(loaded[1])
    assert all(_same(loaded[0][name], loaded[1][name]) for name in weights)


def test_the_file_is_closed_at_the_end_of_the_block(path: Path) -> None:
    with bhk.open(path) as file:
        file.tensor("linear.bias")
    with pytest.raises(ValueError, match="closed"):
        file.tensor("linear.bias")


@pytest.mark.parametrize("load", [bhk.open, bhk.load_state_dict])
def test_a_missing_file_is_a_read_error(tmp_path: Path, load: object) -> None:
    with pytest.raises(ReadError, match="nowhere"):
        load(tmp_path / "nowhere.bhk")  # type: ignore[operator]


def _damaged(path: Path, tmp_path: Path, name: str, at: int) -> Path:
    """A copy of the file with the byte `at` of the first stream of tensor `name` changed."""
    with bhk.open(path) as file:
        place = file.layer(name).streams[0].offset + at
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    copy = tmp_path / "damaged.bhk"
    copy.write_bytes(data)
    return copy


def test_hashes_are_checked_unless_switched_off(path: Path, tmp_path: Path) -> None:
    with bhk.open(path) as file:
        (stream,) = file.layer("noise").streams
        whole = file.tensor("noise")
    assert stream.codec == "none"
    copy = _damaged(path, tmp_path, "noise", 0)
    for rows in (None, slice(2, 3)):
        with (
            bhk.open(copy) as file,
            pytest.raises(StreamHashError, match=r"'noise', stream values.*\[rule D2 of the format\]"),
        ):
            file.tensor("noise", rows)
    with pytest.raises(StreamHashError):
        bhk.load_state_dict(copy)
    with bhk.open(copy, verify=False) as file:
        assert torch.equal(file.tensor("noise") != whole, torch.arange(15).reshape(5, 3) == 0)
        assert torch.equal(file.tensor("linear.weight"), bhk.load_state_dict(copy, verify=False)["linear.weight"])


@pytest.mark.parametrize("name", _CHUNKED)
def test_reading_a_part_verifies_its_whole_stream(path: Path, tmp_path: Path, name: str) -> None:
    with bhk.open(path) as file:
        last = file.layer(name).streams[0].stored - 1
        expected = file.tensor(name, slice(3, 5))
    copy = _damaged(path, tmp_path, name, last)
    with bhk.open(copy) as file:
        for sound in _CHUNKED:
            if sound != name:
                file.tensor(sound, slice(3, 5))
        for _ in range(2):
            with pytest.raises(StreamHashError):
                file.tensor(name, slice(3, 5))
    with bhk.open(copy, verify=False) as file:
        assert torch.equal(file.tensor(name, slice(3, 5)), expected)


@pytest.mark.parametrize("verify", [True, False])
def test_a_broken_frame_is_refused_with_and_without_hashes(path: Path, tmp_path: Path, verify: bool) -> None:
    with bhk.open(path) as file:
        (stream,) = file.layer("exact.index").streams
        assert "zstd" in stream.codec
    copy = _damaged(path, tmp_path, "exact.index", 1)
    expected = StreamHashError if verify else ChunkDataError
    with pytest.raises(expected, match=r"exact\.index"):
        bhk.load_state_dict(copy, verify=verify)
    with bhk.open(copy, verify=verify) as file, pytest.raises(expected):
        file.tensor("exact.index", slice(0, 1))


def _handmade(path: Path, codebook: CodebookEntry, streams: tuple[Stream, ...], pairs: int) -> Path:
    """Write a file with given streams of a (1, 2 * pairs) tensor "weight"; only what they decode to may be wrong."""
    error = ErrorEntry(0.1, 0.1, 20.0)
    layer = LayerEntry("weight", (1, 2 * pairs), "F32", "linear", "trajectory", pairing="rows", codebook=0, error=error)
    header = Header(generator="test", layers=(layer,), codebooks=(codebook,))
    with path.open("w+b") as file:
        writer = ContainerWriter(file, max_header_size(header))
        filled = msgspec.structs.replace(layer, streams=writer.write(streams))
        writer.finish(msgspec.structs.replace(header, layers=(filled,)))
    return path


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(("largest", "fits"), [(5, True), (6, False), (255, False)])
def test_bytes_beyond_the_codebook_are_refused(tmp_path: Path, largest: int, fits: bool, verify: bool) -> None:
    data = np.array([0, 1, largest], dtype=np.uint8)
    stream = Stream("codes", "zstd", (compress(data),), 3, window=Window(3, 1, 3))
    made = _handmade(tmp_path / "a.bhk", CodebookEntry((0.0, 0.0), 1.0, 5), (stream,), 3)
    with bhk.open(made, verify=verify) as file:
        if fits:
            assert file.codes("weight").tolist() == [3 * 5 + 1, 3 * 5 + 2, 4 * 5 + 3]
            return
        with pytest.raises(CodeRangeError, match=f"stream codes: found {largest}, expected at most 5"):
            file.tensor("weight")


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        ({}, None),
        ({"winding": 5}, "winding"),
        ({"winding": 255}, "winding"),
        ({"phase": 5}, "phase"),
        ({"shell": 3}, "shell"),
    ],
)
def test_planes_beyond_the_codebook_are_refused(
    tmp_path: Path, codes: dict[str, int], kind: str | None, verify: bool
) -> None:
    largest = {"winding": 4, "phase": 4, "shell": 2} | codes
    streams = tuple(
        plane_stream(name, np.array([0, 1, value], dtype=np.uint8))  # type: ignore[arg-type]
        for name, value in largest.items()
    )
    made = _handmade(tmp_path / "a.bhk", CodebookEntry((0.0, 0.0), 1.0, 5, shells=2, spacing=0.5), streams, 3)
    with bhk.open(made, verify=verify) as file:
        if kind is None:
            assert file.tensor("weight").shape == (1, 6)
            return
        with pytest.raises(
            CodeRangeError, match=rf"'weight', stream {kind}: .*expected at most .*\[rule D4 of the format\]"
        ):
            file.tensor("weight")


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(("code", "good"), [(74, True), (75, False), (127, False)])
def test_packed_codes_beyond_the_codebook_are_refused(tmp_path: Path, code: int, good: bool, verify: bool) -> None:
    streams = (packed_stream(np.array([0, code, 1]), 7),)
    made = _handmade(tmp_path / "a.bhk", CodebookEntry((0.0, 0.0), 1.0, 5, shells=2, spacing=0.5), streams, 3)
    with bhk.open(made, verify=verify) as file:
        if good:
            codes = file.planes("weight")
            assert codes is not None
            assert codes.scalars(5).tolist() == [0, code, 1]
            return
        with pytest.raises(CodeRangeError, match=rf"found {code}, expected at most 74"):
            file.tensor("weight")


@pytest.mark.parametrize("verify", [True, False])
def test_bits_behind_the_last_packed_code_are_refused(tmp_path: Path, verify: bool) -> None:
    stream = packed_stream(np.array([0, 1, 2]), 5)
    spoiled = Stream("codes", "packed", (stream.chunks[0][:-1] + b"\x80",), stream.decoded, 5)
    made = _handmade(tmp_path / "a.bhk", CodebookEntry((0.0, 0.0), 1.0, 5), (spoiled,), 3)
    with pytest.raises(ChunkDataError, match=r"'weight', stream codes: .*\[rule D3 of the format\]"):
        bhk.load_state_dict(made, verify=verify)
