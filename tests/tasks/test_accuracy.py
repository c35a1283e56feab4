from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sam import models

import bhk
from bhk.base.workdir import WorkDirError
from bhk.evaluation.annotations.errors import AnnotationError
from bhk.evaluation.documents import read_reports
from bhk.evaluation.faults import FaultKind
from bhk.evaluation.results import AccuracyReport
from bhk.evaluation.settings import AccuracySettings, SettingsError
from bhk.pictures.folder import NoPicturesError
from bhk.tasks.accuracy import accuracy
from tools.scene_set import write_scene_set

TRAINED = Path(__file__).parents[2] / "examples" / "demo" / "demo_sam.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sam.pth, sam.bhk and sets of two scenes."""
    folder = tmp_path_factory.mktemp("data")
    torch.save(models.small_sam().state_dict(), folder / "sam.pth")
    bhk.convert(folder / "sam.pth")
    for kind in ("coco", "lvis", "sa1b"):
        write_scene_set(folder / kind, scenes=2, format=kind, size=48)
    return folder


def _run(folder: Path, kind: str = "coco", **options: Any) -> AccuracyReport:
    truth = None if kind == "sa1b" else folder / kind / "annotations.json"
    return accuracy(folder / "sam.bhk", folder / kind / "images", truth, **{"workers": 1} | options)


_BOX = AccuracySettings(prompts=("box",))


