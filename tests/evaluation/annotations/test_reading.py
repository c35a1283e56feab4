from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bhk.evaluation.accuracy import true_objects
from bhk.evaluation.annotations import AnnotatedImage, Annotations, read_annotations, resolve
from bhk.evaluation.annotations.errors import AnnotationError, UnknownFormatError, WrongSplitError
from bhk.evaluation.faults import FaultKind, FaultLog
from bhk.pictures.folder import NoPicturesError
from bhk.pictures.scenes import make_scene
from tools.scene_set import HELD_OUT, write_scene_set

_POLYGON = [[1, 1, 6, 1, 6, 5, 1, 5]]


@pytest.fixture(scope="module", params=["coco", "lvis", "sa1b"])
def scene_set(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp(request.param)
    write_scene_set(folder, scenes=2, format=request.param, size=64)
    return folder, request.param


def _annotation(number: int, **changes: Any) -> dict[str, Any]:
    plain = {"id": number, "image_id": 1, "category_id": 1, "segmentation": _POLYGON, "bbox": [1, 1, 5, 4], "area": 20}
    return plain | {"iscrowd": 0} | changes


def _document(*annotations: Any, **changes: Any) -> dict[str, Any]:
    images = [{"id": 1, "file_name": "a.png", "width": 9, "height": 7}]
    return {"images": images, "annotations": list(annotations), "categories": [{"id": 1, "name": "x"}]} | changes


def _read(folder: Path, document: Any, **options: Any) -> Annotations:
    Image.fromarray(np.zeros((7, 9, 3), np.uint8)).save(folder / "a.png")
    (folder / "truth.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return read_annotations(folder / "truth.json", folder, **options)


def test_every_format_is_recognised_and_gives_the_masks_of_the_scenes(scene_set: tuple[Path, str]) -> None:
    folder, kind = scene_set
    found = read_annotations(folder / ("images" if kind == "sa1b" else "annotations.json"), folder)
    assert (found.format, len(found.images), found.faults) == (kind, 2, ())
    for number, image in enumerate(found.images):
        log = FaultLog()
        resolved = resolve(image, log)
        assert resolved is not None
        objects = true_objects(resolved, log)
        masks = make_scene(HELD_OUT + number, 64).masks
        assert len(objects) == len(masks)
        for entry, mask in zip(objects, masks, strict=True):
            assert np.array_equal(entry.mask.decode(), mask)
        assert {fault.kind for fault in log.counts()} <= {FaultKind.CROWD}


def test_lvis_names_absent_and_incomplete_categories(tmp_path: Path) -> None:
    image = {"id": 1, "coco_url": "http://images.example.org/val2017/a.png", "width": 9, "height": 7}
    image |= {"neg_category_ids": [3], "not_exhaustive_category_ids": [1]}
    categories = [{"id": 1, "name": "x", "frequency": "r"}, {"id": 3, "name": "y", "frequency": "f"}]
    found = _read(tmp_path, _document(_annotation(1), images=[image], categories=categories))
    (only,) = found.images
    assert isinstance(only, AnnotatedImage)
    assert (found.format, only.absent, only.incomplete) == ("lvis", (3,), (1,))
    assert [category.frequency for category in found.categories] == ["r", "f"]
    assert only.picture.path == str(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("document", "kind", "example"),
    [
        (_document(_annotation(1), _annotation(1)), FaultKind.DUPLICATE_ID, "annotation 1"),
        (_document(_annotation(1, image_id=8)), FaultKind.UNKNOWN_IMAGE, "annotation 1: image 8"),
        (_document(_annotation(1, category_id=8)), FaultKind.UNKNOWN_CATEGORY, "annotation 1: category 8"),
        (_document({"id": 1}), FaultKind.MALFORMED_RECORD, "annotation 0: Object missing required field `image_id`"),
        (_document("no record"), FaultKind.MALFORMED_RECORD, "annotation 0: Expected `object`, got `str`"),
        (_document(images=[*_document()["images"] * 2]), FaultKind.DUPLICATE_ID, "image 1"),
        (
            _document(images=[*_document()["images"], {"id": 2, "file_name": "b.png", "width": 9, "height": 7}]),
            FaultKind.MISSING_PICTURE,
            "b.png",
        ),
    ],
)
def test_a_faulty_record_is_counted(tmp_path: Path, document: Any, kind: FaultKind, example: str) -> None:
    (fault,) = _read(tmp_path, document).faults
    assert (fault.kind, fault.count, fault.examples) == (kind, 1, (example,))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"iscrowd": 1}, FaultKind.CROWD),
        ({"bbox": [3, 3, 0, 0]}, FaultKind.UNUSABLE_BOX),
        ({"bbox": None}, FaultKind.UNUSABLE_BOX),
        ({"segmentation": []}, FaultKind.EMPTY_MASK),
    ],
)
def test_a_faulty_object_is_counted(tmp_path: Path, changes: dict[str, Any], kind: FaultKind) -> None:
    (image,) = _read(tmp_path, _document(_annotation(1, **changes))).images
    assert isinstance(image, AnnotatedImage)
    log = FaultLog()
    objects = true_objects(image, log)
    (fault,) = log.counts()
    assert (fault.kind, fault.examples) == (kind, ("image 1 (a.png), annotation 1",))
    if kind is FaultKind.UNUSABLE_BOX:
        assert [entry.box for entry in objects] == [(1, 1, 6, 5)]


