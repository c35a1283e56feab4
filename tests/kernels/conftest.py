"""Random coded weights, and memory filled with poison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bhk.codec.codebook import Codebook, Codes
from bhk.codec.trajectory import Lattice
from bhk.kernels import reference
from bhk.kernels.resident import Resident, make_resident


@dataclass(frozen=True, eq=False)
class CodedWeight:
    """A weight (out, in) held as codes."""

    book: Codebook
    codes: Codes
    out: int
    width: int

    @cached_property
    def resident(self) -> Resident:
        return make_resident(self.book, self.codes, self.out, self.width)

    @cached_property
    def dense(self) -> Tensor:
        """The weight as the codec decodes it, float32 (out, in)."""
        return self.book.decode(self.codes).view(self.out, -1)[:, : self.width].contiguous()

    @property
    def decode_operands(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.resident.codes, self.resident.codebook, self.resident.outliers

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """The arguments of `bhk::hyper_linear` between x and bias."""
        held = self.resident
        return held.codes, held.codebook, held.outliers, held.outlier_starts, held.far

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return x @ W.T + bias, float64."""
        return functional.linear(x.double(), self.dense.double(), None if bias is None else bias.double())

    def rounded_product(self, x: Tensor, bias: Tensor | None, levels: int) -> Tensor:
        """Return the integer product as documented, float64: rows of [u | v] on `levels` symmetric steps of their own."""
        held, book, n = self.resident, self.book, self.book.windings
        lean = 0 if book.lattice == "grid" else 1 / n
        padded = functional.pad(x.double(), (0, self.width % 2))
        even, odd = padded[:, ::2], padded[:, 1::2]
        sheared = torch.cat([even, odd + even * lean], dim=1)
        scale = sheared.abs().amax(dim=1, keepdim=True).clamp(min=1e-38) / levels
        half = n // 2
        origin = torch.tensor([(half * n + half - (n * n - 1) / 2) / n**2, (half - (n - 1) / 2) / n], device=x.device)
        origin = (origin if lean else 0 * origin).double() * book.side + torch.tensor(book.centre, device=x.device)
        y = (sheared / scale).round() * scale @ held.codes.double().t() * book.step
        y += origin[0] * even.sum(1, keepdim=True) + origin[1] * odd.sum(1, keepdim=True)
        for place in held.outliers[held.far.long(), 0].tolist():
            row, column = divmod(place, even.shape[1])
            q, r = held.codes.view(self.out, 2, -1)[row, :, column].double()
            stand_in = origin + book.step * torch.stack([q + r * lean, r])
            more = functional.pad(self.dense[row].double(), (0, self.width % 2))[2 * column : 2 * column + 2] - stand_in
            y[:, row] += even[:, column] * more[0] + odd[:, column] * more[1]
        return y if bias is None else y + bias.double()

    def to(self, device: str) -> CodedWeight:
        planes = (self.codes.winding, self.codes.phase, self.codes.shell)
        codes = Codes(*(plane if plane is None else plane.to(device) for plane in planes))
        return CodedWeight(self.book, codes, self.out, self.width)


def random_weight(
    out: int,
    width: int,
    windings: int = 200,
    shells: int = 0,
    *,
    outliers: int = 0,
    lattice: Lattice = "centred",
    seed: int = 0,
) -> CodedWeight:
    """Draw codes at random, all equally likely; `outliers` pairs in shells, among them the first and the last."""
    generator = torch.Generator().manual_seed(seed)
    pairs = out * ((width + 1) // 2)
    winding, phase = torch.randint(0, windings, (2, pairs), generator=generator, dtype=torch.uint8)
    shell = torch.zeros(pairs, dtype=torch.uint8) if shells else None
    if outliers:
        assert shell is not None
        places = torch.randperm(pairs, generator=generator)[:outliers]
        places[:2] = torch.tensor([0, pairs - 1])[: len(places)]
        shell[places] = torch.randint(1, shells + 1, (len(places),), generator=generator, dtype=torch.uint8)
    book = Codebook((0.0078125, -0.015625), 0.375, windings, shells, 0.0625 if shells else 0.0, lattice)
    return CodedWeight(book, Codes(winding, phase, shell), out, width)


@pytest.fixture(name="random_weight", scope="session")
def _random_weight() -> Callable[..., CodedWeight]:
    return random_weight


class CodedLayer(nn.Module):
    """A minimal layer: the operands as buffers, and a bias."""

    def __init__(self, weight: CodedWeight, compute: str = "exact") -> None:
        super().__init__()
        for name, tensor in zip(
            ("codes", "codebook", "outliers", "outlier_starts", "far"), weight.operands, strict=True
        ):
            self.register_buffer(name, tensor)
        bias = torch.randn(weight.out, generator=torch.Generator().manual_seed(2))
        self.bias = nn.Parameter(bias.to(weight.codes.winding.device))
        self.compute = compute

    def forward(self, x: Tensor) -> Tensor:
        operands = self.codes, self.codebook, self.outliers, self.outlier_starts, self.far
        return torch.ops.bhk.hyper_linear(x, *operands, self.bias, self.compute)


@pytest.fixture
def coded_layer() -> type[CodedLayer]:
    return CodedLayer


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply integers even if the weight is too small for that to save time."""
    monkeypatch.setattr(reference, "INTEGER_SIZE", 0)


@pytest.fixture
def poison() -> Iterator[None]:
    """Fill new memory with NaN or the largest integer, so that elements nobody wrote are noticed."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.ones(1).new_empty(9).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def relative() -> Callable[[Tensor, Tensor], float]:
    """Returns the norm of the error of a product, divided by the norm of the exact product."""
    return lambda y, exact: float((y.double() - exact).norm() / exact.norm().clamp(min=1e-30))
