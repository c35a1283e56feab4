from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sam import models
from torch import nn

import bhk
from bhk.base.files import DestinationExistsError, WriteError
from bhk.nn.errors import DeviceMemoryError, LoadOptionError
from bhk.pictures.image import ImageError
from bhk.pictures.prompts import Prompt, PromptError
from bhk.pictures.rle import decode
from bhk.sam.prediction.predictor import PredictionError
from bhk.tasks.segment import SegmentationReport, segment

_IMAGE = np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def sam() -> nn.Module:
    return models.small_sam()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(_IMAGE).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.save(models.small_sam().state_dict(), folder / "sam.pth")
    bhk.convert(folder / "sam.pth")
    return folder / "sam.bhk"


def test_a_single_point_gives_the_best_of_three_masks(sam: nn.Module) -> None:
    one = segment(sam, _IMAGE, points=[(40, 30)])
    three = segment(sam, _IMAGE, points=[(40, 30)], multimask=True)
    assert (one.masks.shape, three.masks.shape) == ((1, 90, 140), (3, 90, 140))
    assert one.output == three.output == "multimask"
    best = int(np.argmax(three.scores))
    assert np.array_equal(one.masks[0], three.masks[best])
    assert one.scores == (max(three.scores),)
    assert three.prompts == (Prompt(((40.0, 30.0),)),) * 3


@pytest.mark.parametrize(
    "prompts",
    [
        {"points": [(40, 30), (50, 30)]},
        {"points": [(40, 30)], "not_points": [(5, 5)]},
        {"boxes": [(10, 10, 60, 60)]},
        {"points": [(40, 30)], "boxes": [(10, 10, 60, 60)]},
    ],
)
def test_clear_prompts_give_the_single_mask(sam: nn.Module, prompts: dict[str, Any]) -> None:
    found = segment(sam, _IMAGE, **prompts)
    assert (found.output, found.masks.shape) == ("single", (1, 90, 140))
    several = segment(sam, _IMAGE, multimask=True, **prompts)
    assert (several.output, len(several.masks)) == ("multimask", 3)
    assert not any(np.array_equal(found.masks[0], mask) for mask in several.masks)


def test_boxes_give_a_mask_each(sam: nn.Module) -> None:
    boxes = [(10, 10, 60, 60), (70, 20, 130, 80), (0, 0, 140, 90)]
    found = segment(sam, _IMAGE, boxes=boxes)
    assert len(found.masks) == len(found.scores) == 3
    assert [prompt.box for prompt in found.prompts if prompt] == boxes
    for box, mask in zip(boxes, found.masks, strict=True):
        assert np.array_equal(segment(sam, _IMAGE, boxes=[box]).masks[0], mask)
    assert len(segment(sam, _IMAGE, boxes=boxes, multimask=True).masks) == 9


def test_a_box_over_the_edge_gives_the_mask_of_the_part_inside(sam: nn.Module) -> None:
    found, cut = segment(sam, _IMAGE, boxes=[(-0.4, 10, 140.3, 80)]), segment(sam, _IMAGE, boxes=[(0, 10, 140, 80)])
    assert np.array_equal(found.masks, cut.masks)
    assert found.scores == cut.scores
    assert found.prompts == cut.prompts == (Prompt(box=(0, 10, 140, 80)),)
    assert found.hints == ("box -0.4,10,140.3,80 was cut at the edge of the picture, which is 140 x 90 pixels",)
    assert found.document()["notes"] == [*found.hints]
    assert cut.hints == ()


