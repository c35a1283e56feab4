from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bhk.evaluation.settings import AccuracySettings, FidelitySettings, SettingsError
from bhk.nn.errors import LoadOptionError


def test_torch_objects_become_names() -> None:
    settings = FidelitySettings(device=torch.device("cuda", 1), dtype=torch.bfloat16)
    assert (settings.device, settings.dtype) == ("cuda:1", "bfloat16")
    assert settings == FidelitySettings(device="cuda:1", dtype="bfloat16")


def test_prompts_have_one_order() -> None:
    assert AccuracySettings(prompts=("point", "box")) == AccuracySettings()


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (FidelitySettings, {"points": 0, "boxes": 0}, "0 points and 0 boxes per picture"),
        (FidelitySettings, {"points": -1}, "-1 points"),
        (FidelitySettings, {"seed": -1}, "the seed is -1"),
        (FidelitySettings, {"limit": 0}, "cannot use 0 pictures"),
        (FidelitySettings, {"mode": "sparse"}, "unknown mode 'sparse'; choose 'auto', 'hyper' or 'dense'"),
        (FidelitySettings, {"compute": "int4"}, "unknown compute 'int4'; choose 'exact' or 'int8'"),
        (AccuracySettings, {"prompts": ("mask",)}, "unknown prompt 'mask'; choose 'box', 'point' or 'text'"),
        (AccuracySettings, {"output": "best"}, "unknown output 'best'; choose 'single' or 'multi'"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: Callable[..., Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(**options)


@pytest.mark.parametrize("dtype", ["int8", "bfloat61", torch.int64])
def test_weights_need_a_floating_dtype(dtype: Any) -> None:
    with pytest.raises(LoadOptionError, match="is not a floating-point dtype of torch"):
        FidelitySettings(dtype=dtype)
