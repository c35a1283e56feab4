from __future__ import annotations

import pytest
import torch
from torch import nn

from bhk.kernels import reference
from bhk.kernels.onednn import has_onednn
from bhk.nn import HyperLinear
from tools.bench.frame.memory import linear_bytes


def test_weights_of_linear_layers_count_without_biases() -> None:
    assert linear_bytes(nn.Sequential(nn.Linear(8, 4), nn.Conv1d(4, 4, 1), nn.Linear(4, 2, bias=False))) == 4 * (32 + 8)


@pytest.mark.skipif(not has_onednn(), reason="oneDNN does not multiply bytes here")
@torch.no_grad()
def test_a_copy_of_the_codes_counts_when_a_call_has_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "INTEGER_SIZE", 0)
    layer = HyperLinear.from_linear(nn.Linear(64, 128), compute="int8")
    before = linear_bytes(layer)
    assert 64 * 128 < before < 1.5 * 64 * 128
    layer(torch.randn(reference.INTEGER_ROWS, 64))
    assert linear_bytes(layer) >= before + 64 * 128