def test_threads_get_the_masks_of_their_own_prompts(sam: nn.Module) -> None:
    pictures = [np.roll(_IMAGE, 17 * number, 1) for number in range(4)]
    models_of_dtypes = [sam, models.small_sam().to(torch.bfloat16)]

    def ask(number: int) -> SegmentationReport:
        model, picture = models_of_dtypes[number % 2], pictures[number // 2]
        return segment(model, picture, points=[(10 + 15 * number, 40)], multimask=True)

    expected = [ask(number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, [*range(8)] * 3))
    for number, report in enumerate(found):
        assert np.array_equal(report.masks, expected[number % 8].masks)
        assert report.scores == expected[number % 8].scores
        assert report.seconds.encode > 0


def test_everything() -> None:
    found = segment(models.confident(models.small_sam()), _IMAGE, everything=True, points_per_side=3)
    assert len(found.masks) == len(found.scores) == len(found.prompts) > 0
    assert set(found.prompts) == {None}
    assert list(found.scores) == sorted(found.scores, reverse=True)
    nothing = segment(models.small_sam(), _IMAGE, everything=True, points_per_side=2)
    assert nothing.masks.shape == (0, 90, 140)
    assert (nothing.scores, nothing.areas, nothing.boxes) == ((), (), ())


def test_areas_and_boxes() -> None:
    masks = np.zeros((3, 10, 20), dtype=bool)
    masks[0, 2:5, 3:9] = True
    masks[1, 9, 19] = masks[1, 0, 5] = True
    found = SegmentationReport(masks, (0.0,) * 3, (None,) * 3, "single", (10, 20), None, None)  # type: ignore[arg-type]
    assert found.areas == (18, 2, 0)
    assert found.boxes == ((3, 2, 9, 5), (5, 0, 20, 10), (0, 0, 0, 0))


def test_the_report_is_a_table_and_a_document(sam: nn.Module, picture: Path) -> None:
    out = picture.with_name("out.png")
    found = segment(sam, picture, boxes=[(10, 10, 60, 60)], out=out)
    *_, row, last = str(found).splitlines()
    assert row.split() == ["0", f"{found.areas[0]:,}", ",".join(map(str, found.boxes[0])), f"{found.scores[0]:.3f}"]
    assert last == f"{out}: 1 mask of the single output"
    document = found.document()
    assert (document["model"], document["out"]) == (None, str(out))
    assert document["image"] == {"path": str(picture), "width": 140, "height": 90}
    (mask,), ((x0, y0, x1, y1),) = document["masks"], found.boxes
    assert np.array_equal(decode(mask["segmentation"]), found.masks[0])
    assert mask["bbox"] == [x0, y0, x1 - x0, y1 - y0]


def test_the_report_says_which_model_the_masks_come_from(file: Path) -> None:
    found = segment(file, _IMAGE, points=[(40, 30)]).document()["model"]
    assert found == {"path": str(file), "family": "sam", "variant": None, "ratio": bhk.inspect(file).ratio}
    checkpoint = file.with_suffix(".pth")
    found = segment(checkpoint, _IMAGE, points=[(40, 30)]).document()["model"]
    assert found == {"path": str(checkpoint), "family": "sam", "variant": None, "ratio": None}


def test_time_and_memory_are_measured(sam: nn.Module) -> None:
    found = segment(sam, _IMAGE, boxes=[(1, 1, 50, 50)])
    assert found.seconds.load == 0
    assert found.seconds.encode > 0
    assert found.seconds.decode > 0
    assert found.peak_bytes is not None
    assert 10**7 < found.peak_bytes < 10**11
    encoder: Any = sam.image_encoder
    assert not encoder._forward_hooks
    assert not encoder._forward_pre_hooks


def test_the_model_predicts_in_eval_mode_and_can_still_be_trained() -> None:
    model: Any = models.small_sam2().train()
    segment(model, _IMAGE, points=[(3, 3)])
    assert not model.training
    features = model.forward_image(torch.zeros(1, 3, models.SIZE, models.SIZE))
    features["vision_features"].sum().backward()
    assert model.image_encoder.trunk.patch_embed.proj.weight.grad is not None


@pytest.mark.parametrize("mode", ["hyper", "dense"])
def test_a_file_gives_the_masks_of_its_decoded_weights(file: Path, mode: str) -> None:
    decoded = models.small_sam()
    decoded.load_state_dict(bhk.load_state_dict(file))
    expected = segment(decoded, _IMAGE, points=[(40, 30)])
    found = segment(file, _IMAGE, points=[(40, 30)], mode=mode)
    assert (found.masks != expected.masks).mean() < 1e-3
    assert found.scores == pytest.approx(expected.scores, abs=1e-4)
    assert found.seconds.load > 0


def test_a_file_in_half_precision_by_integers(file: Path) -> None:
    expected = segment(file, _IMAGE, points=[(40, 30)])
    for options in ({"dtype": torch.bfloat16}, {"compute": "int8"}):
        found = segment(file, _IMAGE, points=[(40, 30)], **options)
        assert (found.masks != expected.masks).mean() < 0.15


@pytest.mark.parametrize("name", ["out.png", "out.PNG", "out.jpg", "out.jpeg"])
def test_the_overlay_is_as_large_as_the_picture(sam: nn.Module, picture: Path, name: str) -> None:
    out = picture.with_name(name)
    segment(sam, picture, points=[(40, 30)], out=out)
    with Image.open(out) as drawn:
        assert drawn.size == (140, 90)
        assert drawn.format == ("PNG" if name.lower().endswith("png") else "JPEG")
        assert not np.array_equal(np.asarray(drawn), _IMAGE)


def test_an_overlay_needs_force_to_replace_a_file(sam: nn.Module, picture: Path) -> None:
    out = picture.with_name("out.png")
    out.write_bytes(b"mine")
    with pytest.raises(DestinationExistsError):
        segment(sam, picture, points=[(40, 30)], out=out)
    assert out.read_bytes() == b"mine"
    segment(sam, picture, points=[(40, 30)], out=out, force=True)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_the_output_is_checked_before_any_work(picture: Path, tmp_path: Path) -> None:
    for out, message in [
        ("a.gif", "unknown suffix '.gif'; use .png, .jpg, .jpeg"),
        ("a", "unknown suffix ''; use"),
        ("picture.png", "is the file that is being read"),
        ("none/a.png", "does not exist; create it first"),
    ]:
        with pytest.raises(WriteError, match=message):
            segment("none.bhk", picture, points=[(40, 30)], out=tmp_path / out, force=True)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({}, "no prompts"),
        ({"everything": True, "points": [(1, 1)]}, "everything does not go together with points, boxes or texts"),
        ({"everything": True, "boxes": np.ones((1, 4))}, "everything does not go together with points, boxes or texts"),
        ({"everything": True, "points_per_side": 0}, "0 points per side of the grid; expected at least 1"),
        ({"points": [(140, 1)]}, "point 140,1 is outside the picture, which is 140 x 90 pixels"),
        ({"boxes": [(5, 5, 5, 9)]}, "box 5,5,5,9 is empty"),
    ],
)
def test_prompts_are_checked_before_the_model_is_loaded(prompts: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        segment("none.bhk", _IMAGE, **prompts)


def test_prompts_are_in_pixels_of_the_upright_picture(sam: nn.Module, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_IMAGE).save(tmp_path / "a.png", exif=exif)
    found = segment(sam, tmp_path / "a.png", points=[(80, 130)])
    assert (found.size, found.masks.shape) == ((140, 90), (1, 140, 90))
    with pytest.raises(PromptError, match="which is 90 x 140 pixels"):
        segment(sam, tmp_path / "a.png", points=[(130, 80)])


def test_other_mistakes(sam: nn.Module, picture: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        segment("none.bhk", tmp_path / "none.png", points=[(1, 1)])
    with pytest.raises(PredictionError, match="bhk cannot predict masks with torch"):
        segment(nn.Linear(1, 1), picture, points=[(1, 1)])
    with pytest.raises(LoadOptionError, match="mode, device: these options are for models that are loaded from a file"):
        segment(sam, picture, points=[(1, 1)], mode="dense", device="cpu")
    with pytest.raises(bhk.BhkError, match=r"none\.bhk"):
        segment("none.bhk", picture, points=[(1, 1)])


def test_a_full_device_raises_an_error_with_advice() -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12 GiB.")

    model: Any = models.small_sam()
    model.image_encoder.register_forward_pre_hook(full)
    with pytest.raises(
        DeviceMemoryError, match="cpu has no room for masks of 140 x 90 pixels; use another device, dtype"
    ):
        segment(model, _IMAGE, points=[(1, 1)])


def test_it_is_public() -> None:
    assert bhk.segment is segment
    assert bhk.SegmentationReport is SegmentationReport
