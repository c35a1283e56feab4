from __future__ import annotations

from pathlib import Path

import pytest

import bhk
from bhk.sam.build import UnknownModelError
from bhk.sam.configuration import deviations
from sam import models


@pytest.mark.parametrize("kind", ["small_hf_sam", "small_hf_sam_hq", "small_hf_sam2"])
def test_the_configuration_of_a_built_model_has_no_deviations(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    getattr(models, kind)().config.save_pretrained(tmp_path)
    family = kind.replace("small_hf", "transformers")
    assert (tmp_path / "config.json").exists()
    assert deviations(family, tmp_path) == ()


def test_another_activation_is_a_deviation(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = models.small_hf_sam()
    model.config.vision_config.hidden_act = "relu"
    model.save_pretrained(tmp_path / "sam")
    report = bhk.convert(tmp_path / "sam", tmp_path / "sam.bhk")
    assert "vision_config.hidden_act = relu" in report.warnings[-1]
    assert "bhk.load_into" in report.warnings[-1]
    with pytest.raises(UnknownModelError, match=r"bhk\.load_into"):
        bhk.load(tmp_path / "sam.bhk")


@pytest.mark.parametrize("text", ["", "[]", '{"vision_config": 3}', '{"vision_config": {"hidden_act": null}}'])
def test_missing_settings_are_not_deviations(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    assert deviations("transformers_sam", tmp_path) == ()
    assert deviations("sam", tmp_path) == ()
