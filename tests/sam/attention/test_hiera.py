from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bhk.sam.attention import hiera
from bhk.sam.attention.hiera import HieraBlock
from sam import models
from sam.attention.modules import (
    DTYPES,
    assert_compiles_under_autocast,
    assert_equals_package,
    draw,
    fused,
    gradients,
    randomised,
)

pytest.importorskip("sam2")


def _block(window: int, wider: int = 1, stride: tuple[int, int] | None = None) -> Any:
    from sam2.modeling.backbones.hieradet import MultiScaleBlock

    return randomised(MultiScaleBlock(24, 24 * wider, num_heads=3, q_stride=stride, window_size=window))


@pytest.mark.parametrize("numbers", [1000, 1 << 20])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("window", "wider", "stride", "size"),
    [
        (0, 1, None, (5, 6)),
        (4, 1, None, (10, 9)),
        (4, 2, (2, 2), (10, 6)),
        (6, 2, (2, 2), (12, 8)),
        (0, 2, None, (3, 7)),
    ],
)
def test_blocks_compute_what_the_package_computes(
    monkeypatch: pytest.MonkeyPatch,
    numbers: int,
    dtype: torch.dtype,
    window: int,
    wider: int,
    stride: tuple[int, int] | None,
    size: tuple[int, int],
) -> None:
    monkeypatch.setattr(hiera, "NUMBERS", numbers)
    assert_equals_package(_block(window, wider, stride).to(dtype), draw(2, *size, 24, dtype=dtype))


def test_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hiera, "NUMBERS", 1000)
    theirs = _block(4, 2, (2, 2)).double()
    x = draw(2, 10, 6, 24, dtype=torch.float64)
    torch.testing.assert_close(gradients(fused(theirs), x), gradients(theirs, x), rtol=1e-9, atol=1e-9)


def test_compiles_under_autocast() -> None:
    assert_compiles_under_autocast(_block(4), draw(1, 8, 8, 24))


def test_no_step_of_a_block_sees_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hiera, "NUMBERS", 2000)
    ours, seen = fused(_block(4)), []
    ours.mlp.layers[0].register_forward_hook(lambda module, given, out: seen.append(out.numel()))
    ours.attn.qkv.register_forward_hook(lambda module, given, out: seen.append(out.numel()))
    with torch.no_grad():
        ours(draw(1, 16, 16, 24))
    assert len(seen) > 4
    assert max(seen) <= 2500


def test_a_graph_has_no_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hiera, "NUMBERS", 2000)
    ours, calls = fused(_block(4)), []
    for part in (ours.mlp.layers[0], ours.attn.qkv):
        part.register_forward_hook(lambda module, given, out: calls.append(module))
    torch.jit.trace(ours, draw(1, 16, 16, 24), check_trace=False)  # type: ignore[no-untyped-call]
    assert len(calls) == 2


def test_a_layer_may_get_an_adapter_around_it() -> None:
    ours, x = fused(_block(4)), draw(1, 16, 16, 24)
    expected = ours(x)
    ours.mlp.layers[0] = nn.Sequential(ours.mlp.layers[0])
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=0)


def _with_a_path_that_is_dropped(block: Any) -> None:
    block.drop_path = nn.Dropout(0.1)


def _with_a_hook(block: Any) -> None:
    block.mlp.register_forward_hook(lambda *given: None)


def _with_another_perceptron(block: Any) -> None:
    block.mlp = nn.Sequential(block.mlp)


@pytest.mark.parametrize("alter", [_with_a_path_that_is_dropped, _with_a_hook, _with_another_perceptron])
def test_a_block_with_parts_that_see_all_tokens_stays(alter: Any) -> None:
    import bhk.sam

    model: Any = models.small_sam2()
    alter(model.image_encoder.trunk.blocks[0])
    assert bhk.sam.fuse_attention(model) == 4
    assert not isinstance(model.image_encoder.trunk.blocks[0], HieraBlock)
