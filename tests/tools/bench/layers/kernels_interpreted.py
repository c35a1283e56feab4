"""The kernels of `tools/bench` in Triton's interpreter: `test_kernels.py` runs this in another process."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional

os.environ["TRITON_INTERPRET"] = "1"  # read when Triton defines a kernel

from bhk.codec.codebook import Codebook, Codes
from bhk.codec.trajectory import Lattice
from tools.bench.layers.published import PublishedLinear
from tools.bench.layers.six_bits import EightBitLinear, SixBitLinear, lattice_product, pack_six_bits


@dataclass(frozen=True, eq=False)
class Drawn:
    """A weight (out, in) of codes drawn at random, a bias and activations, with NaN around the latter."""

    book: Codebook
    codes: Codes
    bias: Tensor
    x: Tensor

    @property
    def arguments(self) -> tuple[Codebook, Codes, int, int, Tensor]:
        return self.book, self.codes, len(self.bias), self.x.shape[1], self.bias

    def error(self, y: Tensor, *, biased: bool = True) -> float:
        """Return how far `y` is off the float64 product, relative to it."""
        weight = self.book.decode(self.codes).view(len(self.bias), -1)[:, : self.x.shape[1]]
        exact = functional.linear(self.x.double(), weight.double(), self.bias.double() if biased else None)
        return float((y.double() - exact).norm() / exact.norm())


def _draw(book: Codebook, out: int, width: int, rows: int, dtype: torch.dtype) -> Drawn:
    generator = torch.Generator().manual_seed(rows)
    pairs = out * ((width + 1) // 2)
    winding, phase = torch.randint(0, book.windings, (2, pairs), generator=generator, dtype=torch.uint8)
    shell = torch.randint(0, book.shells + 1, (pairs,), generator=generator, dtype=torch.uint8)
    memory = torch.full((rows * width + 512,), torch.nan, dtype=dtype)
    x = memory[256 : 256 + rows * width].view(rows, width)
    x.copy_(torch.randn(rows, width, generator=generator) + 0.2)
    bias = torch.randn(out, generator=generator).to(dtype)
    return Drawn(book, Codes(winding, phase, shell if book.shells else None), bias, x)


def _book(windings: int, shells: int = 0, lattice: Lattice = "centred") -> Codebook:
    return Codebook((0.0078125, -0.015625), 0.375, windings, shells, 0.0625 if shells else 0.0, lattice)


@pytest.mark.parametrize(
    ("book", "out", "width", "rows", "dtype"),
    [
        (_book(256), 70, 33, 1, torch.float32),
        (_book(40, 3, lattice="corner"), 1, 1, 5, torch.float32),
        (_book(35, 3, lattice="corner"), 65, 131, 17, torch.float16),
        (_book(7, 255), 66, 66, 66, torch.float32),
    ],
)
def test_published_product(book: Codebook, out: int, width: int, rows: int, dtype: torch.dtype) -> None:
    drawn = _draw(book, out, width, rows, dtype)
    y = PublishedLinear(*drawn.arguments)(drawn.x)
    assert (y.shape, y.dtype) == ((rows, out), torch.float32)
    # On the corner lattice the codec rounds as the format defines, which differs by up to 4e-6 of a shell's scale.
    assert drawn.error(y) < (1e-6 if book.lattice == "centred" else 1e-5)


def test_published_codes_fit_16_bits() -> None:
    drawn = _draw(_book(256, 1), 2, 2, 1, torch.float32)
    with pytest.raises(ValueError, match="131072 codes"):
        PublishedLinear(*drawn.arguments)


# The interpreter takes 40 ms for a row here, and does not know the arithmetic of bfloat16.
@pytest.mark.parametrize(
    ("layer", "processors"), [(SixBitLinear, 1), (SixBitLinear, 200), (EightBitLinear, 1), (EightBitLinear, 200)]
)
@pytest.mark.parametrize(
    ("windings", "out", "width", "rows", "dtype"),
    [
        (64, 1, 1, 1, torch.float32),
        (64, 2, 8200, 1, torch.float16),
        (64, 70, 515, 5, torch.float32),
        (63, 65, 130, 17, torch.float32),
        (5, 66, 34, 66, torch.float32),
    ],
)
def test_lattice_products(
    layer: type[SixBitLinear], processors: int, windings: int, out: int, width: int, rows: int, dtype: torch.dtype
) -> None:
    drawn = _draw(_book(windings), out, width, rows, dtype)
    held = layer(*drawn.arguments)
    bias = held.bias if processors == 1 else None
    y = lattice_product(drawn.x, held.held, held.codebook, bias, processors=processors, precision="ieee")
    assert (y.shape, y.dtype) == ((rows, out), dtype)
    assert drawn.error(y, biased=bias is not None) < (1e-6 if dtype == torch.float32 else 1e-3)


def test_six_bits_a_weight() -> None:
    drawn = _draw(_book(64), 3, 4096, 1, torch.float32)
    six, eight = SixBitLinear(*drawn.arguments), EightBitLinear(*drawn.arguments)
    assert six.held.nbytes * 8 == 6 * 3 * 4096
    assert torch.equal(six.held, pack_six_bits(eight.held))
    for book in (_book(65), _book(64, 1), _book(64, lattice="corner")):
        with pytest.raises(ValueError, match="not a centred lattice"):
            SixBitLinear(*_draw(book, 2, 2, 1, torch.float32).arguments)
