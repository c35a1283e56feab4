from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sam import models
from torch import nn

from bhk.nn.precision import mixed_precision
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.predictor import predictor_for

_IMAGE = np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8)
_KINDS = [models.small_sam, models.small_sam_hq, models.small_sam2, models.small_hf_sam, models.small_hf_sam2]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", _KINDS)
def test_half_precision_gives_about_the_same_masks(kind: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    found = []
    for model in (kind(), kind().to(dtype)):
        predictor = predictor_for(model)
        with mixed_precision(model):
            predictor.set_image(_IMAGE)
            found.append(predictor.predict(Prompt(((40, 30),), (), (10, 10, 90, 80)), multimask=False))
    (exact, exact_scores), (masks, scores) = found
    assert scores.dtype == np.float32
    assert scores == pytest.approx(exact_scores, abs=0.02)
    assert (masks != exact).mean() < 0.15  # with random weights, small errors flip pixels


@torch.no_grad()
@pytest.mark.parametrize("kind", _KINDS)
def test_everything_in_half_precision(kind: Callable[[], nn.Module]) -> None:
    model = models.confident(kind()).to(torch.bfloat16)
    with mixed_precision(model):
        masks, scores = predictor_for(model).everything(_IMAGE, 2)
    assert len(masks) == len(scores) > 0


def test_no_hooks_are_left() -> None:
    model = models.small_sam2().to(torch.bfloat16)
    with contextlib.suppress(KeyError), mixed_precision(model):
        assert torch.is_autocast_enabled("cpu")
        assert any(module._forward_pre_hooks for module in model.modules())
        raise KeyError
    assert not torch.is_autocast_enabled("cpu")
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_other_models_are_not_affected() -> None:
    for model in (models.small_sam(), nn.Module()):
        with mixed_precision(model):
            assert not torch.is_autocast_enabled("cpu")
