"""What a GPU or a CPU can do at most, from which the floor of a time follows.

Copying counts bytes read and bytes written. Products are square, of random numbers; float32 is IEEE, tf32 and int8 use a
GPU's tensor cores. On a CPU, a figure is the best of several sizes, and of torch's plain product and oneDNN's with a packed
operand. Each is a median, on a GPU by CUDA events.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from bhk.kernels.onednn import has_onednn, packed
from tools.bench.frame.benchmark import Benchmark, Rows, Run
from tools.bench.frame.results import read_csv
from tools.bench.frame.timing import alternate

COPIED = 1 << 31  # bytes
WIDTHS = {"cuda": (8192,), "cpu": (1024, 2048, 4096)}  # of square products
QUICK_WIDTHS = (512,)
KINDS = {
    "copy": torch.uint8,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "tf32": torch.float32,
    "int8": torch.int8,
}
ON_CPU = ("float32", "bfloat16", "int8")


def measure(kind: str, run: Run) -> Rows:
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
        calls, amounts = {}, {}
        for name, call, amount in _work(kind, run):
            calls[name], amounts[name] = call, amount
            for _ in range(2):
                call()
        if run.device == "cuda":
            torch.cuda.synchronize()
        seconds = alternate(calls, run.device, least=5, enough=0.3)
    finally:
        torch.set_float32_matmul_precision(precision)
    return [{"what": kind, "per_second": f"{max(amounts[name] / seconds[name] for name in calls):.4g}"}]


def _work(kind: str, run: Run) -> Iterator[tuple[str, Callable[[], object], int]]:
    """Yield what to time for a ceiling under some names, and how many bytes each call moves or operations it does."""
    if kind == "copy":
        source = torch.randint(256, (COPIED,), dtype=torch.uint8, device=run.device)
        yield "copy", partial(torch.empty_like(source).copy_, source), 2 * COPIED
        return
    for width in QUICK_WIDTHS if run.quick else WIDTHS[run.device]:
        one, other = (_square(width, KINDS[kind], run.device) for _ in range(2))
        # Both lie along the inner dimension, as in a linear layer.
        yield f"{width}", partial(torch._int_mm if kind == "int8" else torch.mm, one, other.t()), 2 * width**3
        if run.device == "cpu" and (has_onednn() if kind == "int8" else torch.backends.mkldnn.is_available()):
            yield f"{width}, oneDNN", _by_onednn(one, other), 2 * width**3


def _by_onednn(x: Tensor, weight: Tensor) -> Callable[[], object]:
    """Return a product by oneDNN, with the packed weight (out, in)."""
    if x.dtype == torch.int8:
        y = torch.zeros(len(x), len(weight))
        return partial(packed(weight).add_product, x.view(torch.uint8), y, 1.0, 0)
    prepared = torch.ops.mkldnn._reorder_linear_weight(weight, len(x))
    return partial(torch.ops.mkldnn._linear_pointwise, x, prepared, None, "none", [], "")


def _square(width: int, dtype: torch.dtype, device: str) -> Tensor:
    if dtype == torch.int8:
        return torch.randint(-127, 128, (width, width), dtype=dtype, device=device)
    return torch.randn(width, width, device=device).to(dtype)


class Ceilings:
    """What a device reaches: bytes a second of a copy, operations a second of products, by the kind of number."""

    def __init__(self, per_second: dict[str, float]) -> None:
        self.per_second = per_second

    @classmethod
    def read(cls, path: Path) -> Ceilings:
        """Read the CSV file of this benchmark."""
        return cls({row["what"]: float(row["per_second"]) for row in read_csv(path)})

    def floor(self, nbytes: int, operations: int, kind: str) -> float:
        """Return the seconds that moving `nbytes` and doing `operations` takes on this GPU at least."""
        return max(nbytes / self.per_second["copy"], operations / self.per_second[kind])


def _kinds(run: Run) -> Iterable[str]:
    return KINDS if run.device == "cuda" else ON_CPU


BENCHMARK = Benchmark(
    _kinds,
    measure,
    case="what",
    figures="per_second",
    csv="ceilings_{device}",
    devices=("cpu", "cuda"),
)


@cache
def ceilings_of(run: Run) -> Ceilings:
    """Measure the ceilings of the run's device, and write their CSV file."""
    BENCHMARK.run(dataclasses.replace(run, only=""))
    return Ceilings.read(BENCHMARK.path(run))
