from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sam import models

import bhk
from bhk.base.hashes import sha256
from bhk.evaluation.results import FORMAT, VERSION, write_document
from bhk.pictures.scenes import make_scene
from bhk.publishing.results import AccuracyResult, EvaluationDocumentError, FidelityResult, read_result
from publishing import made_up
from publishing.made_up import written
from tools.scene_set import write_scene_set


def test_what_bhk_eval_writes_is_read(tmp_path: Path) -> None:
    torch.save(models.small_sam(depth=1, width=32).state_dict(), tmp_path / "sam.pth")
    bhk.convert(tmp_path / "sam.pth")
    Image.fromarray(make_scene(7).picture).save(tmp_path / "one.png")
    model, original = tmp_path / "sam.bhk", tmp_path / "sam.pth"
    report = bhk.fidelity(model, tmp_path, against=original, points=1, boxes=0, workers=1)
    write_document(report, tmp_path / "fidelity.json")
    found = read_result(tmp_path / "fidelity.json")
    assert isinstance(found, FidelityResult)
    assert (found.model.sha256, found.model.name) == (sha256([model]), "sam.bhk")
    assert found.fidelity.all.iou_mean.value == report.fidelity.all.iou_mean.value
    assert found.fidelity.all.iou_mean.low is None  # of one picture
    assert found.fidelity.boxes is None
    assert found.control is not None
    write_scene_set(tmp_path / "coco", scenes=1, format="coco", size=48)
    truth = tmp_path / "coco" / "annotations.json"
    write_document(bhk.accuracy(model, tmp_path / "coco" / "images", truth, workers=1), tmp_path / "accuracy.json")
    accurate = read_result(tmp_path / "accuracy.json")
    assert isinstance(accurate, AccuracyResult)
    assert accurate.truth == "annotations.json"
    assert accurate.original is None
    assert accurate.accuracy[0].miou is not None


def test_the_format_is_that_of_the_evaluations() -> None:
    document = made_up.fidelity("0" * 64)
    assert (document["format"], document["version"]) == (FORMAT, VERSION)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "coco"}, "format 'coco'"),
        ({"version": 2}, "version 2.*update bhk"),
        ({"protocol": "speed"}, "speed"),
        ({"pictures": "many"}, "pictures"),
        ({"fidelity": None}, "fidelity"),
        ({"model": {"path": "x"}}, "sha256"),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = written(tmp_path / "a.json", made_up.fidelity("0" * 64) | changes)
    with pytest.raises(EvaluationDocumentError, match=message) as caught:
        read_result(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff\xfe", b"\x89PNG", json.dumps({"a": 1}).encode(), b"[" * 9999]
)
def test_another_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(EvaluationDocumentError, match="expected what `bhk eval --out"):
        read_result(tmp_path / "a.json")


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(EvaluationDocumentError, match="No such file"):
        read_result(tmp_path / "none.json")
