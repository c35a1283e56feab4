"""`bhk.accuracy` with the names of categories as texts, which SAM 3 takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from sam import models
from sam.prediction.test_sam3 import save_tokenizer

import bhk
from bhk.evaluation.annotations.errors import AnnotationError
from bhk.evaluation.annotations.segmentation import encode
from bhk.evaluation.documents import read_reports
from bhk.evaluation.models import Subject
from bhk.evaluation.settings import AccuracySettings
from bhk.pictures.image import read_image
from bhk.pictures.masks import most_alike
from bhk.pictures.prompts import Prompt
from bhk.pictures.scenes import make_scene
from bhk.sam.prediction.predictor import PredictionError
from bhk.sam.prediction.texts import MissingTokenizerError

pytest.importorskip("transformers")
_TEXT = AccuracySettings(prompts=("text",))
_NAMES = {1: "cup", 7: "wine_glass", 9: "spoon"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small SAM 3, a .bhk file of it, and two annotated scenes, whose objects are cups and wine glasses."""
    folder = tmp_path_factory.mktemp("sam3")
    models.finding(models.small_hf_sam3()).save_pretrained(folder)
    save_tokenizer(folder)
    bhk.convert(folder / "model.safetensors", folder / "sam3.bhk")
    images, annotations = [], []
    for number in range(2):
        scene = make_scene((1 << 40) + number, 64)
        Image.fromarray(scene.picture).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        for mask, category in zip(scene.masks[:3], (1, 7, 1), strict=True):
            entry = {"image_id": number, "category_id": category, "segmentation": encode(mask).plain(), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "bbox": [0, 0, 60, 60], "area": int(mask.sum())} | entry)
    categories = [{"id": number, "name": name} for number, name in _NAMES.items()]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(document, default=lambda value: value.decode()))
    return folder


def test_the_categories_of_each_picture_are_found_by_their_names(folder: Path, tmp_path: Path) -> None:
    truth, original = folder / "coco.json", folder / "model.safetensors"
    report = bhk.accuracy(folder / "sam3.bhk", folder, truth, against=original, settings=_TEXT, workers=1)
    assert (report.pictures, report.objects) == (2, 6)
    (found,), (first,), (drop,) = report.accuracy, report.original_accuracy, report.drops
    assert found.prompt == first.prompt == drop.prompt == "text"
    assert found.miou is not None
    assert 0 < found.miou.value < 1
    assert found.precision is not None
    assert "all masks for the names of categories" in str(report)
    report.save(tmp_path / "texts.json")
    assert read_reports(tmp_path / "texts.json") == (report,)

    subject, count, ious = Subject(bhk.load(original)), 0, []
    for number in range(2):
        subject.look(read_image(folder / f"{number}.png"))
        masks = make_scene((1 << 40) + number, 64).masks[:3]
        for text, truths in (("cup", masks[[0, 2]]), ("wine glass", masks[[1]])):
            answered, _ = subject.answer(Prompt(text=text), multimask=False)
            pairs = {place: iou for place, _, iou in most_alike(truths, answered)}
            ious += [pairs.get(place, 0.0) for place in range(len(truths))]
            count += len(answered)
    assert first.miou is not None
    assert (first.masks, first.miou.value) == (count, pytest.approx(sum(ious) / 6))


def test_what_does_not_fit_is_said(folder: Path, tmp_path: Path) -> None:
    torch.save(models.small_sam().state_dict(), tmp_path / "sam.pth")
    for model, settings, message in (
        (
            folder / "sam3.bhk",
            AccuracySettings(),
            'not by points or boxes; use prompts="text", which asks for the names',
        ),
        (tmp_path / "sam.pth", _TEXT, "takes no texts, only SAM 3 does"),
    ):
        with pytest.raises(PredictionError, match=message):
            bhk.accuracy(model, folder, folder / "coco.json", settings=settings, workers=1)
    alone = tmp_path / "sam3.bhk"
    alone.write_bytes((folder / "sam3.bhk").read_bytes())
    with pytest.raises(MissingTokenizerError):
        bhk.accuracy(alone, folder, folder / "coco.json", settings=_TEXT, workers=1)
    document = json.loads((folder / "coco.json").read_text())
    document["categories"][2]["name"] = " "
    (tmp_path / "nameless.json").write_text(json.dumps(document))
    with pytest.raises(
        AnnotationError, match='prompts="text" needs the names of categories; categories without one: 9'
    ):
        bhk.accuracy(folder / "sam3.bhk", folder, tmp_path / "nameless.json", settings=_TEXT, workers=1)
