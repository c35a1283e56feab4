from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sam import models
from torch import nn

import bhk
from bhk.evaluation.models import ModelSource, Subject
from bhk.pictures.prompts import Prompt
from bhk.pictures.scenes import make_scene

_PIXELS = make_scene(1 << 40).picture
_POINT = Prompt(points=((60.0, 70.0),))


def test_a_subject_answers_as_segment_does() -> None:
    model = models.small_sam()
    subject = Subject(model.train())
    subject.look(_PIXELS)
    masks, scores = subject.answer(_POINT, multimask=True)
    expected = bhk.segment(model, _PIXELS, points=_POINT.points, multimask=True)
    assert np.array_equal(masks, expected.masks)
    assert tuple(scores.tolist()) == expected.scores
    assert subject.outputs == ("single", "multimask")
    assert subject.answer(_POINT, multimask=False)[0].shape == (1, 128, 128)


@pytest.mark.parametrize("make", [models.small_sam, models.small_sam_hq, models.small_sam2, models.small_hf_sam2])
def test_embeddings_tell_pictures_apart(make: Callable[[], nn.Module]) -> None:
    model: Any = make()
    subject = Subject(model)
    embeddings = []
    for seed in (0, 1, 0):
        subject.look(make_scene(seed).picture)
        embeddings.append(subject.embedding)
    assert (embeddings[0].dtype, embeddings[0].ndim) == (torch.float32, 1)
    assert torch.equal(embeddings[0], embeddings[2])
    assert (embeddings[0] != embeddings[1]).float().mean() > 0.99  # constant position codes are left out
    assert not any(module._forward_hooks for module in model.modules())


def test_a_source_can_be_pickled(tmp_path: Path) -> None:
    torch.save(models.small_sam().state_dict(), tmp_path / "sam.pth")
    source = pickle.loads(pickle.dumps(ModelSource(str(tmp_path / "sam.pth"), dtype="bfloat16")))
    subject = Subject(source.load())
    subject.look(_PIXELS)
    masks, scores = subject.answer(_POINT, multimask=True)
    assert masks.shape == (3, 128, 128)
    assert scores.dtype == np.float32
    assert subject.embedding.dtype == torch.float32
