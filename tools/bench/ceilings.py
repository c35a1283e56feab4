"""What a GPU can do at most, from which the floor of a layer's time follows.

Copying counts bytes read and bytes written. Products are square, of random numbers; float32 is IEEE, tf32 and int8 use tensor
cores. Each figure is a median by CUDA events.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tools.bench.frame.benchmark import Benchmark, Rows, Run
from tools.bench.frame.results import read_csv
from tools.bench.frame.timing import alternate

COPIED = 1 << 31  # bytes
WIDTH = 8192  # of a square product
KINDS = {
    "copy": torch.uint8,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "tf32": torch.float32,
    "int8": torch.int8,
}


def measure(kind: str, run: Run) -> Rows:
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
        work, amount = _work(kind)
        for _ in range(2):
            work()
        torch.cuda.synchronize()
        seconds = alternate({kind: work}, "cuda", least=5, enough=0.3)[kind]
    finally:
        torch.set_float32_matmul_precision(precision)
    return [{"what": kind, "per_second": f"{amount / seconds:.4g}"}]


def _work(kind: str) -> tuple[Callable[[], object], int]:
    """Return what to time for a ceiling, and how many bytes it moves or operations it does."""
    if kind == "copy":
        source = torch.randint(256, (COPIED,), dtype=torch.uint8, device="cuda")
        return partial(torch.empty_like(source).copy_, source), 2 * COPIED
    one, other = (_square(KINDS[kind]) for _ in range(2))
    # Both lie along the inner dimension, as in a linear layer.
    return partial(torch._int_mm if kind == "int8" else torch.mm, one, other.t()), 2 * WIDTH**3


def _square(dtype: torch.dtype) -> Tensor:
    if dtype == torch.int8:
        return torch.randint(-127, 128, (WIDTH, WIDTH), dtype=dtype, device="cuda")
    return torch.randn(WIDTH, WIDTH, device="cuda").to(dtype)


class Ceilings:
    """What a GPU reaches: bytes a second of a copy, operations a second of products, by the kind of number."""

    def __init__(self, per_second: dict[str, float]) -> None:
        self.per_second = per_second

    @classmethod
    def read(cls, path: Path) -> Ceilings:
        """Read the CSV file of this benchmark."""
        return cls({row["what"]: float(row["per_second"]) for row in read_csv(path)})

    def floor(self, nbytes: int, operations: int, kind: str) -> float:
        """Return the seconds that moving `nbytes` and doing `operations` takes on this GPU at least."""
        return max(nbytes / self.per_second["copy"], operations / self.per_second[kind])


BENCHMARK = Benchmark(
    lambda run: KINDS,
    measure,
    case="what",
    figures="per_second",
    csv="ceilings_{device}",
    devices=("cuda",),
)
