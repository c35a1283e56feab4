from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tools.bench.coders.gptq import DAMPING, Gptq


def by_the_book(weights: Tensor, moments: Tensor, bits: int, group: int = 64) -> Tensor:
    """Return the decoded weights by optimal brain surgery, column by column, in float64 and without blocks."""
    top, rest, decoded = 2**bits - 1, weights.double().clone(), torch.zeros(weights.shape, dtype=torch.float64)
    inverse = torch.linalg.inv(
        moments.double() + torch.eye(len(moments)) * DAMPING * moments.diagonal().double().mean()
    )
    for column in range(weights.shape[1]):
        if column % group == 0:
            together = rest[:, column : column + group]
            low, high = together.amin(1).clamp(max=0), together.amax(1).clamp(min=0)
            scale = ((high - low) / top).half().double()
            zero = (-low / scale).round()
        decoded[:, column] = ((rest[:, column] / scale + zero).round().clamp(0, top) - zero) * scale
        error = (rest[:, column] - decoded[:, column]) / inverse[0, 0]
        rest[:, column:] -= error[:, None] * inverse[0]
        inverse = (inverse - inverse[:, :1] @ inverse[:1] / inverse[0, 0])[1:, 1:]
    return decoded


@pytest.mark.parametrize("bits", [2, 4])
def test_gptq_as_by_the_book(tmp_path: Path, bits: int) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 150, generator=generator) @ torch.randn(150, 150, generator=generator)
    tensors = {
        "linear": torch.randn(13, 150, generator=generator),
        "table": torch.randn(37, 21, generator=generator),
        "zeros": torch.zeros(30, 20),
        "bias": torch.randn(13, generator=generator),
    }
    moments = inputs.T @ inputs
    save_file(tensors, tmp_path / "source")
    save_file({"linear": moments, "zeros": torch.zeros(20, 20)}, tmp_path / "moments")
    coder = Gptq(bits, tmp_path / "moments")
    coder.encode(tmp_path / "source", tmp_path / "coded")
    decoded = coder.decode(tmp_path / "coded")
    assert torch.allclose(decoded["linear"].double(), by_the_book(tensors["linear"], moments, bits), atol=1e-5)
    assert float((decoded["table"] - tensors["table"]).abs().max()) < 8 / 2**bits / 2
    assert torch.equal(decoded["zeros"], tensors["zeros"])
    assert torch.equal(decoded["bias"], tensors["bias"])
