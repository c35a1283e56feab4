"""`bhk.fidelity` and `bhk.compare` with texts, which SAM 3 takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from sam import models
from sam.prediction.test_sam3 import save_tokenizer

import bhk
from bhk.evaluation.results import FidelityReport
from bhk.evaluation.settings import FidelitySettings, SettingsError
from bhk.pictures.scenes import make_scene
from bhk.sam.prediction.predictor import PredictionError
from bhk.sam.prediction.texts import MissingTokenizerError
from bhk.tasks import compare as comparing

pytest.importorskip("transformers")
_TEXTS = FidelitySettings(texts=("a cup", "a  cup", "spoon"), control=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small SAM 3, a .bhk file of it, and two pictures below it."""
    folder = tmp_path_factory.mktemp("sam3")
    models.finding(models.small_hf_sam3()).save_pretrained(folder)
    save_tokenizer(folder)
    bhk.convert(folder / "model.safetensors", folder / "sam3.bhk")
    (folder / "pictures").mkdir()
    for number in range(2):
        Image.fromarray(make_scene((1 << 40) + number).picture).save(folder / "pictures" / f"{number}.png")
    return folder


def _run(folder: Path, model: str, settings: FidelitySettings = _TEXTS) -> FidelityReport:
    against = folder / "model.safetensors"
    return bhk.fidelity(folder / model, folder / "pictures", against=against, settings=settings, workers=1)


def test_objects_that_texts_name_are_compared(folder: Path) -> None:
    same = _run(folder, "model.safetensors").fidelity
    assert same.texts == same.all
    assert same.all.masks > 4
    assert (same.all.iou_min, same.all.empty, same.embedding_cosine_min) == (1.0, 0.0, 1.0)
    report = _run(folder, "sam3.bhk")
    assert report.settings.texts == ("a cup", "spoon")
    assert report.fidelity.texts is not None
    assert 0.5 < report.fidelity.texts.iou_mean.value < 1
    assert 0.99 < report.fidelity.embedding_cosine_min < 1


def test_points_for_a_model_of_texts_and_texts_in_a_clip_are_refused(folder: Path) -> None:
    with pytest.raises(PredictionError, match="give a text"):
        _run(folder, "sam3.bhk", FidelitySettings())
    with pytest.raises(SettingsError, match="texts find objects in pictures"):
        FidelitySettings(texts=("cup",), follow=True)
    with pytest.raises(SettingsError, match="an empty text names nothing"):
        FidelitySettings(texts=(" ",))


def test_texts_for_a_model_of_points_are_refused(folder: Path, tmp_path: Path) -> None:
    torch.save(models.small_sam().state_dict(), tmp_path / "sam.pth")
    with pytest.raises(PredictionError, match="takes no texts"):
        bhk.fidelity(
            tmp_path / "sam.pth", folder / "pictures", against=tmp_path / "sam.pth", settings=_TEXTS, workers=1
        )


def test_a_missing_tokenizer_ends_the_evaluation(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "sam3.bhk"
    alone.write_bytes((folder / "sam3.bhk").read_bytes())
    with pytest.raises(MissingTokenizerError):
        bhk.fidelity(alone, folder / "pictures", against=folder / "model.safetensors", settings=_TEXTS, workers=1)


def test_presets_are_compared_by_what_texts_find(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "SCENES", 1)
    monkeypatch.setattr(comparing, "SCENE_SIZE", 128)
    source = folder / "model.safetensors"
    found = bhk.compare(source, ["fine"], texts=["cup"])
    (choice,) = found.choices
    assert list(choice.masks) == ["texts"]
    assert 0.5 < choice.masks["texts"].iou_mean.value < 1
    assert "texts IoU" in str(found)
    without = bhk.compare(source, ["fine"])
    assert without.no_masks is not None
    assert "give a text" in without.no_masks
