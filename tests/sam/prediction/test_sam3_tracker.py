"""The whole of SAM 3 in clips: what it finds is what transformers finds with all frames and all memories held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import clips

from bhk.pictures.clip import Clip, open_clip
from bhk.pictures.clip_prompts import ClipPrompt
from bhk.sam.prediction.hugging_face_tracker import processors
from bhk.sam.prediction.texts import TextReader
from bhk.sam.prediction.tracker import FrameMasks, tracker_for
from bhk.tasks.segment_video import segment_video
from sam import models
from sam.prediction.test_sam3 import save_tokenizer

transformers = pytest.importorskip("transformers")
FRAMES = 10  # more than the model looks ahead, and than it looks back
TEXTS = (ClipPrompt(text="a cup"), ClipPrompt(text="spoon"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small SAM 3 with a tokenizer, which takes all that it sees for what a text names, and trusts some of it anew."""
    folder = tmp_path_factory.mktemp("sam3")
    save_tokenizer(folder)
    model: Any = models.following_hf_sam3_video()
    model.config._name_or_path = str(folder)
    model.config.tracker_config.max_cond_frame_num = 2
    model.score_threshold_detection = model.new_det_thresh = model.high_conf_thresh = model.high_iou_thresh = 0.0
    model.recondition_every_nth_frame = 2
    model.hotstart_delay, model.hotstart_unmatch_thresh, model.hotstart_dup_thresh = 3, 2, 2
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.write_folder(tmp_path_factory.mktemp("video") / "clip", FRAMES)


def _by_transformers(model: Any, clip: Clip) -> dict[int, Any]:
    """Return what the steps in the documentation of transformers find."""
    texts = TextReader(model, model.detector_model, transformers)
    images, videos = processors(model.config.tracker_config, transformers)
    processor = transformers.Sam3VideoProcessor(images, videos, texts.tokenizer)
    session = processor.init_video_session(video=np.stack([clip[index] for index in range(FRAMES)]))
    for prompt in TEXTS:
        number, tokens = session.add_prompt(prompt.text), texts.tokens(str(prompt.text))
        session.prompt_input_ids[number] = tokens["input_ids"]
        session.prompt_attention_masks[number] = tokens["attention_mask"]
    steps = model.propagate_in_video_iterator(session)
    return {step.frame_idx: processor.postprocess_outputs(session, step) for step in steps}


def _followed(model: Any, folder: Path, prompts: tuple[ClipPrompt, ...]) -> dict[int, FrameMasks]:
    with open_clip(folder) as clip, torch.no_grad():
        return {step.frame: step for step in tracker_for(model).follow(clip, prompts)}


@pytest.mark.full
def test_texts_find_what_transformers_finds(model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    forget = tracker_for(model)._forget  # type: ignore[attr-defined]

    def watched(self: Any, session: Any) -> None:
        forget(session)
        for outputs in session.output_dict_per_obj.values():
            asked, followed = outputs["cond_frame_outputs"].values(), outputs["non_cond_frame_outputs"]
            held.append((sum(found["maskmem_features"] is not None for found in asked), len(followed)))

    monkeypatch.setattr("bhk.sam.prediction.sam3_tracker.Sam3Tracker._forget", watched)
    found = _followed(model, folder, TEXTS)
    with open_clip(folder) as clip:
        expected = _by_transformers(model, clip)
    assert sorted(found) == sorted(expected) == list(range(FRAMES))
    for index, frame in expected.items():
        assert list(found[index].objects) == frame["object_ids"].tolist()
        assert np.array_equal(found[index].masks, frame["masks"].numpy())
        assert np.array_equal(found[index].scores, frame["scores"].numpy())
        names = {number: text for text, numbers in frame["prompt_to_obj_ids"].items() for number in numbers}
        assert found[index].texts == tuple(names[number] for number in found[index].objects)
    assert {text for frame in found.values() for text in frame.texts} == {"a cup", "spoon"}
    assert max(asked for asked, _ in held) <= 2 + 5  # those that are selected, and those near the last frame
    assert max(followed for _, followed in held) <= 5


def test_the_tracker_inside_follows_points(model: Any, folder: Path) -> None:
    tracker: Any = transformers.Sam3TrackerVideoModel(model.config.tracker_config)
    own = dict(model.tracker_model.state_dict())
    backbone = model.detector_model.vision_encoder.backbone.state_dict()
    own |= {f"vision_encoder.backbone.{name}": tensor for name, tensor in backbone.items()}
    own |= {f"vision_encoder.neck.{name}": tensor for name, tensor in model.tracker_neck.state_dict().items()}
    tracker.load_state_dict(own, strict=True)
    prompts = (ClipPrompt(((40, 40),)), ClipPrompt(box=(20, 30, 60, 60), frame=3, object=1))
    found, expected = (_followed(each, folder, prompts) for each in (model, tracker.eval()))
    assert all(np.array_equal(found[index].masks, expected[index].masks) for index in range(FRAMES))
    assert 0 < found[FRAMES - 1].masks.mean() < 1


def test_the_report_names_the_text_of_each_object(model: Any, tmp_path: Path) -> None:
    folder = clips.write_folder(tmp_path / "clip", 2)
    found = segment_video(model, folder, texts=["a cup", "spoon"])
    objects = found.scores.shape[1]
    assert [prompt.object for prompt in found.prompts] == list(range(objects))
    assert {prompt.text for prompt in found.prompts} == {"a cup", "spoon"}
    assert found.masks(0).shape == (objects, clips.HEIGHT, clips.WIDTH)
    assert ((found.scores > 0) >= (found.areas > 0)).all()
    heading, _, *rows = str(found).splitlines()
    assert heading.split()[:2] == ["object", "text"]
    assert rows[0].split()[1] in ("a", "spoon")
    model.score_threshold_detection = 1.0
    nothing = segment_video(model, folder, texts="a cup")
    model.score_threshold_detection = 0.0
    assert (nothing.scores.shape, nothing.masks(1).shape) == ((2, 0), (0, clips.HEIGHT, clips.WIDTH))
    assert nothing.hints == ("no masks found",)
    assert [prompt.text for prompt in nothing.prompts] == ["a cup"]
