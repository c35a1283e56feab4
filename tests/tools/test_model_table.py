"""What docs/models.md says of each model holds for the real classes, as far as their packages are installed here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from sam import models as small
from torch import nn

from bhk.base.packages import is_installed
from bhk.container.header import ModelEntry
from bhk.nn import weights_on_meta
from bhk.pictures.image import read_image
from bhk.sam.build import build_model
from bhk.sam.prediction.predictor import PredictionError, predictor_for
from bhk.sam.prediction.tracker import tracker_for
from bhk.sam.variants import CONFIG, FAMILIES, VARIANTS, Variant
from tools.bench.frame.results import RESULTS, read_csv
from tools.bench.masks import PICTURE, PROMPTS, Compared, compare
from tools.bench.models.authors import authors_of
from tools.model_table import groups, models, recognised_by, representative

_ROWS = [VARIANTS[name] for name in groups()]
_LIKE_SAM2 = ("hq_sam2", "edge_tam")  # their packages are called sam2, too

# A small model of each family, as transformers or a package saves it.
_SMALL: dict[str, Callable[[], Any]] = {
    "sam": small.small_sam,
    "sam_hq": small.small_sam_hq,
    "transformers_sam": small.small_hf_sam,
    "transformers_sam_hq": small.small_hf_sam_hq,
    "transformers_sam2": small.small_hf_sam2,
    "transformers_edgetam": small.small_hf_edgetam,
    "transformers_sam3": small.small_hf_sam3,
    "transformers_sam3_tracker": small.small_hf_sam3_tracker,
    "transformers_sam3_video": small.small_hf_sam3_video,
}
_VIDEO = {
    "transformers_sam2": small.small_hf_sam2_video,
    "transformers_edgetam": small.small_hf_edgetam_video,
    "transformers_sam3_tracker": small.small_hf_sam3_tracker_video,
    "transformers_sam3_video": small.small_hf_sam3_video,
}


def _built(variant: Variant, *, video: bool = False) -> nn.Module:
    """Build a model of a row, small if it is one of transformers, without weights."""
    if FAMILIES[variant.family].classes:
        return (_VIDEO if video else _SMALL)[variant.family]()  # type: ignore[no-any-return]
    arguments = {CONFIG: variant.settings} if variant.settings else variant.architecture
    entry = ModelEntry(variant.family, variant.name, msgspec.json.decode(msgspec.json.encode(arguments)))
    with weights_on_meta():
        return build_model(entry, video=video)


def _can_be_built(variant: Variant) -> bool:
    packages = variant.packages or FAMILIES[variant.family].packages
    return any(map(is_installed, packages)) and variant.family not in (*_LIKE_SAM2, "sam_med2d", "mobile_sam_v2")


@pytest.mark.parametrize("variant", _ROWS, ids=lambda variant: variant.name)
def test_what_a_row_says_holds_for_the_class(variant: Variant) -> None:
    assert recognised_by(variant).startswith("tensors")
    if not _can_be_built(variant):
        pytest.skip("its package is not installed")
    family = FAMILIES[variant.family]
    model = _built(variant)
    if family.prompts:
        predictor = predictor_for(model)
        assert predictor.reads_text == ("texts" in family.prompts)
        assert isinstance(predictor.decoder, nn.Module)
    else:
        with pytest.raises(PredictionError):
            predictor_for(model)
    if family.follows:
        assert isinstance(tracker_for(_built(variant, video=True)).encoder, nn.Module)
    else:
        with pytest.raises(PredictionError, match="no memory of earlier frames"):
            tracker_for(model)


@pytest.mark.parametrize("family", _SMALL)
def test_a_small_model_gives_the_masks_of_its_package(family: str, tmp_path: Path) -> None:
    variant = next(variant for variant in VARIANTS.values() if variant.family == family)
    authors = authors_of(variant)
    if authors is None:
        pytest.skip("its package is not installed")
    compared = compare(_SMALL[family], variant, authors, tmp_path / "model", mode="hyper")
    assert compared.iou >= 0.99  # a pixel on the edge may change sides
    assert compared.error <= 1e-5


def test_a_model_with_other_weights_is_seen(tmp_path: Path) -> None:
    authors, variant = authors_of(VARIANTS["sam_vit_b"]), VARIANTS["sam_vit_b"]
    assert authors is not None
    model = small.small_sam()
    compared = compare(lambda: model, variant, authors, tmp_path / "model")
    with torch.no_grad():
        model.mask_decoder.iou_token.weight.mul_(1.1)
    other = Compared(None, 0, authors.logits(model, read_image(PICTURE), PROMPTS), compared.expected)
    assert other.error > 1e-3
    assert other.iou < 0.99


def test_every_model_has_a_row_and_every_figure_is_measured() -> None:
    figures = {"variant": "sam_vit_b", "iou": "0.999953", "logits": "7e-07", "ratio": "9"}
    head, _, *rows = models([figures], [figures], [])
    assert {title for row in rows for title in row.split(" | ")[0].removeprefix("| ").split(", ")} == {
        variant.title for variant in VARIANTS.values()
    }
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    cells = [dict(zip(columns, (cell.strip() for cell in row.strip("|").split("|")), strict=True)) for row in rows]
    assert [row for row in cells if row["mask IoU"] != "–"] == cells[:1]
    assert [row for row in cells if row["ratio"] != "–"] == cells[:1]
    assert [row for row in cells if row["converts"] != "–"] == cells[:1]
    assert (cells[0]["mask IoU"], cells[0]["logits"], cells[0]["ratio"]) == ("0.999953", "7e-07", "9.00")


def test_of_a_relative_the_prompts_farthest_apart_are_shown() -> None:
    rows = [
        {"variant": "edgetam", "iou": iou, "logits_error": error, "ratio": "6.764"}
        for iou, error in (("1.000000", "3.00e-05"), ("0.999000", "1.00e-05"))
    ]
    (shown,) = (row for row in models([], [], rows) if row.startswith("| EdgeTAM |"))
    assert "| 0.999000 | 3.0e-05 |" in shown
    assert shown.endswith("| 6.76 |")


@pytest.mark.parametrize("row", read_csv(RESULTS / "masks.csv"), ids=lambda row: row["variant"])
def test_measured_masks_are_those_of_the_package(row: dict[str, str]) -> None:
    assert representative(VARIANTS[row["variant"]]).name == row["variant"]
    assert int(row["masks"]) > 0
    assert float(row["iou"]) >= 0.99  # of SamModel, which is the farthest apart
    assert float(row["logits"]) <= 2e-4
