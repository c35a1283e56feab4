from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from triton.runtime import driver
from triton.runtime.jit import JITFunction

from bhk.codec.codebook import Codebook, Codes
from tools.bench.layers.published import PublishedLinear
from tools.bench.layers.six_bits import EightBitLinear, SixBitLinear, lattice_product
from tools.no_gpu import NoGpu

SHARED_BYTES = 227 << 10  # that a program can have on an H100 or H200


@pytest.mark.full
def test_kernels_compute_products_with_decoded_weights() -> None:
    """Triton decides for a whole process whether it interprets kernels, so they are tested in one of their own."""
    script = Path(__file__).with_name("kernels_interpreted.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:xdist", str(script)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Kernels by their names; launches only compile, for capability 9.0."""
    before = driver._active
    driver.set_active(NoGpu(device=2090))
    kernels: dict[str, Any] = {}
    run = JITFunction.run

    def compile_only(self: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        kernels[self.__name__] = run(self, *args, grid=grid, warmup=True, **options)

    monkeypatch.setattr(JITFunction, "run", compile_only)
    yield kernels
    driver._active = before


def _layer(kind: type, windings: int) -> Any:
    codes = Codes(*torch.zeros(2, 256 * 1024, dtype=torch.uint8))
    return kind(Codebook((0.0, 0.0), 0.5, windings), codes, 256, 2048, torch.zeros(256))


def test_published_kernel_compiles_and_fits(compiled: dict[str, Any]) -> None:
    _layer(PublishedLinear, 256)(torch.zeros(16, 2048))
    assert compiled["_published_kernel"].metadata.shared <= SHARED_BYTES


@pytest.mark.parametrize(("kind", "name"), [(SixBitLinear, "_six_bit_kernel"), (EightBitLinear, "_eight_bit_kernel")])
@pytest.mark.parametrize(("rows", "dtype"), [(1, torch.bfloat16), (64, torch.float32)])
def test_lattice_kernels_compile_and_fit(
    compiled: dict[str, Any], kind: type, name: str, rows: int, dtype: torch.dtype
) -> None:
    layer = _layer(kind, 64)
    x = torch.zeros(rows, 2048, dtype=dtype)
    lattice_product(x, layer.held, layer.codebook, layer.bias, processors=132, precision="ieee")
    assert set(compiled) == {"_shear_kernel", name, "_sum_kernel"}
    assert compiled[name].metadata.shared <= SHARED_BYTES
