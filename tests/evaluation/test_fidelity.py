from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from sam import models

from bhk.evaluation.fidelity import Answers, NotFiniteError, ask, compared
from bhk.evaluation.fidelity_summary import summarise
from bhk.evaluation.models import Subject
from bhk.pictures.masks import boundary_iou, mask_iou
from bhk.pictures.prompt_grid import grid_prompts
from bhk.pictures.scenes import make_scene
from bhk.sam.prediction.predictor import Masks

_PIXELS = make_scene(1 << 40).picture
_PROMPTS = grid_prompts(128, 128, (0,), 3, 2)


def _subject(noise: float = 0) -> Subject:
    model = copy.deepcopy(models.small_sam())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * parameter.std(correction=0) * torch.randn(parameter.shape, generator=generator))
    return Subject(model)


def test_a_model_agrees_with_itself_exactly() -> None:
    found = compared(ask(_subject(), _PIXELS, _PROMPTS), ask(_subject(), _PIXELS, _PROMPTS))
    assert found.kinds == ["point"] * 3 + ["box", "single"] * 2
    assert found.iou == found.boundary_iou == [1.0] * 7
    assert found.score_change == [0.0] * 7
    assert not any(found.flips)
    assert found.embedding_cosine == 1.0


def test_masks_of_the_index_that_the_original_scores_best_are_compared() -> None:
    original, other = _subject(), _subject(0.3)
    found = compared(*(ask(subject, _PIXELS, _PROMPTS[:1]) for subject in (original, other)))
    (masks, scores), (other_masks, other_scores) = (
        subject.answer(_PROMPTS[0], multimask=True) for subject in (original, other)
    )
    best = int(scores.argmax())
    assert found.iou == [mask_iou(masks[best], other_masks[best])]
    assert found.boundary_iou == [boundary_iou(masks[best], other_masks[best])]
    assert found.score_change == [float(other_scores[best]) - float(scores[best])]
    assert found.flips == [int(other_scores.argmax()) != best]
    cosine = torch.cosine_similarity(original.embedding, other.embedding, dim=0)
    assert found.embedding_cosine == pytest.approx(float(cosine), abs=1e-5)
    assert found.iou[0] < 1
    assert found.embedding_cosine < 0.999


def test_values_that_are_not_finite() -> None:
    for part in ("mask_decoder.iou_prediction_head", "image_encoder.neck"):
        model = models.small_sam()
        with torch.no_grad():
            for parameter in model.get_submodule(part).parameters():
                parameter.fill_(math.nan)
        with pytest.raises(NotFiniteError, match='that is not finite; use dtype="float32"'):
            compared(*(ask(subject, _PIXELS, _PROMPTS) for subject in (_subject(), Subject(model))))


def _found(*places: tuple[int, int]) -> Masks:
    """Return squares of 10 pixels whose corners are at these places, with falling scores."""
    masks = np.zeros((len(places), 40, 40), dtype=bool)
    for mask, (x, y) in zip(masks, places, strict=True):
        mask[y : y + 10, x : x + 10] = True
    return masks, np.linspace(0.9, 0.6, len(places), dtype=np.float32)


def _named(*places: tuple[int, int]) -> Answers:
    return Answers(["text"], [_found(*places)], torch.ones(1))


def test_each_object_that_a_text_names_is_compared_with_the_one_most_like_it() -> None:
    found = compared(_named((0, 0), (20, 0), (20, 20)), _named((20, 2), (0, 0), (0, 20)))
    assert found.kinds == ["text"] * 4  # two pairs, one missing, one too many
    assert found.iou == [1.0, pytest.approx(80 / 120), 0.0, 0.0]
    assert found.score_change == pytest.approx([0.75 - 0.9, 0.9 - 0.75, -0.6, 0.6])
    summary = summarise([found])
    assert summary.texts is not None
    assert summary.texts.masks == 4
    assert summary.texts.flips is None
    assert list(summary.groups) == ["texts", "all"]


def test_a_text_that_neither_model_finds_counts_as_agreement() -> None:
    found = compared(_named(), _named())
    assert (found.iou, found.empty) == ([1.0], [True])


def test_an_object_that_only_one_model_finds_counts_as_disagreement() -> None:
    for one, other in ((_named((0, 0)), _named()), (_named(), _named((0, 0)))):
        assert compared(one, other).iou == [0.0]
