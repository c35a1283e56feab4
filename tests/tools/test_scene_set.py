from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from bhk.pictures.scenes import make_scene
from tools.scene_set import HELD_OUT, outline, write_scene_set


def test_other_programs_read_the_same_masks(tmp_path: Path) -> None:
    write_scene_set(tmp_path, scenes=2, format="coco", size=64, first=3)
    truth = COCO(tmp_path / "annotations.json")
    for image in (3, 4):
        masks = make_scene(HELD_OUT + image, 64).masks
        annotations = truth.loadAnns(truth.getAnnIds(imgIds=image))
        for entry, mask in zip(annotations, masks, strict=True):
            assert np.array_equal(truth.annToMask(entry), mask)
    everything = list(truth.anns.values())
    assert any(entry["iscrowd"] for entry in everything)
    assert {type(entry["segmentation"]) for entry in everything} == {list, dict}
    detections = truth.loadRes(str(tmp_path / "detections.json")).anns.values()
    assert len(detections) > len(everything)


def test_files_of_sa1b_lie_beside_their_pictures(tmp_path: Path) -> None:
    write_scene_set(tmp_path, scenes=1, format="sa1b", size=64)
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"scene_000000.json", "scene_000000.png"}
    found = json.loads((tmp_path / "images" / "scene_000000.json").read_text())
    assert set(found) == {"image", "annotations"}
    assert found["annotations"][0]["segmentation"]["size"] == [64, 64]


@pytest.mark.parametrize("rows", [["111", "101"], ["100", "000", "100"]])
def test_a_mask_with_gaps_is_no_polygon(rows: list[str]) -> None:
    assert outline(np.array([[pixel == "1" for pixel in row] for row in rows])) == []
