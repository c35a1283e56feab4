from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import clips
from sam import models
from torch import nn

import bhk
from bhk.base.files import WriteError
from bhk.nn.errors import LoadOptionError
from bhk.pictures.clip import ClipError
from bhk.pictures.clip_prompts import ClipPrompt
from bhk.pictures.prompts import PromptError
from bhk.pictures.rle import decode
from bhk.sam.build import UnknownModelError
from bhk.sam.prediction.predictor import PredictionError
from bhk.tasks.segment_video import VideoReport, segment_video

FRAMES = 6


@pytest.fixture(scope="module")
def sam2() -> nn.Module:
    return models.small_sam2_video()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.write_folder(tmp_path_factory.mktemp("video") / "clip", FRAMES)


def test_objects_are_followed_both_ways(sam2: nn.Module, clip: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    boxes = [(20, 30, 60, 60), (0, 0, 50, 40)]
    found = segment_video(sam2, clip, boxes=boxes, frame=4, progress=lambda *step: steps.append(step))
    assert [prompt.box for prompt in found.prompts] == boxes
    assert found.masks(0).shape == (2, clips.HEIGHT, clips.WIDTH)
    assert found.masks(0).dtype == np.bool_
    assert (found.scores.shape, found.areas.shape) == ((FRAMES, 2), (FRAMES, 2))
    assert (found.scores > 0).all()
    assert all((found.masks(index).sum(axis=(1, 2)) == found.areas[index]).all() for index in range(FRAMES))
    assert steps == [("Following", done, FRAMES) for done in range(1, FRAMES + 1)]
    one = segment_video(sam2, clip, boxes=boxes[1:], frame=4)
    assert all(np.array_equal(one.masks(index)[0], found.masks(index)[1]) for index in range(FRAMES))


def test_points_and_a_box_are_one_object(sam2: nn.Module, clip: Path) -> None:
    found = segment_video(sam2, clip, points=[(40, 40)], not_points=[(5, 5)], boxes=[(20, 30, 60, 60)])
    assert found.prompts == (ClipPrompt(((40.0, 40.0),), ((5.0, 5.0),), (20.0, 30.0, 60.0, 60.0)),)


def test_prompts_in_several_frames(sam2: nn.Module, clip: Path) -> None:
    prompts = [
        ClipPrompt(box=(20, 30, 60, 60)),
        ClipPrompt(((44, 44),), frame=3),
        ClipPrompt(((90, 20),), frame=2, object=1),
    ]
    found = segment_video(sam2, clip, prompts=prompts)
    assert found.prompts == (prompts[0], prompts[2], prompts[1])
    assert [(prompt["object"], prompt["frame"]) for prompt in found.document()["prompts"]] == [(0, 0), (1, 2), (0, 3)]
    first = segment_video(sam2, clip, prompts=prompts[:1])
    assert found.scores.shape == (FRAMES, 2)
    assert np.array_equal(found.masks(0)[0], first.masks(0)[0])
    assert not np.array_equal(found.masks(3)[0], first.masks(3)[0])
    with pytest.raises(PromptError, match="leave other points, boxes, texts and frames out"):
        segment_video(sam2, clip, prompts=prompts, frame=1)
    with pytest.raises(PredictionError, match="takes no texts, only SAM 3 does"):
        segment_video(sam2, clip, texts="a cup")


def test_the_report_is_a_table_and_a_document(sam2: nn.Module, clip: Path, tmp_path: Path) -> None:
    found = segment_video(sam2, clip, points=[(40, 40)], frame=2, out=tmp_path / "out")
    areas = found.areas[:, 0]
    seen = np.flatnonzero(areas)
    heading, _, row, last = str(found).splitlines()
    assert heading.split() == ["object", "frames", "with", "it", "from", "pixels,", "mean", "score,", "mean"]
    assert row.split()[:5] == ["0", str(len(seen)), str(seen[0]), "to", str(seen[-1])]
    assert last == f"{tmp_path / 'out'}: 6 frames"
    assert len(list((tmp_path / "out").iterdir())) == FRAMES
    document = found.document()
    names = [f"{index}.png" for index in range(FRAMES)]
    size = {"width": clips.WIDTH, "height": clips.HEIGHT}
    assert document["clip"] == {"path": str(clip), **size, "rate": 25.0, "names": names, "frames": FRAMES}
    assert (document["model"], document["out"]) == (None, str(tmp_path / "out"))
    assert [(mask["frame"], mask["object"]) for mask in document["masks"]] == [(index, 0) for index in range(FRAMES)]
    for index, mask in enumerate(document["masks"]):
        assert np.array_equal(decode(mask["segmentation"]), found.masks(index)[0])
        assert mask["area"] == areas[index]
        x, y, width, height = mask["bbox"]
        assert found.masks(index)[0, y : y + height, x : x + width].sum() == areas[index]
        assert mask["score"] == pytest.approx(found.scores[index, 0])
    found.save(tmp_path / "masks.json")
    assert found.seconds.load == 0
    assert found.seconds.follow > 0
    assert " frames a second; at most " in found.stats()


def test_an_object_that_is_never_seen_is_said_to_be() -> None:
    runs = (np.array([20], np.int32), np.array([0, 20], np.int32))
    fields: Any = {"clip": None, "prompts": (), "seconds": None, "peak_bytes": None}
    found = VideoReport(runs=(runs, runs), scores=np.zeros((2, 2), np.float32), **fields)
    assert found.areas.tolist() == [[0, 20], [0, 20]]
    assert found.hints == ("no masks found for object 0",)


def test_a_video_file_and_half_precision(sam2: nn.Module, tmp_path: Path) -> None:
    path = clips.write_file(tmp_path / "clip.mp4", 3)
    found = segment_video(sam2, path, points=[(40, 40)], out=tmp_path / "out.mp4")
    assert (len(found.runs), found.clip.rate, found.clip.names) == (3, 30000 / 1001, None)
    half = segment_video(models.small_sam2_video().bfloat16(), path, points=[(40, 40)])
    assert (half.masks(0) != found.masks(0)).mean() < 0.2


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small Sam2VideoModel, its .bhk file, and that file's weights as a dense folder."""
    folder = tmp_path_factory.mktemp("model")
    model: Any = models.small_hf_sam2_video()
    model.save_pretrained(folder / "original")
    bhk.convert(folder / "original", folder / "model.bhk")
    model.load_state_dict(bhk.load_state_dict(folder / "model.bhk"))
    model.save_pretrained(folder / "dense")
    return folder


def test_a_file_gives_the_masks_of_its_decoded_weights(converted: Path, clip: Path) -> None:
    expected = segment_video(converted / "dense", clip, points=[(40, 40)], frame=2)
    for mode in ("auto", "hyper"):
        found = segment_video(converted / "model.bhk", clip, points=[(40, 40)], frame=2, mode=mode)
        assert all(np.array_equal(found.masks(index), expected.masks(index)) for index in range(FRAMES))
        assert 0 < found.areas.min() <= found.areas.max() < clips.WIDTH * clips.HEIGHT
    assert found.model is not None
    assert (found.model.family, found.model.ratio is None) == ("transformers_sam2", False)
    assert type(bhk.load(converted / "model.bhk", video=True)).__name__ == "Sam2VideoModel"
    assert type(bhk.load(converted / "model.bhk")).__name__ == "Sam2Model"


def test_fidelity_in_a_clip(converted: Path, clip: Path) -> None:
    settings = bhk.FidelitySettings(points=3, boxes=2, limit=4, control=False, follow=True)
    files = [converted / "model.bhk", converted / "original"]
    found = bhk.fidelity(files, clip, against=converted / "original", settings=settings, workers=1)
    lossy, same = found.reports
    assert (lossy.pictures, lossy.fidelity.all.masks, lossy.seen) == (4, 4 * 5, "4 frames of a clip")
    assert 0.5 < lossy.fidelity.all.iou_mean.value < 1
    assert same.fidelity.all.iou_min == 1
    assert [picture.name for picture in lossy.images] == [f"{index}.png" for index in range(4)]
    assert ": 4 frames of a clip" in str(lossy)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, PromptError, "no prompts"),
        ({"points": [(140, 1)]}, PromptError, "point 140,1 is outside the frame, which is 140 x 91 pixels"),
        ({"points": [(1, 1)], "frame": 6}, ClipError, "frame 6 is outside the clip, whose frames are 0 to 5"),
        ({"points": [(1, 1)], "out": "out.avi"}, WriteError, "cannot write a clip as .avi"),
    ],
)
def test_mistakes_are_found_before_the_model_is_loaded(
    clip: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        segment_video("none.bhk", clip, **options)


def test_models_without_memory_are_refused(sam2: nn.Module, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(
        PredictionError,
        match=r"bhk cannot follow objects with segment_anything\..*Sam: it has no memory of earlier frames",
    ):
        segment_video(models.small_sam(), clip, points=[(1, 1)])
    torch.save(models.small_sam().state_dict(), tmp_path / "sam.pth")
    bhk.convert(tmp_path / "sam.pth")
    for name in ("sam.pth", "sam.bhk"):
        with pytest.raises(
            UnknownModelError,
            match="SAM has no memory of earlier frames; for a clip, use one of EdgeTAM, EfficientTAM",
        ):
            segment_video(tmp_path / name, clip, points=[(1, 1)])
    with pytest.raises(LoadOptionError, match="device: these options are for models that are loaded from a file"):
        segment_video(sam2, clip, points=[(1, 1)], device="cpu")


def test_it_is_public() -> None:
    assert bhk.segment_video is segment_video
    assert bhk.VideoReport is VideoReport
    assert bhk.errors.ClipError is ClipError
