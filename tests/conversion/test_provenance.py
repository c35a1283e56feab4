"""What a file's metadata say of its conversion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import zstandard
from PIL import Image
from sam.models import small_sam
from tasks.checkpoints import save, small

import bhk
from bhk.container.reader import Container

_VERSIONS = {"torch": torch.__version__.split("+")[0], "zstandard": zstandard.__version__}


def _entries(path: Path | None) -> dict[str, str]:
    assert path is not None
    with Container.open(path) as container:
        found = container.header.metadata
    return {key.removeprefix("conversion."): text for key, text in found.items() if key.startswith("conversion.")}


def test_what_was_asked_for_and_the_versions(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", {"ema": small()})
    assert _entries(bhk.convert(source).path) == {"quality": "balanced"} | _VERSIONS
    quality = bhk.Quality(snr_db=30, exact=("*.10.*", "*.bias"), snr_for={"*.2.weight": 20.5})
    assert _entries(bhk.convert(source, tmp_path / "b.bhk", quality, key="ema").path) == _VERSIONS | {
        "quality": "30 dB",
        "exact": "*.10.*, *.bias",
        "snr_for": "20.5 dB for *.2.weight",
        "key": "ema",
    }


def test_calibration_names_a_folder_without_its_path(tmp_path: Path) -> None:
    source = save(tmp_path / "sam.pth", small_sam().state_dict())
    photos = tmp_path / "alice" / "photos"
    photos.mkdir(parents=True)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(photos / "a.png")
    few = bhk.Quality(only="image_encoder.blocks.0.*")
    found = {}
    for name, samples in (("noise", "noise"), ("photos", photos)):
        calibration = bhk.Calibration(samples, limit=2, seed=5, steps="table")
        path = bhk.convert(source, tmp_path / f"{name}.bhk", few, calibration=calibration).path
        found[name] = _entries(path)
        assert path is not None
        assert b"alice" not in path.read_bytes()
    common = {"quality": "balanced", "only": "image_encoder.blocks.0.*", "seed": "5", "steps": "table"} | _VERSIONS
    assert found["noise"] == common | {"samples": "noise", "samples.count": "2"}
    assert found["photos"] == common | {"samples": "folder photos", "samples.count": "1"}


def test_samples_that_are_given(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(32, 32))
    path = bhk.convert(model, tmp_path / "a.bhk", calibration=[torch.randn(4, 32)] * 3).path
    found = _entries(path)
    assert (found["samples"], found["samples.count"]) == ("own samples", "3")


def test_an_exported_file_takes_nothing_along(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", small())
    first = bhk.convert(source, tmp_path / "a.bhk", "fine").path
    assert first is not None
    exported = bhk.export(first, tmp_path / "restored.safetensors").path
    again = bhk.convert(exported, tmp_path / "b.bhk", "small").path
    assert _entries(again) == {"quality": "small"} | _VERSIONS
