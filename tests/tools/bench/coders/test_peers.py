from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tools.bench.coders.base import SMALL, coder_row
from tools.bench.coders.peers import NnCodec, RoundToNearest, peers


@pytest.mark.parametrize("coder", [RoundToNearest(8), RoundToNearest(5, 64), RoundToNearest(4, 32)], ids=str)
def test_rounding_is_off_by_half_a_step_at_most(tmp_path: Path, coder: RoundToNearest) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "layer.weight": torch.randn(37, 21, generator=generator),
        "convolution": torch.randn(8, 5, 3, 7, generator=generator),
        "positions": torch.randn(1, 30, 40, generator=generator),
        "bias": torch.randn(600, generator=generator),
        "small": torch.randn(1, SMALL, generator=generator),
        "count": torch.arange(1200).view(30, 40),
    }
    save_file(tensors, tmp_path / "source")
    coder.encode(tmp_path / "source", tmp_path / "coded")
    decoded = coder.decode(tmp_path / "coded")
    assert decoded.keys() == tensors.keys()
    for name in ("bias", "small", "count"):
        assert torch.equal(decoded[name], tensors[name])
    for name in ("layer.weight", "convolution", "positions"):
        top = 2 ** (coder.bits - 1) - 1
        assert decoded[name].shape == tensors[name].shape
        error = float((decoded[name] - tensors[name]).abs().max())
        assert 0 < error <= float(tensors[name].abs().max()) / top / 2 * 1.01
    assert (tmp_path / "coded").stat().st_size < (tmp_path / "source").stat().st_size


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    coder = NnCodec(-20, package="no_such_package")
    row = coder_row(coder, lambda: {"bytes": 1})
    assert row == {
        "coder": "NNCodec",
        "setting": "qp -20",
        "note": "not installed: pip install no_such_package",
        "version": "no_such_package not installed",
    }


def test_every_setting_is_told_apart() -> None:
    names = [str(coder) for coder in peers()]
    assert len(set(names)) == len(names)
    assert {str(coder) for coder in peers(quick=True)} <= set(names)
