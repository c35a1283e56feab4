from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from pictures import clips
from sam import models
from torch import nn

from bhk.evaluation.fidelity import joined
from bhk.evaluation.fidelity_summary import summarise
from bhk.evaluation.following import Follower, compare_followers
from bhk.pictures.clip import Beginning, open_clip
from bhk.pictures.clip_prompts import ClipPrompt
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.predictor import PredictionError
from bhk.sam.prediction.tracker import tracker_for

PROMPTS = (Prompt(((40, 40),)), Prompt(box=(20, 30, 60, 60)))
FRAMES = 5


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.write_folder(tmp_path_factory.mktemp("video") / "clip", FRAMES)


def _changed(model: nn.Module, size: float) -> nn.Module:
    changed = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return changed


def test_models_that_go_side_by_side_find_what_each_finds_alone(clip: Path) -> None:
    model = models.small_sam2_video()
    changed = _changed(model, 3e-3)
    with open_clip(clip) as frames:
        found = list(compare_followers(Follower(model), [Follower(model), Follower(changed)], frames, PROMPTS))
        with torch.no_grad():
            asked = [ClipPrompt(**vars(prompt), object=number) for number, prompt in enumerate(PROMPTS)]
            alone = [list(tracker_for(one).follow(frames, asked)) for one in (model, changed)]
    assert len(found) == FRAMES
    for (same, other), expected, step in zip(found, *alone, strict=True):
        assert (same.kinds, same.iou, same.flips) == (["followed"] * 2, [1.0, 1.0], [False] * 2)
        assert same.embedding_cosine == 1
        assert 0.5 < other.embedding_cosine < 1
        union, common = expected.masks | step.masks, expected.masks & step.masks
        assert other.iou == pytest.approx((common.sum(axis=(1, 2)) / union.sum(axis=(1, 2))).tolist())
        assert other.score_change == pytest.approx((step.scores - expected.scores).tolist())
    assert min(other.iou[0] for _, other in found) < 1


def test_frames_are_summarised_without_flips(clip: Path) -> None:
    model = models.small_sam2_video()
    with open_clip(clip) as frames:
        beginning = Beginning(frames, 2)
        found = [one for (one,) in compare_followers(Follower(model), [Follower(model)], beginning, PROMPTS)]
    fidelity = summarise(found)
    assert list(fidelity.groups) == ["all"]
    assert (fidelity.all.masks, fidelity.all.iou_mean.value, fidelity.all.flips) == (4, 1, None)


def test_results_of_some_objects_and_of_others_are_joined(clip: Path) -> None:
    model = models.small_sam2_video()
    other = _changed(model, 3e-3)

    def compare(prompts: tuple[Prompt, ...]) -> list:
        with open_clip(clip) as frames:
            return [one for (one,) in compare_followers(Follower(model), [Follower(other)], frames, prompts)]

    both, first, second = compare(PROMPTS), compare(PROMPTS[:1]), compare(PROMPTS[1:])
    assert [joined(parts) for parts in zip(first, second, strict=True)] == both


def test_models_without_memory_are_refused() -> None:
    with pytest.raises(PredictionError, match="has no memory of earlier frames"):
        Follower(models.small_sam())