def test_a_model_and_its_original_against_coco(folder: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    detections = folder / "coco" / "detections.json"
    found = _run(folder, against=folder / "sam.pth", detections=detections, progress=lambda *done: steps.append(done))
    assert [entry.prompt for entry in found.accuracy] == ["box", "point", "detections"]
    assert [entry.prompt for entry in found.original_accuracy] == ["box", "point", "detections"]
    assert [entry.prompt for entry in found.drops] == ["box", "point"]
    for ours, original, drop in zip(found.accuracy, found.original_accuracy, found.drops, strict=False):
        assert drop.miou
        assert drop.ap is None  # these random weights have no AP to lose
        assert ours.miou
        assert original.miou
        assert 0 < ours.miou.value < 1
        assert drop.miou.value == pytest.approx(1 - ours.miou.value / original.miou.value)
        assert ours.masks == found.objects
    assert all(entry.precision is not None for entry in found.accuracy)
    assert found.accuracy[2].miou is None
    assert [fault.kind for fault in found.faults] == [FaultKind.CROWD]
    assert steps[-1] == ("Evaluating", 2, 2)
    found.save(tmp_path / "accuracy.json")
    assert read_reports(tmp_path / "accuracy.json") == (found,)
    written = json.loads((tmp_path / "accuracy.json").read_text("utf-8"))
    assert (written["format"], written["protocol"]) == ("bhk-evaluation", "accuracy")


def test_the_drop_of_ap_of_a_trained_model(tmp_path: Path) -> None:
    coarse = bhk.convert(TRAINED, tmp_path / "coarse.bhk", bhk.Quality(snr_for={"*": 6})).path
    write_scene_set(tmp_path / "set", scenes=4, format="coco", size=128)
    truth, detections = tmp_path / "set" / "annotations.json", tmp_path / "set" / "detections.json"
    found = accuracy(
        coarse, tmp_path / "set" / "images", truth, against=TRAINED, settings=_BOX, detections=detections, workers=1
    )
    assert [drop.prompt for drop in found.drops] == ["box", "detections"]
    for ours, original, drop in zip(found.accuracy, found.original_accuracy, found.drops, strict=True):
        assert ours.precision
        assert original.precision
        assert drop.ap
        assert drop.ap.value == pytest.approx(1 - (ours.precision.ap or 0) / (original.precision.ap or 1))
        assert 0.02 < drop.ap.value < 1
        assert drop.ap.low is not None
        assert drop.ap.low <= drop.ap.value <= (drop.ap.high or 0)
    assert found.drops[1].miou is None
    assert str(found).splitlines()[-1].startswith("relative drop, prompted by detections: AP ")


def test_lvis_and_sa1b_with_the_multimask_output(folder: Path) -> None:
    lvis = _run(folder, "lvis", settings=AccuracySettings(output="multi", prompts=("point",)))
    (only,) = lvis.accuracy
    assert only.miou
    assert only.oracle
    assert only.oracle.value >= only.miou.value
    assert only.precision is not None
    sa1b = _run(folder, "sa1b", settings=AccuracySettings(prompts=("point",), limit=1))
    assert (sa1b.annotation_format, sa1b.pictures, sa1b.accuracy[0].precision) == ("sa1b", 1, None)


def test_pictures_and_annotations_in_a_tar_archive(folder: Path, tmp_path: Path) -> None:
    """SA-1B and webdataset have each picture beside its annotations."""
    settings = AccuracySettings(prompts=("point",))
    expected = _run(folder, "sa1b", settings=settings)
    with tarfile.open(tmp_path / "sa_000000.tar", "w") as archive:
        for file in sorted((folder / "sa1b" / "images").iterdir()):
            archive.add(file, file.name)
        archive.add(folder / "sam.pth", "bad.jpg")
    found = accuracy(folder / "sam.bhk", tmp_path / "sa_000000.tar", settings=settings, workers=1)
    assert (found.annotation_format, found.pictures) == ("sa1b", 2)
    assert found.accuracy == expected.accuracy


def test_several_models_give_what_each_gives_alone(folder: Path, tmp_path: Path) -> None:
    bhk.convert(folder / "sam.pth", tmp_path / "coarse.bhk", bhk.Quality(snr_db=8))
    truth = folder / "coco" / "annotations.json"
    rest: dict[str, Any] = {"against": folder / "sam.pth", "settings": _BOX, "workers": 1}
    found = accuracy([tmp_path / "coarse.bhk", folder / "sam.bhk"], folder / "coco" / "images", truth, **rest)
    assert found.reports[1] == accuracy(folder / "sam.bhk", folder / "coco" / "images", truth, **rest)
    assert [record["model"] for record in found.records()] == ["coarse.bhk", "sam.bhk", "sam.pth"]
    first, _, original = found.records()
    assert first["miou_drop"] == found.reports[0].drops[0].miou.value  # type: ignore[union-attr]
    assert (original["miou_drop"], original["times_smaller"]) == (None, None)


def test_an_interrupted_evaluation_continues(folder: Path, tmp_path: Path) -> None:
    first = _run(folder, settings=_BOX, work_dir=tmp_path)
    assert _run(folder, settings=_BOX, work_dir=tmp_path) == first == _run(folder, settings=_BOX, workers=2)
    with pytest.raises(WorkDirError, match="different output"):
        _run(folder, settings=AccuracySettings(prompts=("box",), output="multi"), work_dir=tmp_path)


def test_pictures_that_cannot_be_used_are_counted(folder: Path, tmp_path: Path) -> None:
    write_scene_set(tmp_path, scenes=3, format="coco", size=48)
    (tmp_path / "images" / "scene_000000.png").write_bytes(b"no picture")
    Image.new("RGB", (20, 30)).save(tmp_path / "images" / "scene_000001.png")
    options: dict[str, Any] = {"settings": _BOX, "workers": 1}
    found = accuracy(folder / "sam.bhk", tmp_path / "images", tmp_path / "annotations.json", **options)
    counts = {fault.kind: fault for fault in found.faults}
    assert found.pictures == 1
    assert counts[FaultKind.UNREADABLE_PICTURE].count == 1
    assert "20 x 30 pixels, annotated 48 x 48" in counts[FaultKind.OTHER_SIZE].examples[0]
    Image.new("RGB", (20, 30)).save(tmp_path / "images" / "scene_000002.png")
    with pytest.raises(
        NoPicturesError, match="no annotated picture can be used, of 3 tried; 1 × picture that cannot be"
    ):
        accuracy(folder / "sam.bhk", tmp_path / "images", tmp_path / "annotations.json", **options)


def test_a_broken_link_and_a_picture_too_long_for_the_model_are_counted(folder: Path, tmp_path: Path) -> None:
    write_scene_set(tmp_path, scenes=3, format="coco", size=48)
    pictures, path = tmp_path / "images", tmp_path / "annotations.json"
    (pictures / "scene_000000.png").unlink()
    (pictures / "scene_000000.png").symlink_to(tmp_path / "nowhere.png")
    Image.new("RGB", (4000, 1)).save(pictures / "scene_000001.png")
    truth = json.loads(path.read_text())
    truth["images"][1] |= {"width": 4000, "height": 1}
    for entry in truth["annotations"]:
        if entry["image_id"] == 1:
            entry |= {"segmentation": {"size": [1, 4000], "counts": [10, 90, 3900]}, "bbox": [10, 0, 90, 1]}
    path.write_text(json.dumps(truth))
    found = accuracy(folder / "sam.bhk", pictures, path, settings=_BOX, workers=1)
    counts = {fault.kind: fault.count for fault in found.faults}
    assert found.pictures == 1
    assert (counts[FaultKind.UNREADABLE_PICTURE], counts[FaultKind.UNUSABLE_PICTURE]) == (1, 1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"settings": AccuracySettings(prompts=())},
            SettingsError,
            "nothing to prompt with; choose prompts from box, point, text, or",
        ),
        ({"kind": "sa1b", "detections": "x.json"}, AnnotationError, "needs categories; these annotations have none"),
    ],
)
def test_mistakes_are_found_before_the_model_is_loaded(
    folder: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _run(folder, **options)


def test_it_is_public() -> None:
    assert bhk.accuracy is accuracy
    assert bhk.AccuracyReport is AccuracyReport
    assert bhk.AccuracySettings is AccuracySettings
