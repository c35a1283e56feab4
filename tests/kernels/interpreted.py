"""The Triton kernels in their interpreter, beside the codec and float64: `test_interpreter.py` runs this in another process."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor
from torch.nn import functional

os.environ["TRITON_INTERPRET"] = "1"  # read when Triton defines a kernel

from bhk.kernels import dense, few_rows, integer
from bhk.kernels.card import Card

pytestmark = pytest.mark.usefixtures("poison")


def _fenced(tensor: Tensor) -> Tensor:
    """Return `tensor` in the midst of memory that must not be read."""
    fill = torch.nan if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max
    memory = torch.full((tensor.numel() + 512,), fill, dtype=tensor.dtype)
    inner = memory[256 : 256 + tensor.numel()].view(tensor.shape)
    return inner.copy_(tensor)


def _card(processors: int) -> Card:
    return Card("H100", processors, 227 << 10)


def _draw(weight, rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, weight.width, generator=generator) + 0.2
    return _fenced(x.to(dtype)), _fenced(torch.randn(weight.out, generator=generator).to(dtype))


def _decode(weight, dtype: torch.dtype) -> Tensor:
    return dense.decode(*map(_fenced, weight.decode_operands), weight.width, dtype)


_BOOKS = [
    (256, 0, True),
    (255, 0, True),
    (1, 0, True),
    (256, 9, True),
    (7, 255, True),
    (256, 0, False),
    (40, 3, False),
    (35, 3, False),
    (1, 1, False),
    (256, 255, False),
    (129, 255, False),
]


@pytest.mark.parametrize(("windings", "shells", "centred"), _BOOKS)
@pytest.mark.parametrize(("out", "width"), [(1, 1), (2, 515), (17, 34), (130, 7)])
def test_decode_is_the_codec_bit_for_bit(
    random_weight, windings: int, shells: int, centred: bool, out: int, width: int
) -> None:
    pairs = out * ((width + 1) // 2)
    few = max(pairs // 200, 0)
    for outliers in {0, few, pairs // 2} if shells else {0}:
        weight = random_weight(out, width, windings, shells, outliers=outliers, centred=centred)
        assert torch.equal(_decode(weight, torch.float32), weight.dense)


# The interpreter cuts bfloat16 off where a card rounds it; test_card.py has that dtype.
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("centred", [True, False])
def test_other_dtypes_are_rounded_from_float32(random_weight, dtype: torch.dtype, centred: bool) -> None:
    weight = random_weight(24, 135, 200, 9, outliers=8, centred=centred)
    assert torch.equal(_decode(weight, dtype), weight.dense.to(dtype))


def test_more_outliers_than_one_program_writes(random_weight) -> None:
    weight = random_weight(200, 1001, 99, 9, outliers=500)
    assert len(weight.resident.outliers) == 500 > dense.BLOCK_OUTLIERS
    assert torch.equal(_decode(weight, torch.float32), weight.dense)


# out, width, windings, shells, outliers: odd sizes, more than a tile of everything, outliers in many tiles
_LATTICES = [
    (1, 1, 256, 0, 0),
    (40, 33, 200, 3, 3),
    (70, 131, 255, 9, 23),
    (65, 260, 7, 255, 42),
    (33, 1040, 256, 5, 80),
    (17, 2, 1, 0, 0),
]


@pytest.mark.parametrize(("out", "width", "windings", "shells", "outliers"), _LATTICES)
@pytest.mark.parametrize(("rows", "dtype"), [(1, torch.float32), (17, torch.float16), (66, torch.float32)])
def test_few_rows_are_exact(
    random_weight,
    relative,
    out: int,
    width: int,
    windings: int,
    shells: int,
    outliers: int,
    rows: int,
    dtype: torch.dtype,
) -> None:
    weight = random_weight(out, width, windings, shells, outliers=outliers)
    x, bias = _draw(weight, rows, dtype)
    codes, codebook, lists, tiles, _ = map(_fenced, weight.operands)
    for processors, given in ((1, bias), (200, None)):
        tile, *_ = few_rows.tiles_for(rows, out, codes.shape[1] // 2, x.element_size(), _card(processors))
        y = few_rows.few_rows(x, codes, codebook, lists, tiles, given, tile=tile, precision="ieee")
        exact = weight.product(x, given)
        limit = 1e-6
        if dtype == torch.float16:
            limit = 1e-5 + 1.3 * relative(functional.linear(x, weight.dense.half(), given), exact)
        assert (y.shape, y.dtype) == ((rows, out), dtype)
        assert relative(y, exact) <= limit


# The interpreter takes 40 ms for a row here.
@pytest.mark.parametrize(
    ("rows", "dtype", "lattice"),
    [
        (1, torch.float32, 0),
        (66, torch.float32, 2),
        (5, torch.float16, 1),
        (9, torch.float16, 4),
        (3, torch.float32, 3),
    ],
)
def test_integer_products_are_those_of_rows_rounded_to_a_byte(
    random_weight, relative, rows: int, dtype: torch.dtype, lattice: int
) -> None:
    out, width, windings, shells, outliers = _LATTICES[lattice]
    weight = random_weight(out, width, windings, shells, outliers=outliers)
    x, bias = _draw(weight, rows, dtype)
    x[rows // 2] = 0
    codes, codebook, lists, _, far = map(_fenced, weight.operands)
    tile, *_ = integer.tiles_for(rows, out, _card(1), has_correction=True)
    for given in (bias, None):
        y = integer.integer_product(x, codes, codebook, lists, far, given, tile=tile, precision="ieee")
        # A few activations lie half-way between two steps, and may be rounded to either.
        limit = 2e-4 if dtype == torch.float32 else 5e-4
        assert (y.shape, y.dtype) == ((rows, out), dtype)
        assert relative(y, weight.rounded_product(x, given, 127)) <= limit
        assert torch.equal(y[rows // 2], torch.zeros(out, dtype=dtype) if given is None else given)
