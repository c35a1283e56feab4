from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bhk
from bhk.container.header import ModelEntry
from bhk.sam.build import UnknownModelError, build_model
from bhk.sam.settings import SettingError, check_settings, plain_settings
from sam import models

pytest.importorskip("transformers")

_PICTURE = np.random.default_rng(0).integers(0, 255, (70, 100, 3), dtype=np.uint8)


def _saved(model: Any, folder: Path, **settings: Any) -> Any:
    """Build the model again with other settings of its mask decoder and save it."""
    for name, value in settings.items():
        setattr(model.config.mask_decoder_config, name, value)
    changed = models._seeded(lambda: type(model)(model.config))
    changed.save_pretrained(folder)
    return changed


def _settings(model: Any) -> dict[str, Any]:
    """Return the configuration of a model without what saving adds to it."""
    return {name: value for name, value in model.config.to_dict().items() if name not in ("architectures", "dtype")}


@pytest.mark.parametrize("kind", ["small_hf_sam", "small_hf_sam_hq", "small_hf_sam2", "small_hf_edgetam"])
def test_a_model_is_built_from_the_config_beside_its_weights(kind: str, tmp_path: Path) -> None:
    """Its heads, its activation and the size of its pictures are in no tensor, and not those of a published model."""
    saved = _saved(getattr(models, kind)(), tmp_path / "saved", num_attention_heads=4, hidden_act="silu")
    bhk.convert(tmp_path / "saved", tmp_path / "model.bhk")
    bhk.convert(saved, tmp_path / "module.bhk")
    for path in ("saved", "model.bhk", "module.bhk"):
        loaded: Any = bhk.load(tmp_path / path, mode="dense")
        assert type(loaded) is type(saved)
        assert _settings(loaded) == _settings(saved)
        saved.load_state_dict(loaded.state_dict())
        found, expected = (bhk.segment(model, _PICTURE, points=[(40, 30)]).masks for model in (loaded, saved))
        np.testing.assert_array_equal(found, expected)


def test_a_config_of_an_older_transformers_leaves_types_of_parts_empty(tmp_path: Path) -> None:
    models.small_hf_sam2().save_pretrained(tmp_path / "sam2")
    config = json.loads((tmp_path / "sam2" / "config.json").read_text())
    for part in ("prompt_encoder_config", "mask_decoder_config"):
        config[part]["model_type"] = ""
    (tmp_path / "sam2" / "config.json").write_text(json.dumps(config))
    bhk.convert(tmp_path / "sam2", tmp_path / "sam2.bhk")
    loaded: Any = bhk.load(tmp_path / "sam2.bhk")
    assert loaded.config.mask_decoder_config.hidden_size == config["mask_decoder_config"]["hidden_size"]


def test_without_a_config_nothing_is_guessed(tmp_path: Path) -> None:
    models.small_hf_sam2().save_pretrained(tmp_path / "sam2")
    (tmp_path / "sam2" / "config.json").unlink()
    report = bhk.convert(tmp_path / "sam2", tmp_path / "sam2.bhk")
    assert "no tensor shows its settings" in report.warnings[0]
    for path in ("sam2", "sam2.bhk"):
        with pytest.raises(UnknownModelError, match=r"no tensor shows its settings.*config\.json"):
            bhk.load(tmp_path / path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"model_type": "bert"}, "model_type 'bert'; expected sam2"),
        ({"vision_config": {"model_type": "llama"}}, "a part of model_type 'llama'"),
        ({"vision_config": {"model_type": "timm_wrapper", "architecture": "hf-hub:user/model"}}, "expected a word"),
        ({"attn_implementation": "user/kernel"}, "attn_implementation = 'user/kernel'"),
        ({"prompt_encoder_config": {"image_size": 1 << 20}}, "image_size = 1048576, more than 4,096"),
        ({"mask_decoder_config": {"num_hidden_layers": 60_000}}, "larger than the tensors"),
        (
            {"vision_config": {"backbone_config": {"model_type": "sam2_hiera_det_model", "hidden_act": "none_such"}}},
            "none_such",
        ),
        ({"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}}}}, "nested"),
    ],
)
def test_settings_of_a_file_cannot_name_code_or_fill_the_memory(
    change: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    from bhk.nn.meta import Most, weights_on_meta

    settings = {"model_type": "sam2", **change}
    with pytest.raises(UnknownModelError, match=fault), weights_on_meta(Most.of([(640, 64)] * 1000)):
        build_model(ModelEntry("transformers_sam2", None, {"config": settings}))


def test_what_is_kept_of_a_config_is_plain() -> None:
    config = {
        "model_type": "sam2",
        "_name_or_path": "/home/user",
        "auto_map": {"AutoModel": "evil.Model"},
        "attn_implementation": "user/kernel",
        "vision_config": {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "sizes": [[1, 2], ["x"]]},
        "architectures": ["Sam2Model"],
    }
    assert plain_settings(config) == {
        "model_type": "sam2",
        "auto_map": {},
        "vision_config": {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "sizes": [[1, 2], []]},
    }
    check_settings(plain_settings(config))
    with pytest.raises(SettingError, match="of type"):
        check_settings({"x": object()})
    assert json.loads(json.dumps(plain_settings(config))) == plain_settings(config)
