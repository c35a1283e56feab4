from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sam.attention.modules import (
    DTYPES,
    assert_compiles_under_autocast,
    assert_equals_package,
    assert_exports,
    assert_forward_mode_equals_package,
    draw,
    fused,
    gradients,
    named,
    randomised,
)

transformer = pytest.importorskip("segment_anything.modeling.transformer")


def _decoder() -> Any:
    return randomised(transformer.Attention(32, 4, downsample_rate=2))


class _Encoder(nn.Module):
    """The attention of EfficientSAM's encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.scale = 3, 0.7
        self.qkv = nn.Linear(24, 72)
        self.proj = nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 3, 8).permute(2, 0, 3, 1, 4)
        return self.proj(((self.scale * q @ k.mT).softmax(-1) @ v).transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "queries", "keys"), [(1, 7, 30), (3, 65, 7), (2, 1, 1)])
def test_a_decoder_attends_as_in_the_package(batch: int, queries: int, keys: int, dtype: torch.dtype) -> None:
    q, k = draw(batch, queries, 32, dtype=dtype), draw(batch, keys, 32, dtype=dtype)
    assert_equals_package(_decoder().to(dtype), q, k, k.flip(2))


def test_tokens_of_an_image_need_not_be_contiguous() -> None:
    image = draw(2, 32, 5, 3).flatten(2).permute(0, 2, 1)
    assert_equals_package(_decoder(), image, image, image)


def test_no_prompts() -> None:
    q, k = draw(0, 7, 32), draw(0, 30, 32)
    assert_equals_package(_decoder(), q, k, k)


def test_gradients_in_forward_mode() -> None:
    q, k = draw(2, 7, 32, dtype=torch.float64), draw(2, 5, 32, dtype=torch.float64)
    assert_forward_mode_equals_package(_decoder().double(), q, k, k.flip(2))
    encoder = named(_Encoder(), "efficient_sam.efficient_sam_encoder.Attention")
    assert_forward_mode_equals_package(encoder.double(), draw(2, 11, 24, dtype=torch.float64))


def test_compiles_under_autocast() -> None:
    assert_compiles_under_autocast(_decoder(), draw(2, 7, 32), draw(2, 5, 32), draw(2, 5, 32))


def test_exports() -> None:
    assert_exports(_decoder(), draw(2, 7, 32), draw(2, 5, 32), draw(2, 5, 32))


def test_gradients_of_a_decoder() -> None:
    theirs = _decoder().double()
    inputs = [draw(2, count, 32, dtype=torch.float64) for count in (5, 9, 9)]
    torch.testing.assert_close(gradients(fused(theirs), *inputs), gradients(theirs, *inputs), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_encoder_attends_as_in_the_package(dtype: torch.dtype) -> None:
    theirs = randomised(named(_Encoder(), "efficient_sam.efficient_sam_encoder.Attention"))
    assert_equals_package(theirs.to(dtype), draw(2, 11, 24, dtype=dtype))


def test_the_state_dict_keeps_its_order() -> None:
    theirs = named(_decoder(), "edge_sam.modeling.transformer.Attention")
    theirs.k_proj = theirs._modules.pop("k_proj")  # behind the others
    assert list(fused(theirs).state_dict()) == list(theirs.state_dict())


@torch.no_grad()
def test_edge_sam_gets_the_weights_that_its_training_asks_for() -> None:
    theirs = _decoder()
    ours = fused(named(_decoder(), "edge_sam.modeling.transformer.Attention"))
    q, k, v = draw(2, 5, 32), draw(2, 9, 32), draw(2, 9, 32)
    weights: dict[str, Tensor] = {}
    expected = theirs(q, k, v)
    calls: list[nn.Module] = []
    ours.q_proj.register_forward_hook(lambda module, *_: calls.append(module))
    for found in (ours(q, k, v, None, "t2t_0"), ours(q, k, v, weights, "t2t_0")):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    heads = [linear(x).unflatten(2, (4, 4)).transpose(1, 2) for linear, x in ((theirs.q_proj, q), (theirs.k_proj, k))]
    torch.testing.assert_close(weights, {"t2t_0": (heads[0] @ heads[1].mT / math.sqrt(4)).softmax(-1)})
    assert len(calls) == 2
