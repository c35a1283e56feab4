"""Compares the arguments that a GPU gets from `Launcher` and from Triton's own launches, without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from triton.compiler import CompiledKernel
from triton.compiler.compiler import LazyDict
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from bhk.kernels import dense, few_rows, integer, launching
from bhk.kernels.gpu import Gpu
from bhk.kernels.launching import Launcher
from tools.no_gpu import NoGpu

Launches = list[tuple[str, tuple[Any, ...]]]


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launches]:
    """The launches: the way, "kernel[grid]" or "compiled[grid]", and all arguments that the driver got."""
    if not launching._TAKES_CONSTANTS:
        pytest.skip("this version of Triton is launched in its own way")
    before, found, asked = driver._active, [], ["compiled[grid]"]
    run = JITFunction.run

    def traced(self: JITFunction, *args: Any, **options: Any) -> Any:
        asked.append("kernel[grid]")
        try:
            return run(self, *args, **options)
        finally:
            asked.pop()

    def init_handles(self: CompiledKernel) -> None:
        self.module, self.function = "module", self.metadata.name
        self._run = lambda *given: found.append((asked[-1], given))

    monkeypatch.setattr(JITFunction, "run", traced)
    monkeypatch.setattr(CompiledKernel, "_init_handles", init_handles)
    driver.set_active(NoGpu(device=2091))
    yield found
    driver._active = before


def _of_integers(weight) -> Callable[[Tensor, Tensor | None], Tensor]:
    codes, codebook, outliers, _, far = weight.operands
    tile = integer.tiles_for(300, weight.out, Gpu("none", 8, 227 << 10), has_correction=False)[0]
    return lambda x, bias: integer.integer_product(x, codes, codebook, outliers, far, bias, tile=tile, precision="ieee")


def _of_few_rows(weight) -> Callable[[Tensor, Tensor | None], Tensor]:
    tile = few_rows.tiles_for(5, weight.out, 64, 2, Gpu("none", 200, 227 << 10))[0]
    assert tile.splits == 1 or weight.width > 256
    return lambda x, bias: few_rows.few_rows(x, *weight.operands[:4], bias, tile=tile, precision="ieee")


def _of_decoding(weight) -> Callable[[Tensor, Tensor | None], Tensor]:
    return lambda x, bias: dense.decode(*weight.decode_operands, weight.width, x.dtype)


@pytest.mark.parametrize("make", [_of_integers, _of_few_rows, _of_decoding])
def test_both_ways_to_launch_pass_the_same_arguments(launches: Launches, random_weight, make, monkeypatch) -> None:
    weight = random_weight(72, 1040, 200, 5, outliers=40)
    product = make(weight)
    for launcher in (few_rows._launch, few_rows._launch_sum, integer._launch_quantising, integer._launch_product):
        monkeypatch.setattr(launcher, "_compiled", {})
    for launcher in (dense._launch, dense._launch_outliers):
        monkeypatch.setattr(launcher, "_compiled", {})
    memory = torch.empty(2 * 5 * 1040 + 64, dtype=torch.bfloat16)
    inputs = [memory[at : at + 5 * 1040].view(5, 1040) for at in (0, 2)]  # aligned to 16 bytes, and to 4
    assert inputs[0].data_ptr() % 16 == 0
    for x in inputs:
        for bias in (None, torch.empty(72, dtype=torch.bfloat16), torch.empty(73, dtype=torch.bfloat16)[1:]):
            launches.clear()
            first, again = product(x, bias), product(x, bias)
            assert first.shape == again.shape
            count = len(launches) // 2
            aligned = x.data_ptr() % 16 == 0 and (bias is None or bias.data_ptr() % 16 == 0)
            quick = {way for way, _ in launches[count:]}
            assert quick == {"compiled[grid]"} if aligned else "kernel[grid]" in quick or make is _of_decoding
            for (_, slow), (_, quick) in zip(launches[:count], launches[count:], strict=True):
                assert len(slow) == len(quick)
                for one, other in zip(slow, quick, strict=True):
                    assert _told(one) == _told(other)


def _told(value: object) -> object:
    """Return the part of an argument that must be equal. Addresses of fresh memory and data for profilers may differ."""
    if isinstance(value, Tensor):
        return value.dtype, value.shape, value.data_ptr() % 16 == 0
    return type(value) if isinstance(value, LazyDict) else value


def test_arguments_that_triton_distinguishes_are_compiled_separately(launches: Launches) -> None:
    launch = Launcher(integer._quantise_kernel)
    book, integers = torch.zeros(7), torch.zeros(4, 64, dtype=torch.int8)
    scales, offsets = torch.zeros(4), torch.zeros(4)

    def call(x: Tensor, pairs: int = 32, block: int = 32, warps: int = 1) -> str:
        launches.clear()
        tensors = (x, book, integers, scales, offsets)
        launch((4, 1, 1), tensors, (pairs,), {"BLOCK": block}, {"num_warps": warps})
        ((way, _),) = launches
        return way

    memory = torch.zeros(4 * 64 + 8, dtype=torch.float16)
    x, shifted = memory[:256].view(4, 64), memory[2:258].view(4, 64)
    for arguments in ((x,), (x.bfloat16(),), (x.float(),), (x, 31), (x, 1), (x, 32, 64), (x, 32, 32, 2)):
        assert call(*arguments) == "kernel[grid]"
        assert call(*arguments) == "compiled[grid]"
        assert call(shifted) == "kernel[grid]"


def test_unspecialised_numbers_do_not_cause_compilation(launches: Launches) -> None:
    launch = Launcher(few_rows._sum_kernel)
    parts, y = torch.zeros(2, 64), torch.zeros(64)
    ways = []
    for count in (64, 63, 1):
        launches.clear()
        launch((1, 1, 1), (parts, y), (count,), {"SPLITS": 2, "BLOCK": 64}, {})
        ways.append(launches[0][0])
    assert ways == ["kernel[grid]", "compiled[grid]", "compiled[grid]"]