def test_nan_is_a_fault_of_its_record(tmp_path: Path) -> None:
    text = json.dumps(_document(_annotation(1, area=float("nan")), _annotation(2, bbox=[float("nan")] * 4)))
    (image,) = _read(tmp_path, text).images
    assert isinstance(image, AnnotatedImage)
    assert [(entry.area, entry.box) for entry in image.objects] == [(None, (1, 1, 6, 5)), (20, None)]


def test_a_record_whose_text_is_not_utf8_is_counted(tmp_path: Path) -> None:
    _read(tmp_path, _document(_annotation(1), _annotation(2)))
    path = tmp_path / "truth.json"
    path.write_bytes(path.read_bytes().replace(b'"name": "x"', b'"name": "\xff"'))
    faults = {fault.kind: fault.count for fault in read_annotations(path, tmp_path).faults}
    assert faults == {FaultKind.MALFORMED_RECORD: 1, FaultKind.UNKNOWN_CATEGORY: 2}


def test_names_in_several_folders_are_not_mixed_up(tmp_path: Path) -> None:
    picture = Image.fromarray(np.zeros((7, 9, 3), np.uint8))
    for name in ("b/1.png", "c/2.png", "d/2.png", "e/3.png"):
        (tmp_path / name).parent.mkdir()
        picture.save(tmp_path / name)
    names = ["a/1.png", "b/1.png", "2.png", "d/2.png", "data/e/3.png", "a.png"]
    images = [{"id": number, "file_name": name, "width": 9, "height": 7} for number, name in enumerate(names)]
    found = _read(tmp_path, _document(images=images))
    assert [Path(image.picture.path).relative_to(tmp_path).as_posix() for image in found.images] == [
        "b/1.png",
        "d/2.png",
        "e/3.png",
        "a.png",
    ]
    (fault,) = found.faults
    assert (fault.kind, fault.count) == (FaultKind.AMBIGUOUS_PICTURE, 2)
    assert fault.examples == ("a/1.png: b/1.png", "2.png: c/2.png, d/2.png")


def test_another_split_is_refused(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": f"train_{number}.jpg", "width": 9, "height": 7} for number in range(5)]
    message = "0 of 5 annotated pictures are in .* which holds 1 picture: .* 'train_0.jpg'; in the folder: 'a.png'"
    with pytest.raises(WrongSplitError, match=message):
        _read(tmp_path, _document(images=images))


@pytest.mark.parametrize(
    ("document", "options", "message"),
    [
        ([{"image_id": 1}], {}, "give a list of results as detections"),
        ({"info": 1, "licenses": 2}, {}, "has info, licenses; expected COCO instances, LVIS v1"),
        (_document(images=3), {}, "images is not a list"),
        (_document(), {"format": "sa1b"}, "so its format is not sa1b"),
        (_document(), {"format": "voc"}, "unknown format 'voc'; choose coco, lvis, sa1b"),
    ],
)
def test_other_documents_are_refused(tmp_path: Path, document: Any, options: dict[str, str], message: str) -> None:
    with pytest.raises(UnknownFormatError, match=message):
        _read(tmp_path, document, **options)


def test_a_folder_that_is_not_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="is not JSON"):
        _read(tmp_path, "{")
    with pytest.raises(AnnotationError, match="has annotations for none of the pictures"):
        _read(tmp_path, _document(images=[]))
    with pytest.raises(AnnotationError, match=r"cannot read .*none\.json"):
        read_annotations(tmp_path / "none.json", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match="holds no JSON files; expected those of SA-1B"):
        read_annotations(tmp_path / "empty", tmp_path)
    _read(tmp_path, _document())
    with pytest.raises(UnknownFormatError, match="has the format coco, which keeps all pictures in one file"):
        read_annotations(tmp_path, tmp_path)
    with pytest.raises(NoPicturesError):
        read_annotations(tmp_path / "truth.json", tmp_path / "empty")


def test_a_damaged_sa1b_file_is_counted(tmp_path: Path) -> None:
    write_scene_set(tmp_path, scenes=2, format="sa1b", size=32)
    (tmp_path / "images" / "scene_000001.json").write_text('{"annotations": []}')
    log = FaultLog()
    found = [resolve(image, log) for image in read_annotations(tmp_path / "images", tmp_path).images]
    assert [image is None for image in found] == [False, True]
    (fault,) = log.counts()
    assert fault.kind is FaultKind.MALFORMED_RECORD
    assert "scene_000001.json" in fault.examples[0]


def test_archives_in_subfolders_have_annotations_as_they_have_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "odd.tar"  # a folder, whatever its name
    (folder / "sub").mkdir(parents=True)
    write_scene_set(tmp_path, scenes=2, format="sa1b", size=32)
    for number, name in enumerate(("B.TAR", "sub/b.tar")):
        with tarfile.open(folder / name, "w") as archive:
            for file in (tmp_path / "images").glob(f"scene_{number:06d}.*"):
                archive.add(file, file.name)
    assert len(read_annotations(folder, folder).images) == 2
