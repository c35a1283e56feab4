from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bhk
from bhk.conversion.selection import MIN_NUMEL
from bhk.sam.allocation import SAM3_PARTS, part_of
from bhk.sam.variants import FAMILIES
from sam.models import small_hf_sam3, small_hf_sam3_tracker, small_hf_sam3_video

pytest.importorskip("transformers")
KINDS = {
    small_hf_sam3: "transformers_sam3",
    small_hf_sam3_tracker: "transformers_sam3_tracker",
    small_hf_sam3_video: "transformers_sam3_video",
}


@pytest.fixture(params=list(KINDS), ids=lambda kind: kind.__name__)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, str, Path]:
    """A model of transformers, its family, and the checkpoint that transformers saved of it."""
    model = request.param()
    model.save_pretrained(tmp_path)
    return model, KINDS[request.param], tmp_path / "model.safetensors"


def _settings(model: Any) -> dict[str, Any]:
    about = ("_name_or_path", "architectures", "dtype")  # not the model, but where it comes from
    return {name: value for name, value in model.config.to_dict().items() if name not in about}


def test_what_transformers_saves_is_recognised_and_loaded(saved: tuple[Any, str, Path]) -> None:
    model, family, path = saved
    report = bhk.convert(path)
    assert not report.warnings
    with bhk.open(report.path) as file:
        entry = file.container.header.model
    assert entry is not None
    assert entry.family == family
    for source in (path, report.path):
        loaded: Any = bhk.load(source)
        assert type(loaded) is type(model)
        assert _settings(loaded) == _settings(model)
        ours, theirs = loaded.state_dict(), model.state_dict()
        assert ours.keys() == theirs.keys()
        tolerance = 0.0 if source == path else 0.1
        for name, tensor in theirs.items():
            torch.testing.assert_close(ours[name], tensor, rtol=0, atol=tolerance * float(tensor.abs().max()))


def test_a_module_is_recognised_as_what_it_is(saved: tuple[Any, str, Path], tmp_path: Path) -> None:
    model, family, _ = saved
    with bhk.open(bhk.convert(model, tmp_path / "module.bhk").path) as file:
        entry = file.container.header.model
    assert entry is not None
    assert entry.family == family
    assert type(bhk.load(tmp_path / "module.bhk")) is type(model)


def test_the_wrong_settings_are_refused(saved: tuple[Any, str, Path]) -> None:
    _, _, path = saved
    (path.parent / "config.json").unlink()
    with pytest.raises(bhk.errors.UnknownModelError, match=r"config\.json"):
        bhk.load(path)


def _sizes(model: nn.Module) -> dict[str, int]:
    return {name: tensor.numel() for name, tensor in model.state_dict().items() if tensor.ndim > 1}


def test_a_weight_has_one_quality_in_every_class() -> None:
    family = {kind: FAMILIES[name] for kind, name in KINDS.items()}
    whole = {name: part_of(family[small_hf_sam3_video], name) for name in _sizes(small_hf_sam3_video())}
    for kind in (small_hf_sam3, small_hf_sam3_tracker):
        for name in _sizes(kind()):
            own = name.removeprefix("vision_encoder.neck.")
            if kind is small_hf_sam3 or name.startswith("vision_encoder.backbone."):
                twin = f"detector_model.{name}"
            else:
                twin = f"tracker_model.{name}" if own == name else f"tracker_neck.{own}"
            assert part_of(family[kind], name) is whole[twin], name


def test_every_large_weight_has_a_part_of_its_own() -> None:
    family = FAMILIES["transformers_sam3_video"]
    of_part: dict[str, int] = {}
    for name, size in _sizes(small_hf_sam3_video()).items():
        if size >= MIN_NUMEL:
            title = part_of(family, name).title
            of_part[title] = of_part.get(title, 0) + 1
    layers = 2
    assert of_part["text: attention"] == of_part["encoder: attention"] == 4 * layers
    assert of_part["text: MLP"] == 2 * layers
    assert of_part["encoder: MLP, first layer"] == of_part["encoder: MLP, second layer"] == layers
    assert of_part["DETR: attention"] == 4 * (2 * 2 + 2 * 3 + 1 * 2)  # encoder, decoder, geometry encoder
    assert of_part["DETR: MLP"] == 2 * (2 + 2 + 1)
    assert of_part["text: vocabulary"] == of_part["encoder: patch embedding"] == 1


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("detector.backbone.vision_backbone.trunk.blocks.31.attn.qkv.weight", "encoder: attention"),
        ("detector.backbone.vision_backbone.trunk.blocks.0.mlp.fc2.weight", "encoder: MLP, second layer"),
        ("detector.backbone.vision_backbone.trunk.pos_embed", "encoder: position embedding"),
        ("detector.backbone.vision_backbone.sam2_convs.0.dconv_2x2_0.weight", "encoder: neck"),
        ("detector.backbone.language_backbone.encoder.token_embedding.weight", "text: vocabulary"),
        ("detector.backbone.language_backbone.encoder.transformer.resblocks.0.attn.in_proj_weight", "text: attention"),
        ("detector.backbone.language_backbone.encoder.transformer.resblocks.0.mlp.c_proj.weight", "text: MLP"),
        ("detector.transformer.encoder.layers.5.cross_attn_image.in_proj_weight", "DETR: attention"),
        ("detector.transformer.decoder.layers.5.ca_text.in_proj_weight", "DETR: attention"),
        ("detector.transformer.decoder.layers.0.linear1.weight", "DETR: MLP"),
        ("tracker.sam_mask_decoder.transformer.layers.0.mlp.layers.0.weight", "decoder: MLP"),
        ("tracker.transformer.encoder.layers.0.self_attn.q_proj.weight", "other"),
    ],
)
def test_names_of_metas_package(name: str, title: str) -> None:
    assert next(part for part in SAM3_PARTS if part.pattern.search(name)).title == title


@pytest.mark.parametrize("kind", [small_hf_sam3, small_hf_sam3_video], ids=lambda kind: kind.__name__)
def test_calibration_measures_what_texts_find(kind: Callable[[], Any], tmp_path: Path) -> None:
    kind().save_pretrained(tmp_path)
    report = bhk.convert(tmp_path / "model.safetensors", calibration=bhk.Calibration("dead-leaves", limit=1))
    assert report.calibration is not None
    assert type(bhk.load(report.path)) is type(kind())
