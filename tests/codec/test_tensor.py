from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bhk.codec.codebook import Codebook, Codes
from bhk.codec.fit import PresetError
from bhk.codec.shape import Shape
from bhk.codec.streams import Stream, decompress, unpack, unshuffle, value_stream
from bhk.codec.tensor import DenseTensorError, EncodedTensor, encode, tensor_bytes

_CODED = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
_EXACT = [
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint64,
    torch.uint32,
    torch.uint16,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.complex128,
]
_PRESETS = {"fine": 34.0, "balanced": 28.0, "small": 22.0}


def _random(*dims: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    values = torch.randn(dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (values * 20).to(dtype) if not dtype.is_floating_point else values.to(dtype)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal bit for bit, NaN and signs of zeros included."""
    return (
        one.dtype == other.dtype and one.shape == other.shape and bool((tensor_bytes(one) == tensor_bytes(other)).all())
    )


def _plain(stream: Stream, width: int) -> npt.NDArray[np.uint8]:
    """The bytes of a stream of one chunk."""
    (chunk,) = stream.chunks
    data = np.frombuffer(chunk, np.uint8) if stream.codec == "none" else decompress(chunk, stream.decoded)
    return unshuffle(data, width) if stream.codec == "shuffle+zstd" else data


def _codes_of(streams: tuple[Stream, ...], codebook: Codebook, count: int) -> list[int]:
    """The scalar codes that the streams hold, read as the format says."""
    if streams[0].codec == "packed":
        return list(unpack(streams[0].chunks[0], count, streams[0].bits))
    planes = {stream.kind: _plain(stream, 1).astype(np.int64) for stream in streams}
    if window := streams[0].window:
        winding, phase = np.divmod(planes["codes"], window.phases)
        winding, phase = winding + window.winding, phase + window.phase
    else:
        winding, phase = planes["winding"], planes["phase"]
    return list(planes.get("shell", 0) * codebook.windings**2 + winding * codebook.windings + phase)


def _seed_vectors() -> dict[str, dict[str, npt.NDArray[Any]]]:
    vectors: dict[str, dict[str, npt.NDArray[Any]]] = {}
    with np.load(Path(__file__).parent.parent / "data" / "seed_vectors.npz") as data:
        for key in data.files:
            name, _, field = key.partition("/")
            vectors.setdefault(name, {})[field] = data[key]
    return vectors


_SEED = _seed_vectors()


def test_there_are_nine_seed_vectors() -> None:
    assert len(_SEED) == 9


@pytest.mark.parametrize("vector", _SEED.values(), ids=_SEED)
def test_preset_birkhoff_is_the_published_method(vector: dict[str, npt.NDArray[Any]]) -> None:
    encoded = encode(torch.from_numpy(vector["input"]), "birkhoff")
    if not vector["load_type"]:
        assert encoded.codebook is None
        assert np.array_equal(encoded.decode().numpy(), vector["input"])
        return
    assert encoded.codebook is not None
    assert encoded.codes is not None
    assert encoded.error is not None
    assert encoded.codebook.windings**2 == vector["U"]
    assert encoded.codebook.shells == vector["K"]
    assert encoded.codebook.centre == pytest.approx(tuple(vector["center"]), abs=1e-8)
    assert encoded.pairing == {1: "flat", 2: "rows"}[int(vector["load_type"])]
    assert [(stream.codec, stream.bits) for stream in encoded.streams] == [("packed", vector["bits_per_code"])]
    assert encoded.nbytes == vector["stored_bytes"]
    assert (encoded.codes.numpy() == vector["codes"]).mean() >= 0.999
    assert np.abs(encoded.decode().numpy() - vector["decoded"]).max() <= 1e-6
    # The public code counts the padding weight in its error.
    padded = Shape(encoded.shape, encoded.pairing).padded
    assert encoded.error.mean_abs == pytest.approx(float(vector["mae"]), rel=0.05 if padded else 1e-6)


@pytest.mark.parametrize(("preset", "snr"), _PRESETS.items())
@pytest.mark.parametrize("dtype", _CODED)
@pytest.mark.parametrize("dims", [(65, 77), (9, 7, 3, 33)])
def test_random_matrices_reach_the_ratio_of_the_preset(
    dims: tuple[int, ...], dtype: torch.dtype, preset: str, snr: float
) -> None:
    encoded = encode(_random(*dims, dtype=dtype) * 0.02, preset)
    assert encoded.error is not None
    assert encoded.error.snr_db == pytest.approx(snr, abs=0.5)


def _with_outlier(tensor: torch.Tensor) -> torch.Tensor:
    tensor[3, 4] = 3e4
    return tensor


_KINDS: dict[str, Callable[[], torch.Tensor]] = {
    "rows": lambda: _random(33, 7),
    "flat": lambda: _random(5, 3, 7),
    "shells": lambda: _with_outlier(_random(65, 7)),
    "even": lambda: _random(64, 64),
    "off zero": lambda: _random(33, 3) + 5,
    "one column": lambda: _random(33, 1),
    "1 x 1": lambda: _random(1, 1),
    "1 x 2": lambda: _random(1, 2),
    "1 x 3": lambda: _random(1, 3),
    "five dimensions": lambda: _random(1, 3, 1, 5, 1),
    "tiny": lambda: _random(33, 7) * 1e-25,
    "huge": lambda: _random(33, 7) * 1e25,
    "hardly any spread": lambda: _random(33, 7) * 1e-6 + 1,
}


@pytest.mark.parametrize(
    ("kind", "preset"),
    [
        *((kind, "balanced") for kind in _KINDS),
        *((kind, "birkhoff") for kind in _KINDS if kind not in ("tiny", "huge")),
    ],
)
@pytest.mark.parametrize("dtype", _CODED)
def test_what_is_encoded_holds_together(kind: str, dtype: torch.dtype, preset: str) -> None:
    """Shape, dtype, error, codes, streams and size all tell of the same decoded tensor."""
    tensor = _KINDS[kind]().to(dtype)
    if preset == "birkhoff":
        tensor = tensor * 0.02
    before = tensor.clone()
    encoded = encode(tensor, preset)
    decoded = encoded.decode()
    assert _same(tensor, before)
    assert (decoded.shape, decoded.dtype) == (tensor.shape, tensor.dtype) == (encoded.shape, encoded.dtype)
    assert encoded.nbytes == sum(len(chunk) for stream in encoded.streams for chunk in stream.chunks)
    if preset != "birkhoff":
        assert encoded.nbytes <= value_stream(tensor_bytes(tensor), tensor.element_size()).stored
    if encoded.codebook is None:
        assert _same(decoded, tensor)
        assert (encoded.error, encoded.codes) == (None, None)
        return
    assert encoded.error is not None
    assert encoded.codes is not None
    assert encoded.codebook.is_valid
    shape = Shape(encoded.shape, encoded.pairing)
    assert encoded.pairing == ("rows" if tensor.ndim == 2 else "flat")
    assert encoded.codes.tolist() == _codes_of(encoded.streams, encoded.codebook, shape.count)
    codes = Codes.from_scalars(encoded.codes, encoded.codebook.windings, encoded.codebook.shells)
    assert _same(shape.join(encoded.codebook.decode(codes)).to(dtype), decoded)
    exact = tensor.double()
    difference = decoded.double() - exact
    assert encoded.error.mean_abs == pytest.approx(float(difference.abs().mean()), rel=1e-5)
    assert encoded.error.max_abs == pytest.approx(float(difference.abs().max()), rel=1e-5)
    if encoded.error.max_abs:
        ratio = float(exact.square().sum() / difference.square().sum())
        assert encoded.error.snr_db == pytest.approx(10 * math.log10(ratio), abs=1e-3)


def test_each_kind_is_coded_as_it_should() -> None:
    """Guards the test above against codebooks that all look alike."""
    found = {kind: encode(make(), "balanced").codebook for kind, make in _KINDS.items()}
    assert [kind for kind, codebook in found.items() if codebook is None] == ["1 x 3"]  # too few for a spread
    windings = {kind: codebook.windings for kind, codebook in found.items() if codebook}
    assert [kind for kind, count in windings.items() if count == 1] == ["1 x 1", "1 x 2"]
    assert [kind for kind, codebook in found.items() if codebook and codebook.shells] == ["shells"]


@pytest.mark.parametrize("preset", [*_PRESETS, "birkhoff"])
@pytest.mark.parametrize("dtype", _EXACT)
@pytest.mark.parametrize("dims", [(), (0,), (3, 0, 5), (7,), (33, 5)])
def test_other_dtypes_are_kept_exact(dims: tuple[int, ...], dtype: torch.dtype, preset: str) -> None:
    tensor = _random(*dims).mul(20).to(dtype)
    encoded = encode(tensor, preset)
    assert (encoded.codebook, encoded.codes, encoded.error, encoded.note) == (None, None, None, "")
    assert _same(encoded.decode(), tensor)
    data = b"".join(_plain(stream, tensor.element_size()).tobytes() for stream in encoded.streams)
    assert data == tensor_bytes(tensor).tobytes()
    assert [stream.kind for stream in encoded.streams] == (["values"] if tensor.numel() else [])


@pytest.mark.parametrize("dtype", _CODED)
@pytest.mark.parametrize("dims", [(), (0,), (0, 5), (5, 0), (77,)])
def test_scalars_vectors_and_empty_tensors_are_kept_exact(dims: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = _random(*dims, dtype=dtype)
    encoded = encode(tensor)
    assert (encoded.codebook, encoded.note) == (None, "")
    assert _same(encoded.decode(), tensor)
    assert encoded.nbytes <= tensor_bytes(tensor).nbytes


@pytest.mark.parametrize(
    ("dims", "coded"), [((), False), ((9,), False), ((3, 3), False), ((10,), True), ((2, 5), True)]
)
def test_the_published_method_codes_ten_weights_and_more(dims: tuple[int, ...], coded: bool) -> None:
    assert (encode(_random(*dims) * 0.01, "birkhoff").codebook is not None) == coded


def test_what_is_smaller_exact_is_kept_exact() -> None:
    mask = (_random(129, 65) > 2.5).half() * 0.1
    encoded = encode(mask, step=0.001)
    assert (encoded.codebook, encoded.note) == (None, "")
    assert _same(encoded.decode(), mask)
    assert encoded.nbytes < mask.nbytes / 8


def test_a_beginning_does_not_decide_what_is_smaller() -> None:
    tensor = _random(513, 257)
    tensor[:300] = 0  # more than is looked at
    assert encode(tensor, step=0.1).codebook is not None


@pytest.mark.parametrize("value", [1e60, 1e-60, 1e300])
def test_float64_beyond_float32_is_kept_exact(value: float) -> None:
    tensor = _random(33, 5, dtype=torch.float64) * value
    assert encode(tensor).codebook is None
    assert _same(encode(tensor).decode(), tensor)


@pytest.mark.parametrize("dtype", _CODED)
@pytest.mark.parametrize("value", [0.0, -0.1, 3e-5, 1.0])
@pytest.mark.parametrize("dims", [(1, 1), (7, 3), (65, 64), (3, 5, 7)])
def test_constant_tensors_decode_exactly(dims: tuple[int, ...], value: float, dtype: torch.dtype) -> None:
    tensor = torch.full(dims, value, dtype=dtype)
    encoded = encode(tensor)
    # Codes are float32: all there is of a float64 constant, unless it is smaller kept exact.
    assert torch.equal(encoded.decode(), tensor if encoded.codebook is None else tensor.float().to(dtype))
    assert encoded.nbytes < 64


@pytest.mark.parametrize("preset", ["balanced", "birkhoff"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("places", [slice(7, 8), slice(1, None, 2), slice(None)])
@pytest.mark.parametrize("dtype", _CODED)
def test_what_is_not_finite_is_kept_exact_with_a_note(
    dtype: torch.dtype, places: slice, value: float, preset: str
) -> None:
    tensor = _random(33, 4, dtype=dtype) * 0.02
    tensor.view(-1)[places] = value
    encoded = encode(tensor, preset)
    assert (encoded.codebook, encoded.note) == (None, "holds NaN or infinity")
    assert _same(encoded.decode(), tensor)


def test_what_a_sample_passes_over_is_found_all_the_same() -> None:
    tensor = _random(500, 501)
    tensor[3, 499] = math.nan
    tensor[5, 5] = math.inf
    encoded = encode(tensor)
    assert (encoded.codebook, encoded.note) == (None, "holds NaN or infinity")


@pytest.mark.parametrize(
    ("tensor", "preset"),
    [
        (_random(33, 5) * 1e-39, "balanced"),  # denormal numbers
        (_random(33, 5) * 1e37, "balanced"),
        (torch.full((33, 5), 65504.0, dtype=torch.float16) * _random(33, 5).sign().half(), "balanced"),
        (_random(33, 5), "birkhoff"),
        (_random(33, 5, dtype=torch.float64) * 1e60, "birkhoff"),
    ],
)
def test_what_the_codes_do_not_reach_is_kept_exact_with_a_note(tensor: torch.Tensor, preset: str) -> None:
    assert bool(tensor.isfinite().all())
    encoded = encode(tensor, preset)
    expected = "too far off the published square" if preset == "birkhoff" else "too small, too large or too far apart"
    assert encoded.codebook is None
    assert expected in encoded.note
    assert _same(encoded.decode(), tensor)


_VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transposed": lambda base: base.T,
    "columns": lambda base: base[:, 3::2],
    "backwards": lambda base: base.flip(1)[::3],
    "expanded": lambda base: base[:, :1].expand(33, 40),
    "requires grad": lambda base: base.clone().requires_grad_(),
    "parameter": lambda base: torch.nn.Parameter(base.T),
    "channels last": lambda base: base.view(3, 11, 7, 11).to(memory_format=torch.channels_last),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("preset", ["balanced", "birkhoff"])
@pytest.mark.parametrize(
    ("view", "dtype"),
    [
        *((view, torch.float32) for view in _VIEWS),
        *((view, torch.int64) for view in _VIEWS if view not in ("requires grad", "parameter")),
    ],
)
def test_only_the_values_of_a_view_matter(view: str, dtype: torch.dtype, preset: str) -> None:
    base = (_random(33, 77) * (20 if dtype == torch.int64 else 0.02)).to(dtype)
    tensor = _VIEWS[view](base)
    encoded, plain = (
        encode(tensor, preset),
        encode(tensor.detach().clone(memory_format=torch.contiguous_format), preset),
    )
    assert (encoded.codebook, encoded.streams) == (plain.codebook, plain.streams)
    decoded = encoded.decode()
    assert not decoded.requires_grad
    assert decoded.shape == tensor.shape
    assert torch.equal(decoded, plain.decode())


def test_conjugated_views_are_kept_exact() -> None:
    tensor = torch.complex(_random(5, 3), _random(5, 3, seed=1))
    for view in (tensor.conj(), tensor.mH, tensor.conj().imag[0]):
        encoded = encode(view)
        assert torch.equal(encoded.decode(), view)
        (stream,) = encoded.streams
        assert _plain(stream, view.element_size()).tobytes() == view.clone().resolve_conj().numpy().tobytes()


def test_a_ratio_or_a_step_takes_the_place_of_the_preset() -> None:
    tensor = _random(65, 77) * 0.02
    by_ratio = encode(tensor, "fine", snr_db=19.5)
    assert by_ratio.error is not None
    assert by_ratio.error.snr_db == pytest.approx(19.5, abs=0.1)
    by_step = encode(tensor, step=0.003)
    assert by_step.codebook is not None
    assert by_step.codebook.step == pytest.approx(0.003, rel=1e-6)


def test_finer_presets_take_more_bytes() -> None:
    tensor = _random(129, 77)
    sizes = [encode(tensor, preset).nbytes for preset in ("fine", "balanced", "small")]
    assert sizes[0] > sizes[1] > sizes[2]


def test_codes_that_are_all_as_likely_are_packed() -> None:
    tensor = torch.rand(17, 31, generator=torch.Generator().manual_seed(1))
    (stream,) = encode(tensor, step=1 / 60).streams
    assert (stream.kind, stream.codec, stream.bits) == ("codes", "packed", 12)
    assert stream.stored == (17 * 16 * 12 + 7) // 8
    assert [part.kind for part in encode(_random(65, 77)).streams] == ["winding", "phase"]
    assert [part.kind for part in encode(_with_outlier(_random(65, 7))).streams] == ["winding", "phase", "shell"]


@pytest.mark.parametrize("tensor", [_random(33, 5), torch.arange(5)], ids=["coded", "kept exact"])
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"preset": "best"}, "unknown preset 'best'"),
        ({"snr_db": 2.0}, "choose 3 to 42 dB"),
        ({"snr_db": 42.5}, "choose 3 to 42 dB"),
        ({"snr_db": math.nan}, "choose 3 to 42 dB"),
        ({"step": 0.0}, "must be positive"),
        ({"step": -1.0}, "must be positive"),
        ({"step": math.nan}, "must be positive"),
        ({"snr_db": 28.0, "step": 0.1}, "give one of them"),
        ({"preset": "birkhoff", "snr_db": 28.0}, "fixed square"),
        ({"preset": "birkhoff", "step": 0.1}, "fixed square"),
    ],
)
def test_a_quality_that_cannot_be_had_is_refused(tensor: torch.Tensor, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PresetError, match=complaint):
        encode(tensor, **options)


def test_what_is_decoded_belongs_to_the_caller() -> None:
    for tensor in (_random(33, 5), _random(7)):
        encoded: EncodedTensor = encode(tensor)
        expected = encoded.decode()
        encoded.decode().zero_()
        tensor.zero_()
        assert torch.equal(encoded.decode(), expected)
        assert bool(expected.any())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [
        lambda dense: dense.to_sparse(),
        lambda dense: dense.to_sparse_csr(),
        lambda dense: dense.to("meta"),
        lambda dense: torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8),
        lambda dense: torch.nested.nested_tensor([dense, dense[:3]]),
        lambda dense: torch.nn.UninitializedParameter(),
    ],
)
@pytest.mark.parametrize("preset", ["balanced", "birkhoff"])
def test_tensors_without_dense_data_are_refused(make: Callable[[torch.Tensor], torch.Tensor], preset: str) -> None:
    with pytest.raises(DenseTensorError, match="expected a dense tensor"):
        encode(make(_random(33, 5)), preset)
