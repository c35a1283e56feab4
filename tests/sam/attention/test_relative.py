from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bhk.sam.attention import relative
from sam.attention.modules import (
    DTYPES,
    assert_compiles_under_autocast,
    assert_equals_package,
    assert_exports,
    assert_forward_mode_equals_package,
    draw,
    fused,
    gradients,
    largest_allocation,
    randomised,
)


def _attention(package: str, size: tuple[int, int], width: int = 48, heads: int = 3) -> Any:
    encoder = pytest.importorskip(f"{package}.modeling.image_encoder")
    return randomised(encoder.Attention(width, num_heads=heads, use_rel_pos=True, input_size=size))


def _of_transformers(name: str, side: int) -> Any:
    module = pytest.importorskip(f"transformers.models.{name}.modeling_{name}")
    family = {"sam": "Sam", "sam_hq": "SamHQ"}[name]
    config = getattr(pytest.importorskip("transformers"), f"{family}VisionConfig")(
        hidden_size=48, num_attention_heads=3, image_size=16 * side, patch_size=16
    )
    return randomised(getattr(module, f"{family}VisionSdpaAttention")(config, window_size=0))


@pytest.mark.parametrize("package", ["segment_anything", "segment_anything_hq"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "size"), [(1, (9, 7)), (3, (1, 5)), (25, (6, 6))])
def test_outputs_are_those_of_the_package(package: str, batch: int, size: tuple[int, int], dtype: torch.dtype) -> None:
    assert_equals_package(_attention(package, size).to(dtype), draw(batch, *size, 48, dtype=dtype))


def test_many_tokens() -> None:
    assert_equals_package(_attention("segment_anything", (37, 41)), draw(2, 37, 41, 48))


def test_a_grid_of_another_size_stretches_the_tables() -> None:
    theirs = _attention("segment_anything", (8, 8))
    for size in ((5, 11), (8, 3)):
        assert_equals_package(theirs, draw(2, *size, 48))


def _block(window: int) -> Any:
    encoder = pytest.importorskip("segment_anything.modeling.image_encoder")
    return randomised(encoder.Block(48, 3, use_rel_pos=True, window_size=window, input_size=(10, 9)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("window", "size"), [(0, (10, 9)), (4, (10, 9)), (7, (10, 9)), (5, (10, 5)), (4, (3, 8))])
def test_a_block_with_windows_over_the_edge(window: int, size: tuple[int, int], dtype: torch.dtype) -> None:
    x = draw(2, 48, *size, dtype=dtype).permute(0, 2, 3, 1)  # as the packages hand it over
    assert_equals_package(_block(window).to(dtype), x, replaced=2)


@pytest.mark.parametrize("tokens", [7, 1 << 20])
def test_gradients_of_a_block(monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    monkeypatch.setattr(relative, "TOKENS", tokens)
    theirs = _block(4).double()
    x = draw(2, 10, 9, 48, dtype=torch.float64)
    torch.testing.assert_close(gradients(fused(theirs, 2), x), gradients(theirs, x), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_package_s_block_with_attention_of_bhk() -> None:
    theirs = _block(4)
    x = draw(2, 10, 9, 48)
    expected = theirs(x)
    theirs.attn = fused(theirs.attn)
    torch.testing.assert_close(theirs(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["sam", "sam_hq"])
@torch.no_grad()
def test_transformers_gets_no_weights_back(name: str) -> None:
    theirs = _of_transformers(name, 6)
    x = draw(2, 6, 6, 48)
    found, weights = fused(theirs)(hidden_states=x)
    assert weights is None
    torch.testing.assert_close(found, theirs(hidden_states=x)[0], rtol=1e-5, atol=1e-5)
    wide = draw(1, 4, 9, 48)
    torch.testing.assert_close(fused(theirs)(wide)[0], theirs(wide)[0], rtol=1e-5, atol=1e-5)


def test_gradients_reach_inputs_and_tables() -> None:
    theirs = _attention("segment_anything", (5, 4)).double()
    x = draw(3, 5, 4, 48, dtype=torch.float64)
    expected, found = gradients(theirs, x), gradients(fused(theirs), x)
    assert len(found) == 7
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_autocast() -> None:
    theirs = _attention("segment_anything", (5, 4))
    x = draw(3, 5, 4, 48)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = fused(theirs)(x), theirs(x)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=5e-2, atol=5e-2)


def test_compiles_under_autocast() -> None:
    assert_compiles_under_autocast(_attention("segment_anything", (5, 4)), draw(3, 5, 4, 48))
    assert_compiles_under_autocast(_block(4), draw(2, 10, 9, 48), replaced=2)


def test_exports() -> None:
    assert_exports(_attention("segment_anything", (5, 4)), draw(3, 5, 4, 48))
    assert_exports(_block(4), draw(2, 10, 9, 48), replaced=2)


def test_gradients_in_forward_mode() -> None:
    theirs = _attention("segment_anything", (5, 4)).double()
    assert_forward_mode_equals_package(theirs, draw(3, 5, 4, 48, dtype=torch.float64))


class _Adapted(nn.Module):
    """A linear layer with an addition to some features, written for four dimensions, as SAMed and MedSAM adapt models."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.low_rank = nn.Linear(linear.in_features, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        y[:, :, :, :8] += self.low_rank(x)
        return y


def test_layers_may_be_adapted() -> None:
    theirs = _block(4)
    theirs.attn.qkv = randomised(_Adapted(theirs.attn.qkv))
    theirs.mlp.lin1 = randomised(_Adapted(theirs.mlp.lin1))
    assert_equals_package(theirs, draw(2, 10, 9, 48), replaced=2)


def test_no_pictures() -> None:
    assert fused(_block(4), 2)(draw(0, 10, 9, 48)).shape == (0, 10, 9, 48)


@pytest.mark.full
def test_compiles_to_one_graph(compiler: None) -> None:
    ours = fused(_attention("segment_anything", (9, 7)))
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in ((9, 7), (9, 7), (6, 8)):
        x = draw(2, *size, 48)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), ours(x))
        torch.testing.assert_close(gradients(compiled, x), gradients(ours, x), rtol=1e-5, atol=1e-5)


def test_no_matrix_of_scores_is_made() -> None:
    theirs = _attention("segment_anything", (48, 48), width=32, heads=4)
    x = draw(1, 48, 48, 32)
    scores = 4 * (48 * 48) ** 2 * 4
    assert largest_allocation(theirs, x) >= scores
    assert largest_allocation(fused(theirs), x) <= scores / 8
