from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bhk
from bhk.pictures.masks import mask_iou
from bhk.pictures.prompts import PromptError
from bhk.sam.prediction import sam3
from bhk.sam.prediction.predictor import PredictionError
from bhk.sam.prediction.texts import MissingTokenizerError
from sam.models import finding, small_hf_sam, small_hf_sam3, small_hf_sam3_tracker, small_hf_sam3_video

transformers = pytest.importorskip("transformers")
PICTURE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def save_tokenizer(folder: Path, tokens: int = 60) -> None:
    """Write a tokenizer of single letters."""
    letters = [chr(ord("a") + index) + end for index in range(26) for end in ("", "</w>")]
    names = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{index:x}x</w>" for index in range(tokens - 54))]
    vocab = {name: index for index, name in enumerate(names)}
    transformers.CLIPTokenizer(vocab=vocab, merges=[]).save_pretrained(folder)


@pytest.fixture
def model(tmp_path: Path) -> nn.Module:
    """A small SAM 3 with a tokenizer."""
    save_tokenizer(tmp_path)
    model = small_hf_sam3()
    model.config._name_or_path = str(tmp_path)
    return model


@pytest.mark.parametrize("text", ["cup", " A red\tcup "])
def test_a_text_finds_what_the_processor_of_transformers_finds(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(sam3, "THRESHOLD", 0.0)
    found = bhk.segment(model, PICTURE, texts=[text])
    images = transformers.Sam3ImageProcessor(size={"height": 112, "width": 112})
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    inputs = images(PICTURE, input_data_format="channels_last", return_tensors="pt")
    inputs |= tokenizer(text, return_tensors="pt", padding="max_length", max_length=16)
    inputs.pop("original_sizes")
    with torch.no_grad():
        outputs = model(**inputs)
    (expected,) = images.post_process_instance_segmentation(outputs, 0.0, target_sizes=[(60, 90)])
    assert found.masks.shape == (20, 60, 90)
    assert found.output == "instances"
    assert [prompt and prompt.text for prompt in found.prompts] == [" ".join(text.split())] * 20
    assert list(found.scores) == sorted(found.scores, reverse=True)
    order = expected["scores"].argsort(descending=True)
    torch.testing.assert_close(torch.tensor(found.scores), expected["scores"][order])
    assert np.array_equal(found.masks, expected["masks"][order].bool().numpy())


def test_texts_are_answered_one_after_another(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam3, "THRESHOLD", 0.0)
    found = bhk.segment(model, PICTURE, texts=["cup", "spoon"])
    assert [prompt and prompt.text for prompt in found.prompts] == ["cup"] * 20 + ["spoon"] * 20
    assert found.document()["masks"][-1]["prompt"] == 1
    assert found.scores[:20] != found.scores[20:]


def test_nothing_may_be_found(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam3, "THRESHOLD", 1.0)
    found = bhk.segment(model, PICTURE, texts=["cup"])
    assert found.masks.shape == (0, 60, 90)
    assert found.hints == ("no masks found",)


def test_masks_in_bfloat16_are_nearly_those_in_float32(model: nn.Module) -> None:
    finding(model)
    exact = bhk.segment(model, PICTURE, texts=["cup"])
    rounded = bhk.segment(model.to(torch.bfloat16), PICTURE, texts=["cup"])
    assert len(exact.masks) == len(rounded.masks) > 5
    assert [mask_iou(a, b) > 0.9 for a, b in zip(exact.masks, rounded.masks, strict=True)].count(True) > 5


def test_the_tracker_answers_points_and_boxes() -> None:
    model = small_hf_sam3_tracker()
    found = bhk.segment(model, PICTURE, points=[(30, 20)], multimask=True)
    assert found.masks.shape == (3, 60, 90)
    assert bhk.segment(model, PICTURE, boxes=[(10, 10, 50, 40)]).masks.shape == (1, 60, 90)
    with pytest.raises(PredictionError, match="takes no texts"):
        bhk.segment(model, PICTURE, texts=["cup"])


def test_points_are_refused_by_a_model_of_texts(model: nn.Module) -> None:
    with pytest.raises(PredictionError, match="by a text, not by points"):
        bhk.segment(model, PICTURE, points=[(1, 1)])
    with pytest.raises(PredictionError, match="give a text"):
        bhk.segment(model, PICTURE, everything=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": ["cup"], "points": [(1, 1)]}, "a text finds all objects"),
        ({"texts": ["cup", " "]}, "an empty text"),
        ({"texts": ["cup"], "everything": True}, "everything does not go together"),
    ],
)
def test_texts_do_not_go_together_with_other_prompts(options: dict[str, object], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        bhk.segment(small_hf_sam(), PICTURE, **options)


def test_texts_of_too_many_tokens_are_refused(model: nn.Module) -> None:
    with pytest.raises(PredictionError, match="17 tokens, more than 16"):
        bhk.segment(model, PICTURE, texts=["a" * 15])


def test_without_a_tokenizer_the_error_says_where_to_put_it(model: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "tokenizer.json").write_text("{")
    save_tokenizer(tmp_path / "large", 6000)
    for folder in (tmp_path / "empty", tmp_path / "damaged", tmp_path / "large", ""):
        model.config._name_or_path = str(folder)
        with pytest.raises(MissingTokenizerError, match=r"copy tokenizer\.json"):
            bhk.segment(model, PICTURE, texts=["cup"])


def test_the_whole_takes_texts_points_and_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam3, "THRESHOLD", 0.0)
    save_tokenizer(tmp_path)
    whole = small_hf_sam3_video()
    whole.save_pretrained(tmp_path)
    for path in (tmp_path / "model.safetensors", bhk.convert(tmp_path / "model.safetensors", quality="fine").path):
        found = bhk.segment(path, PICTURE, texts=["cup"], mode="hyper")
        assert (found.masks.shape, found.output) == ((20, 60, 90), "instances")
        point, box = (bhk.segment(path, PICTURE, multimask=True, **{k: v}) for k, v in _ASKED)
        assert point.masks.shape == box.masks.shape == (3, 60, 90)
        assert point.output == "multimask"
    detector = whole.detector_model
    detector.config._name_or_path = str(tmp_path)
    alone = bhk.segment(detector, PICTURE, texts=["cup"])
    np.testing.assert_allclose(found.scores, alone.scores, atol=0.02)
    whole.config._name_or_path = str(tmp_path)
    assert bhk.segment(whole, PICTURE, texts=["cup"]).scores == alone.scores


_ASKED = (("points", [(30, 20)]), ("boxes", [(10, 10, 50, 40)]))


def test_the_tracker_in_the_whole_is_the_tracker_alone(tmp_path: Path) -> None:
    whole = small_hf_sam3_video()
    state = {
        name.replace("detector_model.vision_encoder.backbone.", "vision_encoder.backbone.")
        .replace("tracker_neck.", "vision_encoder.neck.")
        .replace("tracker_model.", ""): tensor
        for name, tensor in whole.state_dict().items()
    }
    alone = small_hf_sam3_tracker()
    alone.load_state_dict({name: state[name] for name in alone.state_dict()})
    for name, prompts in _ASKED:
        ours, theirs = (bhk.segment(model, PICTURE, multimask=True, **{name: prompts}) for model in (whole, alone))
        assert np.array_equal(ours.masks, theirs.masks)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)
