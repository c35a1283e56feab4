from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {
        "encoder.weight": torch.randn(5, 3, generator=generator),
        "encoder.bias": torch.randn(5, generator=generator).to(torch.bfloat16),
        "decoder.weight": torch.randn(3, 5, generator=generator).half(),
        "decoder.steps": torch.tensor(9),
        "decoder.none": torch.zeros(0, 4),
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
