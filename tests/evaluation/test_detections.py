from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bhk.evaluation.accuracy import usable_detections
from bhk.evaluation.annotations import AnnotatedImage, Annotations, Category
from bhk.evaluation.annotations.errors import AnnotationError, UnknownFormatError
from bhk.evaluation.detections import Detection, read_detections
from bhk.evaluation.faults import FaultKind, FaultLog
from bhk.evaluation.places import Place

_IMAGE = AnnotatedImage(7, Place("a.png", "a.png"), 20, 10)
_TRUTH = Annotations("coco", (_IMAGE,), frozenset({7}), (Category(1, "x"),), ())


def _read(folder: Path, results: Any, log: FaultLog) -> Any:
    (folder / "results.json").write_text(json.dumps(results))
    return read_detections(folder / "results.json", _TRUTH, log)


def test_category_and_score_are_optional(tmp_path: Path) -> None:
    log = FaultLog()
    plain = {"image_id": 7, "bbox": [1, 2, 3, 4]}
    found = _read(tmp_path, [plain | {"category_id": 1, "score": 0.5}, plain], log)
    assert found == {7: (Detection(1, (1, 2, 4, 6), 0.5), Detection(None, (1, 2, 4, 6), None))}
    assert log.counts() == ()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"image_id": 8}, FaultKind.UNKNOWN_IMAGE),
        ({"category_id": 8}, FaultKind.UNKNOWN_CATEGORY),
        ({"bbox": [1, 2, "a", 4]}, FaultKind.BOX_NOT_NUMBERS),
        ({"bbox": [1, 2, 3]}, FaultKind.BOX_NOT_NUMBERS),
        ({"bbox": [float("nan"), 2, 3, 4]}, FaultKind.BOX_NOT_NUMBERS),
        ({"score": "high"}, FaultKind.BOX_NOT_NUMBERS),
        ({"image_id": "x"}, FaultKind.MALFORMED_RECORD),
    ],
)
def test_a_faulty_detection_is_counted(tmp_path: Path, changes: dict[str, Any], kind: FaultKind) -> None:
    log = FaultLog()
    good = {"image_id": 7, "bbox": [1, 2, 3, 4], "category_id": 1, "score": 0.5}
    found = _read(tmp_path, [good, good | changes], log)
    assert len(found[7]) == 1
    (fault,) = log.counts()
    assert (fault.kind, fault.count) == (kind, 1)
    assert fault.examples[0].startswith("detection 1: ")


def test_boxes_are_cut_to_the_picture_and_those_outside_are_counted() -> None:
    log = FaultLog()
    boxes = [(-5.0, 2.0, 30.0, 6.0), (3.0, 3.0, 3.0, 5.0), (25.0, 1.0, 30.0, 2.0), (8.0, 8.0, 4.0, 9.0)]
    found = usable_detections(_IMAGE, [Detection(1, box, 0.5) for box in boxes], log)
    assert [entry.box for entry in found] == [(0, 2, 20, 6)]
    (fault,) = log.counts()
    assert (fault.kind, fault.count) == (FaultKind.BOX_WITHOUT_INSIDE, 3)


def test_a_file_that_is_not_a_list_of_results(tmp_path: Path) -> None:
    with pytest.raises(UnknownFormatError, match="is not a list of results"):
        _read(tmp_path, {"images": []}, FaultLog())
    with pytest.raises(AnnotationError, match="cannot read"):
        read_detections(tmp_path / "none.json", _TRUTH, FaultLog())
