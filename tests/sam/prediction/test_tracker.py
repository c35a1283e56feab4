"""The masks of clips are those of the packages' own video predictors, which hold a whole clip in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from bhk.pictures.clip_prompts import ClipPrompt
from bhk.pictures.scenes import make_scene
from bhk.sam.prediction.predictor import PredictionError
from bhk.sam.prediction.tracker import FrameMasks, forget, frame_order, tracker_for
from sam import models

FRAMES = 16  # so many that the first and the last are out of each other's reach, which is four frames here
START = 10
PROMPTS = (
    ClipPrompt(((40, 30),), frame=START),
    ClipPrompt(((60, 50), (70, 40)), ((5, 5),), (30, 20, 100, 80), frame=START, object=1),
)
# The second object comes first, and has another prompt later; the first one comes between.
LATER = (
    ClipPrompt(((60, 50), (70, 40)), ((5, 5),), (30, 20, 100, 80), frame=3, object=1),
    ClipPrompt(((40, 30),), frame=6),
    ClipPrompt(((50, 60),), frame=13, object=1),
)


class _Moving:
    """A window that moves over a scene."""

    size = (90, 110)
    rate = Fraction(25)
    names = None

    def __init__(self) -> None:
        self._scene = make_scene(3, 150).picture

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self._scene[index : index + 90, 40 - index : 150 - index])


def _followed(model: nn.Module, prompts: Sequence[ClipPrompt] = PROMPTS) -> dict[int, FrameMasks]:
    with torch.no_grad():
        return {found.frame: found for found in tracker_for(model).follow(_Moving(), prompts)}


def _by_sam2(model: Any, folder: Path, prompts: Sequence[ClipPrompt]) -> dict[int, NDArray[np.bool_]]:
    """Return what the package's video predictor finds. It reads files called .jpg, whatever is in them."""
    clip = _Moving()
    for index in range(FRAMES):
        Image.fromarray(clip[index]).save(folder / f"{index}.jpg", format="PNG")
    state = model.init_state(str(folder))
    for prompt in prompts:
        points = np.array(prompt.points + prompt.not_points, np.float32)
        labels = np.array([1] * len(prompt.points) + [0] * len(prompt.not_points), np.int32)
        model.add_new_points_or_box(state, prompt.frame, prompt.object, points=points, labels=labels, box=prompt.box)
    model.propagate_in_video_preflight(state)
    for outputs in state["output_dict_per_obj"].values():
        for asked in outputs["cond_frame_outputs"].values():  # before these alone, the package fails without autocast
            asked["maskmem_features"] = asked["maskmem_features"].float()
    found = {}
    for reverse in (False, True):
        for index, objects, logits in model.propagate_in_video(state, reverse=reverse):
            found[index] = (logits[:, 0] > 0).numpy()[np.argsort(objects)]
    return found


def _by_transformers(model: Any, prompts: Sequence[ClipPrompt]) -> dict[int, NDArray[np.bool_]]:
    """Return what the steps in the documentation of transformers find."""
    processor = tracker_for(model)._processor  # type: ignore[attr-defined]
    clip = _Moving()
    session = processor.init_video_session(video=np.stack([clip[index] for index in range(FRAMES)]))
    for prompt in prompts:
        points = [[[list(point) for point in prompt.points + prompt.not_points]]]
        labels = [[[1] * len(prompt.points) + [0] * len(prompt.not_points)]]
        boxes = None if prompt.box is None else [[list(prompt.box)]]
        processor.add_inputs_to_inference_session(
            session, prompt.frame, prompt.object, input_points=points, input_labels=labels, input_boxes=boxes
        )
        model(session, frame_idx=prompt.frame)
    found = {}
    for reverse in (False, True):
        for step in model.propagate_in_video_iterator(session, start_frame_idx=prompts[0].frame, reverse=reverse):
            masks = processor.post_process_masks([step.pred_masks], original_sizes=[list(clip.size)])[0]
            found[step.frame_idx] = masks[:, 0].numpy()[np.argsort(step.object_ids)]
    return found


def _assert_equal(found: dict[int, FrameMasks], expected: dict[int, NDArray[np.bool_]]) -> None:
    assert sorted(found) == sorted(expected) == list(range(FRAMES))
    assert all(
        np.array_equal(found[index].masks[np.argsort(found[index].objects)], expected[index]) for index in range(FRAMES)
    )
    assert all(found[index].masks.dtype == np.bool_ for index in range(FRAMES))
    assert all(0 < found[index].masks[0].mean() < 1 for index in range(FRAMES))
    assert len({found[index].masks.tobytes() for index in range(FRAMES)}) > FRAMES / 2


@pytest.mark.parametrize("prompts", [PROMPTS, LATER])
def test_sam2_finds_what_its_package_finds(tmp_path: Path, prompts: Sequence[ClipPrompt]) -> None:
    model = models.small_sam2_video()
    found = _followed(model, prompts)
    _assert_equal(found, _by_sam2(model, tmp_path, prompts))
    assert all(0 <= score <= 1 for frame in found.values() for score in frame.scores)
    pictures = models.watchful(models.small_sam2())  # the class for pictures has all parts, too
    assert all(np.array_equal(found[index].masks, frame.masks) for index, frame in _followed(pictures, prompts).items())
    assert not pictures.binarize_mask_from_pts_for_mem_enc


@pytest.mark.parametrize(
    "build", [models.small_hf_sam2_video, models.small_hf_edgetam_video, models.small_hf_sam3_tracker_video]
)
def test_transformers_finds_what_its_own_steps_find(build: Callable[[], nn.Module]) -> None:
    model = build()
    for prompts in (PROMPTS, LATER):
        _assert_equal(_followed(model, prompts), _by_transformers(model, prompts))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    monkeypatch.setattr(
        "bhk.sam.prediction.sam2_tracker.forget",
        lambda outputs, *rest: (forget(outputs, *rest), held.append(len(outputs))),
    )
    _followed(models.small_sam2_video(), (replace(PROMPTS[0], frame=0),))
    assert len(held) == FRAMES - 1
    assert max(held) == 4 + 5  # those around the first frame, and those around the last


def test_the_order_of_frames() -> None:
    first, later = ClipPrompt(((1, 1),), frame=2), ClipPrompt(((1, 1),), frame=3, object=1)
    assert list(frame_order(4, [first])) == [(2, False), (3, False), (1, True), (0, True)]
    assert list(frame_order(4, [first, later])) == [(2, False), (3, False), (2, True), (1, True), (0, True)]
    assert list(frame_order(2, [replace(first, frame=0), later])) == [(0, False), (1, False)]


def test_what_is_near_the_first_frame_is_kept_for_the_way_back() -> None:
    outputs = dict.fromkeys(range(20), "found")
    forget(outputs, 19, 8, 3)
    assert sorted(outputs) == [5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19]


def test_other_models_have_no_tracker() -> None:
    with pytest.raises(PredictionError, match=r"expected one of sam2\.SAM2Base"):
        tracker_for(nn.Linear(1, 1))
