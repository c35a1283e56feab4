"""What a card can do at most, measured: `python -m tools.bench.ceilings`. The floor of a layer's time comes from it.

Copying counts bytes read and bytes written. Products are square, of random numbers; that of float32 is IEEE, tf32 and int8 have
tensor cores. Each figure is a median by CUDA events. The CSV is named after the card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from tools.bench.frame.results import device_columns, device_name, show, write_csv
from tools.bench.frame.timing import alternate

COPIED = 1 << 31  # bytes
WIDTH = 8192  # of a square product
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Ceilings:
    """What a card reaches: bytes a second of a copy, operations a second of products by the kind of number."""

    copy: float
    bfloat16: float
    float16: float
    float32: float
    tf32: float
    int8: float

    def floor(self, nbytes: int, operations: int, kind: str) -> float:
        """Return the seconds below which nothing can be that moves `nbytes` and does `operations` on this card."""
        rate: float = getattr(self, kind)
        return max(nbytes / self.copy, operations / rate)


def measure() -> Ceilings:
    """Return the ceilings of the current card."""
    precision = torch.get_float32_matmul_precision()
    found = {}
    try:
        for name, work, amount in _works():
            for _ in range(2):
                work()
            torch.cuda.synchronize()
            found[name] = amount / alternate({name: work}, "cuda", least=5, enough=0.3)[name]
    finally:
        torch.set_float32_matmul_precision(precision)
    return Ceilings(**found)


def _works() -> Iterator[tuple[str, Callable[[], object], float]]:
    """Yield the name of a ceiling, what to time for it, and how much that moves or computes."""
    source = torch.randint(256, (COPIED,), dtype=torch.uint8, device="cuda")
    yield "copy", partial(torch.empty_like(source).copy_, source), 2 * COPIED
    operations = 2 * WIDTH**3
    for name, dtype in HALVES.items():
        yield name, partial(torch.mm, *_square(dtype)), operations
    for name, precision in (("float32", "highest"), ("tf32", "high")):
        torch.set_float32_matmul_precision(precision)
        yield name, partial(torch.mm, *_square(torch.float32)), operations
    one, other = (torch.randint(-127, 128, (WIDTH, WIDTH), dtype=torch.int8, device="cuda") for _ in range(2))
    yield (
        "int8",
        partial(torch._int_mm, one, other.t()),
        operations,
    )  # both along the inner dimension, as in a linear layer


def _square(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    one, other = (torch.randn(WIDTH, WIDTH, device="cuda").to(dtype) for _ in range(2))
    return one, other.t()


def written_ceilings() -> Ceilings:
    """Return the ceilings of the current card, and write their CSV."""
    found = measure()
    figures = {field.name: getattr(found, field.name) for field in fields(found)}
    where = device_columns("cuda")
    rows = [{"what": name, "per_second": f"{figure:.4g}", **where} for name, figure in figures.items()]
    write_csv(f"ceilings_{device_name('cuda')}", rows)
    show(rows, ("what", "per_second", "device"))
    return found


if __name__ == "__main__":
    written_ceilings()
