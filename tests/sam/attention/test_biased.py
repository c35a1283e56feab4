from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

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

tiny_vit = pytest.importorskip("segment_anything_hq.modeling.tiny_vit_sam")


def _attention(size: tuple[int, int] = (5, 4), *, ratio: int = 1) -> Any:
    return randomised(tiny_vit.Attention(24, 8, num_heads=3, attn_ratio=ratio, resolution=size))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("windows", "size"), [(1, (5, 4)), (7, (7, 7)), (2, (1, 1))])
def test_outputs_are_those_of_the_package(windows: int, size: tuple[int, int], dtype: torch.dtype) -> None:
    assert_equals_package(_attention(size).to(dtype), draw(windows, size[0] * size[1], 24, dtype=dtype))


def test_no_windows() -> None:
    theirs = _attention()
    assert fused(theirs)(draw(0, 20, 24)).shape == (0, 20, 24)


def test_gradients_in_forward_mode() -> None:
    assert_forward_mode_equals_package(_attention().double(), draw(3, 20, 24, dtype=torch.float64))


def test_compiles_under_autocast() -> None:
    assert_compiles_under_autocast(_attention(), draw(3, 20, 24))


def test_exports() -> None:
    assert_exports(_attention(), draw(3, 20, 24))


def test_no_matrix_of_scores_is_made_in_eval_mode() -> None:
    theirs, x = _attention((14, 14)), draw(4, 196, 24)
    scores = 4 * 3 * 196**2 * 4
    assert largest_allocation(theirs, x) >= scores
    assert largest_allocation(fused(theirs), x) <= scores / 8


def test_values_may_be_wider_than_keys() -> None:
    assert_equals_package(_attention(ratio=2), draw(2, 20, 24))


@torch.no_grad()
def test_a_block_pads_the_image_to_whole_windows() -> None:
    theirs = randomised(tiny_vit.TinyViTBlock(24, (9, 10), 3, window_size=4))
    x = draw(2, 90, 24)
    expected = theirs(x)
    theirs.attn = fused(theirs.attn)
    torch.testing.assert_close(theirs(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_gradients(training: bool) -> None:
    theirs = _attention().double()
    theirs.train(training)
    x = draw(3, 20, 24, dtype=torch.float64)
    torch.testing.assert_close(gradients(fused(theirs), x), gradients(theirs, x), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_eval_mode_takes_the_biases_that_were_loaded() -> None:
    theirs, other = _attention(), _attention()
    other.attention_biases += 1 + draw(*other.attention_biases.shape)
    other.eval()
    ours = fused(theirs)
    ours.load_state_dict(other.state_dict())
    x = draw(2, 20, 24)
    torch.testing.assert_close(ours.eval()(x), other(x), rtol=1e-5, atol=1e-5)
    assert ours.train().training
    assert ours.ab is None
    torch.testing.assert_close(ours(x), other(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_biases_that_are_a_plain_attribute() -> None:
    """MobileSAM's first versions set one, which `.to` leaves behind."""
    theirs = _attention()
    ab = theirs.ab
    del theirs.ab
    vars(theirs)["ab"] = ab
    ours = nn.ModuleList([fused(theirs)]).double()[0]
    assert ours.ab.dtype == torch.float64
    assert "ab" not in ours.state_dict()
