from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import bhk
from bhk.checkpoint import UnsupportedTensorError

_EMPTY = torch.empty(0)


def _convert(tensors: dict[str, Tensor], folder: Path) -> bhk.ConversionReport:
    torch.save(tensors, folder / "model.pth")
    return bhk.convert(folder / "model.pth", threads=1)


def test_a_file_of_empty_weights_is_refused(tmp_path: Path) -> None:
    zero_3 = {"a.weight": _EMPTY, "a.bias": _EMPTY, "b.weight": _EMPTY.half(), "b.running_mean": torch.ones(5)}
    with pytest.raises(
        UnsupportedTensorError, match=r"3 tensors of 4 have no elements \(a\.weight, a\.bias, b\.weight\): .*ZeRO"
    ):
        _convert(zero_3, tmp_path)
    assert not (tmp_path / "model.bhk").exists()


def test_a_few_empty_tensors_are_named(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.randn(64, 64), "b": torch.ones(3), "c": _EMPTY, "d": torch.empty(0, dtype=torch.int32)}
    assert _convert(tensors, tmp_path).warnings == ("1 tensor of 3 have no elements (c)",)


def test_how_to_end_pruning_is_told(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    prune.l1_unstructured(model[0], "weight", 0.5)
    (warning,) = _convert(model.state_dict(), tmp_path).warnings
    assert warning.startswith("1 pruned weight (0.weight) will be stored as two tensors each")
    assert "call torch.nn.utils.prune.remove(layer, 'weight') for each layer" in warning
    prune.remove(model[0], "weight")
    (tmp_path / "model.bhk").unlink()
    report = _convert(model.state_dict(), tmp_path)
    assert report.warnings == ()
    decoded = bhk.load_state_dict(report.path)["0.weight"]
    assert torch.equal(decoded == 0, model[0].weight == 0)


def test_scales_of_quantised_layers_stay_exact(tmp_path: Path) -> None:
    scales = torch.rand(3840, 1)
    tensors = {"q.weight._data": torch.randint(-127, 127, (3840, 64), dtype=torch.int8), "q.weight._scale": scales}
    report = _convert({**tensors, "head.weight": torch.randn(64, 64)}, tmp_path)
    assert (
        "the weights of 1 layer are quantised already (quanto); they and their scales stay exact" in report.warnings[0]
    )
    decoded = bhk.load_state_dict(report.path)
    assert all(torch.equal(decoded[name], tensor) for name, tensor in tensors.items())
    assert report.coded == 1


def test_buffers_of_a_module_stay_exact(tmp_path: Path) -> None:
    module = nn.Linear(64, 64)
    module.register_buffer("offsets", torch.randn(64, 64))
    report = bhk.convert(module, tmp_path / "module.bhk", threads=1)
    assert [layer.name for layer in report.layers if layer.encoding == "trajectory"] == ["weight"]
    assert torch.equal(bhk.load_state_dict(report.path)["offsets"], module.offsets)


def test_a_file_that_is_larger_than_its_weights_is_told(tmp_path: Path) -> None:
    report = _convert({"a": torch.randn(3)}, tmp_path)
    assert report.ratio < 1
    assert report.warnings == ("the file is larger than the weights it holds; keep the checkpoint",)
    assert "warning: the file is larger than the weights it holds; keep the checkpoint" in report.hints
