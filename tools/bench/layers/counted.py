"""Call each main kernel for a profiler to count: `ncu … python -m tools.bench.layers.counted`; see tools.gpu_checks."""

from __future__ import annotations

import torch

from tools.bench.hyperlinear import Case, sides_of

CASES = {
    "exact": [
        Case(4096, 4096, 1, torch.bfloat16),
        Case(4096, 4096, 16, torch.bfloat16),
        Case(1280, 5120, 4096, torch.bfloat16),
    ],
    "int8": [Case(1280, 1280, 4096, torch.bfloat16), Case(1280, 5120, 4096, torch.bfloat16)],
}


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    for side, cases in CASES.items():
        for case in cases:
            layer = sides_of(case, "cuda")[side]
            x = torch.randn(case.rows, case.in_features, device="cuda", dtype=case.dtype)
            for _ in range(2):  # the first call tunes and compiles; the profiler counts these launches, too
                layer(x)
            torch.cuda.synchronize()


if __name__ == "__main__":
    main()
