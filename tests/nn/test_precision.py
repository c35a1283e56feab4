from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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


@torch.no_grad()
@pytest.mark.parametrize("kind", _KINDS)
def test_double_precision_gives_the_same_masks(kind: Callable[[], nn.Module]) -> None:
    found = []
    for model in (kind(), kind().double()):
        predictor = predictor_for(model)
        with mixed_precision(model):
            predictor.set_image(_IMAGE)
            found.append(predictor.predict(Prompt(((40, 30),), (), (10, 10, 90, 80)), multimask=False))
    (masks, scores), (double_masks, double_scores) = found
    assert double_scores == pytest.approx(scores, abs=1e-4)
    assert (masks != double_masks).mean() < 1e-3


def test_the_model_is_not_changed_and_other_threads_are_not_affected() -> None:
    model = models.small_sam2().to(torch.bfloat16)
    with ThreadPoolExecutor(1) as pool, contextlib.suppress(KeyError), mixed_precision(model):
        assert torch.is_autocast_enabled("cpu")
        assert not pool.submit(torch.is_autocast_enabled, "cpu").result()
        assert not any(module._forward_pre_hooks for module in model.modules())
        raise KeyError
    assert not torch.is_autocast_enabled("cpu")


def test_other_models_are_not_affected() -> None:
    for model in (models.small_sam(), nn.Module()):
        with mixed_precision(model):
            assert not torch.is_autocast_enabled("cpu")
