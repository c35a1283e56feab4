from __future__ import annotations

import importlib
import sys

import pytest
from transformers import PreTrainedModel
from transformers.quantizers import auto

import bhk.transformers
from bhk.transformers.errors import UnsupportedTransformersError
from bhk.transformers.registration import register


def _set_version(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    # Not one imported above: transformers replaces itself while it imports its parts.
    monkeypatch.setattr(importlib.import_module("transformers"), "__version__", version)


@pytest.mark.parametrize("version", ["4.57.6", "5.0.0"])
def test_an_old_version_is_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    _set_version(monkeypatch, version)
    with pytest.raises(UnsupportedTransformersError, match=rf"{version} is too old .*'transformers>=5\.1"):
        register()


def test_a_version_that_works_differently_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _set_version(monkeypatch, "6.1.0.dev0")
    register()
    monkeypatch.delattr(PreTrainedModel, "_load_pretrained_model")
    with pytest.raises(
        UnsupportedTransformersError, match=r"6\.1\.0\.dev0 has no PreTrainedModel\._load_pretrained_model"
    ):
        register()


def test_without_transformers_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UnsupportedTransformersError, match=r"pip install 'transformers>=5.10'"):
        register()


def test_the_quantizer_is_known_to_transformers() -> None:
    config = auto.AutoQuantizationConfig.from_dict({"quant_method": "bhk", "file": "model.bhk"})
    assert isinstance(config, bhk.transformers.BhkConfig)
    assert config.to_dict() == {"quant_method": "bhk", "file": "model.bhk", "part": False}
    quantizer = auto.AutoHfQuantizer.from_config(config)
    assert isinstance(quantizer, bhk.transformers.BhkQuantizer)
