from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from triton.runtime import driver
from triton.runtime.jit import JITFunction

from bhk.kernels import dense, few_rows, integer
from bhk.kernels.gpu import Gpu
from tools.no_gpu import NoGpu

# Shared memory that a program can have, in KiB, by compute capability: T4, A100, RTX 30 and L40S, H100.
_SHARED_KIB = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227}

Launches = dict[str, Any]


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Launches]]:
    """Chooses the capability to compile for; then launches only compile, and the kernels come by their names."""
    before = driver._active

    def choose(capability: int) -> Launches:
        driver.set_active(NoGpu(capability, 1000 + capability))
        kernels: Launches = {}
        run = JITFunction.run

        def compile_only(self: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
            kernels[self.__name__] = run(self, *args, grid=grid, warmup=True, **options)

        monkeypatch.setattr(JITFunction, "run", compile_only)
        return kernels

    yield choose
    driver._active = before


def _gpu(capability: int) -> Gpu:
    return Gpu("none", processors=64, shared_bytes=_SHARED_KIB[capability] << 10)


def _fits(capability: int, kernels: Launches) -> bool:
    used = {name: kernel.metadata.shared for name, kernel in kernels.items()}
    return bool(used) and max(used.values()) <= _gpu(capability).shared_bytes


@pytest.fixture(scope="module")
def weight(random_weight):
    return random_weight(2048, 512, 256, 9, outliers=2000)


def _draw(rows: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(rows, 512, dtype=dtype), torch.zeros(2048, dtype=dtype)


@pytest.mark.parametrize(
    ("capability", "rows", "dtype"),
    [
        (75, 48, torch.float32),
        (80, 16, torch.bfloat16),
        (86, 48, torch.float32),
        (90, 48, torch.bfloat16),
    ],
)
def test_few_rows_compiles_and_fits(launches, weight, capability: int, rows: int, dtype: torch.dtype) -> None:
    kernels = launches(capability)
    x, bias = _draw(rows, dtype)
    tiles = few_rows.tiles_for(rows, 2048, 256, dtype.itemsize, _gpu(capability))
    for tile in {tiles[0], max(tiles, key=lambda tile: tile.out * tile.depth * tile.stages)}:
        few_rows.few_rows(x, *weight.operands[:4], bias, tile=tile, precision="ieee")
        assert set(kernels) >= {"_few_rows_kernel"}
        assert _fits(capability, kernels), tile


@pytest.mark.parametrize(
    ("capability", "rows", "dtype"),
    [
        (80, 2048, torch.float32),
        (86, 2048, torch.float32),
        (90, 64, torch.bfloat16),
        (90, 2048, torch.float32),
    ],
)
def test_integer_product_compiles_and_fits(launches, weight, capability: int, rows: int, dtype: torch.dtype) -> None:
    kernels = launches(capability)
    x, bias = _draw(rows, dtype)
    codes, codebook, outliers, _, far = weight.operands
    tiles = integer.tiles_for(rows, 2048, _gpu(capability), has_correction=dtype == torch.float32)
    for tile in {tiles[0], max(tiles, key=lambda tile: (tile.rows + tile.out) * tile.depth * tile.stages)}:
        integer.integer_product(x, codes, codebook, outliers, far, bias, tile=tile, precision="tf32")
        assert set(kernels) == {"_quantise_kernel", "_product_kernel"}
        assert _fits(capability, kernels), tile


@pytest.mark.parametrize("capability", [75, 90])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("form", ["lattice", "narrow"])
def test_decode_compiles_without_fused_rounding(
    launches, weight, random_weight, capability: int, dtype: torch.dtype, form: str
) -> None:
    kernels = launches(capability)
    held = weight if form == "lattice" else random_weight(8, 512, 35, 3, lattice="corner")
    dense.decode(*held.decode_operands, 512, dtype)
    assert set(kernels) == ({"_decode_kernel", "_outlier_kernel"} if form == "lattice" else {"_decode_kernel"})
    assert _fits(capability, kernels)
    assert "fma" not in kernels["_decode_kernel"].asm["ptx"]
