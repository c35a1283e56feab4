from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bhk.codec.codebook import Codebook, Codes
from bhk.codec.tensor import encode
from bhk.codec.trajectory import Lattice, float32
from bhk.kernels import reference
from bhk.kernels.resident import (
    ROWS_PER_START,
    Resident,
    codebook_of,
    make_resident,
    sheared,
    step_and_offsets,
)

_SETTINGS = settings(deadline=None, derandomize=True, max_examples=60)
_LATTICE, _NARROW, _WIDE = torch.int8, torch.int16, torch.int32


def _decode(resident: Resident, in_features: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return reference.decode(resident.codes, resident.codebook, resident.outliers, in_features, dtype)


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def _held(resident: Resident) -> int:
    return sum(getattr(resident, name).nbytes for name in ("codes", "codebook", "outliers", "outlier_starts", "far"))


@_SETTINGS
@given(
    out=st.integers(1, 50),
    width=st.integers(1, 70),
    windings=st.one_of(st.integers(1, 256), st.sampled_from([1, 2, 3, 127, 128, 129, 255, 256])),
    shells=st.one_of(st.just(0), st.integers(1, 255)),
    outliers=st.integers(0, 4),
    lattice=st.sampled_from(["centred", "corner", "grid"]),
    seed=st.integers(0, 99),
)
def test_weights_decode_bit_for_bit_like_the_codec(
    random_weight, out: int, width: int, windings: int, shells: int, outliers: int, lattice: Lattice, seed: int
) -> None:
    count = outliers if shells else 0
    weight = random_weight(out, width, windings, shells, outliers=count, lattice=lattice, seed=seed)
    for _ in range(2):  # decoding must not change the codes
        assert _bits(_decode(weight.resident, width)) == _bits(weight.dense)
    assert codebook_of(weight.resident.codebook) == weight.book


@pytest.mark.parametrize("preset", ["fine", "balanced", "small", "birkhoff"])
@pytest.mark.parametrize("shape", [(48, 64), (41, 33), (1, 512), (512, 1), (17, 131)])
@pytest.mark.parametrize("degrees", [2, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_all_presets_decode_like_the_file(
    preset: str, shape: tuple[int, int], degrees: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(3)
    weights = torch.distributions.StudentT(degrees).sample(shape).clamp(-100, 100).mul(0.02).to(dtype)
    encoded = encode(weights, preset)
    assert encoded.codebook is not None
    assert encoded.planes is not None
    resident = make_resident(encoded.codebook, encoded.planes, *shape)
    assert _bits(_decode(resident, shape[1], dtype)) == _bits(encoded.decode())


@pytest.mark.parametrize(
    "book",
    [
        Codebook((0.0, 0.0), 2.0**-100, 256),
        Codebook((0.0, 0.0), 2.0**100, 256),
        Codebook((2.0**120, -(2.0**120)), 1.0, 3),
        Codebook((1e-3, 5.0), 0.3, 7, 255, 1e4),
        Codebook((0.0, 0.0), 2.0**-60, 99, 255, 2.0**20),
    ],
)
@pytest.mark.parametrize("lattice", ["centred", "corner", "grid"])
def test_extreme_codebooks_decode_bit_for_bit(book: Codebook, lattice: Lattice) -> None:
    book = replace(book, centre=tuple(map(float32, book.centre)), side=float32(book.side), lattice=lattice)
    assert book.is_valid
    generator = torch.Generator().manual_seed(0)
    codes = Codes.from_scalars(torch.randint(0, book.windings**2, (1000,), generator=generator), book.windings, 1)
    assert codes.shell is not None
    codes.shell[[0, 7, 999]] = book.shells
    codes = codes if book.shells else Codes(codes.winding, codes.phase)
    resident = make_resident(book, codes, 20, 99)
    assert resident.codes.dtype == (
        _LATTICE if lattice != "corner" else _NARROW if book.code_count <= 1 << 16 else _WIDE
    )
    assert _bits(_decode(resident, 99)) == _bits(book.decode(codes).view(20, 100)[:, :99])


@pytest.mark.parametrize(
    ("windings", "shells", "outliers", "lattice", "dtype"),
    [
        (256, 0, 0, "centred", _LATTICE),
        (256, 255, 0, "centred", _LATTICE),  # shells without pairs
        (40, 3, 5, "centred", _LATTICE),  # 5 of 1,000 pairs
        (40, 3, 6, "centred", _NARROW),
        (128, 3, 6, "centred", _NARROW),  # 65,536 codes
        (147, 3, 125, "centred", _LATTICE),  # an eighth of 1,000 pairs
        (147, 3, 126, "centred", _WIDE),
        (256, 1, 126, "centred", _WIDE),
        (256, 0, 0, "grid", _LATTICE),
        (256, 1, 126, "grid", _WIDE),
        (256, 0, 0, "corner", _NARROW),
        (256, 1, 0, "corner", _WIDE),
        (35, 0, 0, "corner", _NARROW),
    ],
)
def test_the_class_follows_from_lattice_and_share_of_outliers(
    random_weight, windings: int, shells: int, outliers: int, lattice: Lattice, dtype: torch.dtype
) -> None:
    weight = random_weight(20, 100, windings, shells, outliers=outliers, lattice=lattice)
    held = weight.resident
    assert held.codes.dtype == dtype
    assert held.codes.shape == (20, 100 if dtype == _LATTICE else 50)
    assert len(held.outliers) == (outliers if dtype == _LATTICE else 0)
    assert _bits(_decode(held, 100)) == _bits(weight.dense)


@pytest.mark.parametrize(("out", "width"), [(1, 1), (1, 2), (16, 600), (17, 601), (100, 91)])
def test_the_lattice_is_two_planes_of_signed_integers(random_weight, out: int, width: int) -> None:
    for windings in (1, 2, 7, 255, 256):
        weight = random_weight(out, width, windings)
        planes = weight.resident.codes.view(out, 2, -1).to(torch.int64) + windings // 2
        assert torch.equal(planes[:, 0].reshape(-1), weight.codes.winding.long())
        assert torch.equal(planes[:, 1].reshape(-1), weight.codes.phase.long())


def test_outliers_are_sorted_and_outlier_starts_index_them(random_weight) -> None:
    weight = random_weight(100, 91, 64, 9, outliers=20)
    held, decoded = weight.resident, weight.book.decode(weight.codes)
    index = held.outliers[:, 0].long()
    assert weight.codes.shell is not None
    assert torch.equal(index, weight.codes.shell.nonzero().view(-1))
    assert torch.equal(held.outliers[:, 1:], decoded[index].view(torch.int32))
    rows = index // 46
    assert held.outlier_starts.tolist() == [int((rows < at * ROWS_PER_START).sum()) for at in range(8)]
    assert {tensor.dtype for tensor in (held.outliers, held.outlier_starts, held.far)} == {torch.int32}


@pytest.mark.parametrize("windings", [2, 37, 255, 256])
@pytest.mark.parametrize("spacing", [1e-4, 0.05, 3.0])
def test_far_lists_the_outliers_beyond_the_reach_of_bytes(random_weight, windings: int, spacing: float) -> None:
    weight = random_weight(60, 400, windings, 6, outliers=55)
    weight = replace(weight, book=replace(weight.book, spacing=float32(spacing)))
    held = weight.resident
    index, step = held.outliers[:, 0].long(), weight.book.step
    planes = held.codes.view(60, 2, 200)[index // 200, :, index % 200].double()
    _, even, odd = step_and_offsets(weight.book)
    stand_in = torch.stack([planes[:, 0] + planes[:, 1] / windings, planes[:, 1]], dim=1) * step
    stand_in += torch.tensor([even, odd])
    gap = (held.outliers[:, 1:].contiguous().view(torch.float32).double() - stand_in) / step
    is_far = torch.zeros(len(index), dtype=torch.bool)
    is_far[held.far.long()] = True
    assert held.far.tolist() == sorted(held.far.tolist())
    # Integers may be off by half each, the first by the error of the second divided by n besides.
    assert bool((gap[~is_far].abs() < 1.01 + 1 / windings).all())
    assert bool((gap[is_far].abs().amax(dim=1) > 0.99 - 1 / windings).all())
    if windings * weight.book.scales[6] < 250:
        assert len(held.far) == 0
    if windings > 2 and spacing > 1:
        assert len(held.far) > 0


@given(windings=st.integers(1, 256), seed=st.integers(0, 99))
@_SETTINGS
def test_the_identity_holds_for_every_pair(random_weight, windings: int, seed: int) -> None:
    weight = random_weight(9, 60, windings, seed=seed)
    step, even, odd = step_and_offsets(weight.book)
    q, r = (weight.resident.codes.view(9, 2, 30).double() * step).unbind(dim=1)
    pairs = torch.stack([q + r / windings + even, r + odd], dim=2).view(9, 60)
    torch.testing.assert_close(pairs, weight.dense.double(), rtol=0, atol=1e-6 * weight.book.side)
    integers = sheared(weight.book, weight.dense.view(-1, 2)).view(9, 30, 2).permute(0, 2, 1).reshape(9, 60)
    torch.testing.assert_close(integers, weight.resident.codes.float(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("preset", "bits"), [("fine", 8.3), ("balanced", 8.1), ("small", 8.1), ("birkhoff", 8.1)])
@pytest.mark.parametrize("shape", [(768, 768), (513, 1025)])
def test_a_layer_takes_little_more_than_a_byte_a_weight(preset: str, bits: float, shape: tuple[int, int]) -> None:
    torch.manual_seed(5)
    encoded = encode(torch.randn(shape) * 0.03, preset)
    assert encoded.codebook is not None
    assert encoded.planes is not None
    resident = make_resident(encoded.codebook, encoded.planes, *shape)
    assert 8 * _held(resident) / (shape[0] * shape[1]) <= bits
    most = replace(encoded.codebook, shells=255, spacing=encoded.codebook.side)
    shell = torch.zeros(len(encoded.planes), dtype=torch.uint8)
    shell[: len(shell) // 200] = 1
    codes = Codes(encoded.planes.winding, encoded.planes.phase, shell)
    if most.lattice == "centred":  # as many outliers as a lattice may have
        held = make_resident(most, codes, *shape)
        assert held.codes.dtype == _LATTICE
        assert 8 * _held(held) / (shape[0] * shape[1]) <= 8.5
