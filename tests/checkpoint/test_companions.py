from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

import bhk
from bhk.checkpoint.companions import MAX_BYTES, companions_of, has_companions
from bhk.tasks.convert import ConversionReport

_CONFIG = {"model_type": "bert", "label": "Füße \ud800"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of transformers with two of its companions."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    safetensors.torch.save_file({"a.weight": torch.randn(40, 40)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(_CONFIG, indent=2))
    (folder / "preprocessor_config.json").write_text('{ "size" : 8 }\n')
    (folder / "README.md").write_text("#")
    return folder


def _kept(report: ConversionReport) -> dict[str, str]:
    with bhk.open(report.path) as file:
        return companions_of(file.metadata)


@pytest.mark.parametrize("source", [".", "model.safetensors"])
def test_companions_are_kept_without_white_space(folder: Path, source: str) -> None:
    report = bhk.convert(folder / source, folder.parent / "out.bhk")
    kept = _kept(report)
    assert report.warnings == ()
    assert list(kept) == ["config.json", "preprocessor_config.json"]
    assert json.loads(kept["config.json"]) == _CONFIG
    assert kept["preprocessor_config.json"] == '{"size":8}'


def test_the_path_of_the_weights_is_not_kept(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"_name_or_path": "/home/somebody/run", **_CONFIG}))
    assert json.loads(_kept(bhk.convert(folder, folder.parent / "out.bhk"))["config.json"]) == _CONFIG


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (b'{"model_type": "bert", "model_type": "sam"}', "is the key 'model_type' occurs twice"),
        (b"{", "is invalid JSON"),
        (b"[]", "is JSON, but not an object"),
        (b'{"model_type": "bert", "x": NaN}', "holds NaN or infinity"),
        (b'{"architecture": "resnet"}', "has no model_type"),
        (b'{"model_type": "bert", "quantization_config": {}}', "has a quantization_config"),
        (b'{"model_type": "%s"}' % (b"x" * MAX_BYTES), "has 64,017 bytes, more than 64,000"),
    ],
)
def test_without_a_usable_configuration_none_are_kept(folder: Path, config: bytes, fault: str) -> None:
    (folder / "config.json").write_bytes(config)
    report = bhk.convert(folder)
    assert _kept(report) == {}
    assert [fault in warning for warning in report.warnings] == [True]


def test_only_a_file_that_is_too_large_is_left_out(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": "x" * MAX_BYTES}))
    report = bhk.convert(folder)
    assert list(_kept(report)) == ["config.json"]
    assert report.warnings[0].startswith("preprocessor_config.json has 64,011 bytes")


def test_tensors_under_other_names_have_none(folder: Path) -> None:
    safetensors.torch.save_file({"module.a.weight": torch.randn(40, 40)}, folder / "model.safetensors")
    assert _kept(bhk.convert(folder)) == {}


def test_weights_under_other_names_of_file_have_none(folder: Path) -> None:
    torch.save({"weight": torch.randn(40, 40)}, folder / "sam_vit_b.pth")
    assert _kept(bhk.convert(folder / "sam_vit_b.pth")) == {}
    assert has_companions("model.fp16.safetensors")
    assert has_companions("pytorch_model.bin.index.json")
    assert not has_companions("my_model.bin")


def test_a_header_cannot_name_other_files() -> None:
    assert companions_of({"file.../../x": "", "file.README.md": "", "file.config.json": "{}"}) == {"config.json": "{}"}
