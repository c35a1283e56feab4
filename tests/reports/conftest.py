from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sam import models

import bhk
from bhk.pictures.scenes import make_scene
from bhk.tasks.report import PageReport

HOSTILE = "</script><img src=x onerror=alert(1)>.weight"
LICENSE = '"><script>alert(2)</script>'


@dataclass(frozen=True)
class Made:
    """A small SAM, its .bhk file, pictures, and the page about them."""

    original: Path
    file: Path
    images: Path
    report: PageReport

    @property
    def page(self) -> Path:
        return self.report.path


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("report")
    original = folder / "sam.pth"
    torch.save(models.confident(models.small_sam()).state_dict(), original)
    file = bhk.convert(original, threads=1, metadata={"license": LICENSE}).path
    assert file is not None
    images = folder / "images"
    images.mkdir()
    for seed in range(2):
        Image.fromarray(make_scene(seed).picture).save(images / f"scene {seed}.png")
    (images / "notes.txt").write_text("no picture")
    (images / "a damaged one.jpg").write_bytes(b"\xff\xd8\xff")
    written = bhk.report(file, folder / "page.html", against=original, images=images, threads=1)
    return Made(original, file, images, written)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    """Tensors with odd rows, outliers, flat pairs, exact storage, no weights, and a hostile name."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.05

    heavy = normal(64, 512)
    heavy.view(-1)[::999] *= 40
    return {
        "odd.weight": normal(700, 301),
        "heavy.weight": heavy,
        "conv.weight": normal(31, 7, 3, 3),
        HOSTILE: normal(40, 40),
        "norm.weight": torch.ones(64),
        "steps": torch.tensor(7),
        "none.weight": torch.zeros(0, 4),
        "half.weight": normal(50, 50).half(),
        "table": torch.arange(20),
        "signs": torch.tensor([True, False, True]),
        "waves": torch.from_numpy(np.exp(1j * np.arange(12)).astype(np.complex64)),
    }
