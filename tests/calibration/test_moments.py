from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bhk.calibration import moments as module
from bhk.calibration.moments import Moments, SecondMoments


def _sums(model: nn.Module, *inputs: Tensor) -> dict[str, Tensor]:
    with torch.no_grad(), Moments(dict(model.named_parameters())) as moments:
        for batch in inputs:
            model(batch)
    return {name: found.total for name, found in moments.found.items()}


def test_moments_of_linear_layers_against_float64() -> None:
    model = nn.Sequential(nn.Linear(7, 12), nn.GELU(), nn.Linear(12, 5, bias=False))
    inputs = [torch.randn(2, 9, 7), torch.randn(33, 7)]
    found = _sums(model, *inputs)
    assert sorted(found) == ["0.weight", "2.weight"]
    rows = torch.cat([batch.reshape(-1, 7) for batch in inputs]).double()
    assert torch.allclose(found["0.weight"].double(), rows.T @ rows, rtol=1e-5, atol=1e-3)
    with torch.no_grad():
        inner = functional.gelu(model[0](rows.float())).double()
    assert torch.allclose(found["2.weight"].double(), inner.T @ inner, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("stride", [1, 2])
def test_moments_of_a_convolution_are_those_of_its_patches(stride: int) -> None:
    conv = nn.Conv2d(3, 4, (3, 2), stride=stride, padding=1, dilation=(2, 1))
    picture = torch.randn(2, 3, 11, 9)
    found = _sums(conv, picture)["weight"]
    weight = torch.randn(5, 18)  # whatever the weight, output power is that of the moments
    with torch.no_grad():
        outputs = functional.conv2d(picture, weight.view(5, 3, 3, 2), stride=stride, padding=1, dilation=(2, 1))
    power = outputs.double().square().sum(dim=(0, 2, 3))
    assert torch.allclose(((weight @ found) * weight).sum(1).double(), power, rtol=1e-4, atol=1e-3)


def test_parameters_that_no_module_multiplies_with() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).train()  # as one weight for queries, keys and values
    tokens = torch.randn(2, 5, 8)
    with torch.no_grad(), Moments(dict(attention.named_parameters())) as moments:
        attention(tokens, tokens, tokens)
    rows = tokens.reshape(-1, 8)
    assert torch.allclose(moments.found["in_proj_weight"].total, rows.T @ rows, rtol=1e-4, atol=1e-3)
    assert "out_proj.weight" in moments.found


def test_what_is_used_otherwise_gets_no_moments() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
            self.grouped = nn.Conv2d(4, 4, 3, groups=4)
            self.table = nn.Embedding(6, 4)
            self.matrix = nn.Parameter(torch.randn(6, 6))

        def forward(self, picture: Tensor) -> Tensor:
            rows = self.grouped(self.up(picture)).flatten(2)[:, :, :6] @ self.matrix
            return rows + self.table(torch.arange(4))[:, :1]

    assert _sums(Odd(), torch.randn(1, 4, 5, 5)) == {}


def test_of_many_rows_some_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(1000, 6)
    whole = _sums(nn.Linear(6, 3), rows)["weight"]
    monkeypatch.setattr(module, "MAX_ROWS", 400)
    every_third = _sums(nn.Linear(6, 3), rows)["weight"]
    assert torch.allclose(every_third, 3 * rows[::3].T @ rows[::3], rtol=1e-4, atol=1e-3)
    assert float(every_third.trace()) == pytest.approx(float(whole.trace()), rel=0.15)


def test_weights_that_share_a_storage_are_told_apart() -> None:
    flat = torch.randn(2, 4, 4)
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    first.weight, second.weight = nn.Parameter(flat[0]), nn.Parameter(flat[1])
    rows = torch.randn(9, 4)
    found = _sums(nn.Sequential(first, second), rows)
    assert torch.allclose(found["0.weight"], rows.T @ rows, rtol=1e-4, atol=1e-3)
    inner = rows @ flat[0].T
    assert torch.allclose(found["1.weight"], inner.T @ inner, rtol=1e-4, atol=1e-3)


def test_products_without_rows_and_with_a_part_of_a_convolution() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(8, 4, 3), nn.Linear(6, 2)

        def forward(self, picture: Tensor) -> Tensor:
            self.linear(picture.new_zeros(0, 6))
            return functional.conv2d(picture[:, :4], self.conv.weight[:, :4])

    assert _sums(Part(), torch.randn(1, 8, 5, 5)) == {}


def _gathered(rows: Tensor, weight: int = 1) -> SecondMoments:
    found = SecondMoments(torch.zeros(rows.shape[1], rows.shape[1]))
    found.add(rows, weight)
    return found


@pytest.mark.parametrize("count", [32, 320, 3200])
def test_chance_is_how_far_moments_are_from_the_true_ones(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(24, 24, generator=generator)
    true = mixing.T @ mixing
    chances, errors, power = [], 0.0, 0.0
    for _ in range(50):
        found = _gathered(torch.randn(count, 24, generator=generator) @ mixing)
        chances.append(found.chance)
        errors += float((found.total / count - true).square().sum())
        power += float((found.total / count).square().sum())
    assert sum(chances) / 50 == pytest.approx(errors / power, rel=0.1)


def test_neighbours_that_are_alike_count_once() -> None:
    rows = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
    assert _gathered(rows.repeat_interleave(50, dim=0)).chance == pytest.approx(_gathered(rows).chance)
    assert _gathered(rows, weight=3).chance == pytest.approx(_gathered(rows).chance)


@pytest.mark.parametrize("rows", [torch.randn(1, 8), torch.zeros(9, 8), torch.full((9, 8), float("nan"))])
def test_moments_without_evidence_are_all_chance(rows: Tensor) -> None:
    assert _gathered(rows).chance == 1


def test_each_product_is_told() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    told: list[str] = []
    with torch.no_grad(), Moments(dict(model.named_parameters()), told.append):
        model(torch.randn(3, 4))
    assert told == ["0.weight", "1.weight"]
