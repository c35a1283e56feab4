"""What a call of a coded layer costs on the host, measured without a GPU.

Kernels are compiled for a Hopper GPU, and the last step, the driver's launch, is skipped. "us" is the whole of
`kernels.dispatch.hyper_linear` without cuBLAS, in a layer of 1,280 features in bfloat16; "triton_us" is the same with
`kernel[grid](...)` in place of `kernels.launching`. Microseconds, the least of 20 means over 200 calls, in turn.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from triton.compiler import CompiledKernel
from triton.runtime import driver

from bhk.kernels import dense, dispatch, few_rows, integer, tuning
from bhk.kernels.gpu import Gpu
from bhk.kernels.launching import Launcher
from bhk.nn import HyperLinear
from bhk.nn.coded import BUFFERS
from tools.bench.frame.benchmark import Benchmark, Rows, Run
from tools.no_gpu import NoGpu

GPU = Gpu("none", 132, 227 << 10)
WIDTH = 1280
CALLS = {"few rows": (4, "exact"), "many rows, exact": (100, "exact"), "many rows, int8": (100, "int8")}
ROUNDS, REPEATED = 20, 200
LAUNCHERS = [
    found for module in (dense, few_rows, integer) for found in vars(module).values() if isinstance(found, Launcher)
]


def _no_gpu(_device: torch.device) -> Gpu:
    return GPU


def _nothing() -> None:
    """Stand for questions to the CUDA driver whose answer is no."""


def _no_handles(kernel: Any) -> None:
    kernel.module = kernel.function = "none"
    kernel._run = lambda *_: None


def _no_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


@contextlib.contextmanager
def without_a_gpu() -> Iterator[None]:
    """Let the dispatch for GPUs run up to the driver's launch. Triton keeps the driver for the rest of the process."""
    driver.set_active(NoGpu())
    with (
        mock.patch.object(CompiledKernel, "_init_handles", _no_handles),
        mock.patch.object(dispatch, "gpu_of", new=_no_gpu),
        mock.patch.object(dispatch.F, "linear", _no_product),
        mock.patch.object(tuning, "_measure", lambda gpu, problem, tiles, launch: tiles[0]),
        mock.patch.object(torch.cuda, "current_device", new=_nothing),
        mock.patch.object(torch.cuda, "is_current_stream_capturing", new=_nothing),
    ):
        yield


def _microseconds(call: Callable[[], object], *, quick: bool) -> float:
    """Return the mean time of a call; without `quick` every launch goes through Triton."""
    with contextlib.ExitStack() as stack:
        for launcher in LAUNCHERS:
            stack.enter_context(mock.patch.object(launcher, "_is_quick", quick))
        call()
        begin = time.perf_counter()
        for _ in range(REPEATED):
            call()
        return 1e6 * (time.perf_counter() - begin) / REPEATED


@torch.inference_mode()
def measure(name: str, run: Run) -> Rows:
    count, compute = CALLS[name]
    layer = HyperLinear.from_linear(nn.Linear(WIDTH, WIDTH)).to(torch.bfloat16)
    x = torch.randn(count, WIDTH).to(torch.bfloat16)
    operands = [getattr(layer, buffer) for buffer in BUFFERS]
    call = partial(dispatch.hyper_linear, x, *operands, layer.bias, compute)
    with without_a_gpu():
        took = [
            (_microseconds(call, quick=True), _microseconds(call, quick=False))
            for _ in range(2 if run.quick else ROUNDS)
        ]
    ours, triton = (min(times) for times in zip(*took, strict=True))
    return [{"call": name, "us": f"{ours:.1f}", "triton_us": f"{triton:.1f}"}]


BENCHMARK = Benchmark(lambda run: CALLS, measure, case="call", figures="us triton_us", csv="host_time_{device}")
