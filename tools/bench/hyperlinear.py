"""HyperLinear beside other linear layers, in one run: `python -m tools.bench.hyperlinear [--device cuda] [--seconds 200]`.

Shapes are those of SAM image encoders and mask decoders; weights follow Student's t and are coded with the default preset.
"dense", "exact" and "int8" hold the same decoded weights in the same dtype. On a card there are, for some shapes, the layers of
other people (`linear_peers`), the published kernel's scheme (`published_kernel`), and weights resident at 6 bits beside 8
(`six_bits`). Times are medians in milliseconds, the sides taken in turn; on a CPU wall time, on a card CUDA events around
replayed CUDA graphs. "cold" rotates through copies of the weight that together exceed the L2 cache several times, "warm" uses
one. Errors are relative to the float64 product with the decoded weights (for 6 bits and 8 beside it, with their own).

The floor is the larger of the bytes that a side must move (its weight, inputs, outputs) over the card's copying rate, and of
its operations over the card's product of that kind of number, both measured in the same run (`ceilings`). The CSV has one row
a side and is named after the device; on a card it is written after each case, and no case starts that --seconds leave no time
for.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bhk.nn import HyperLinear
from tools.bench.ceilings import Ceilings, written_ceilings
from tools.bench.frame.results import Row, device_columns, device_name, show, write_csv
from tools.bench.frame.timing import Budget, alternate, captured
from tools.bench.layers.peers import held_bytes

SHOWN = ("in", "out", "rows", "dtype", "cache", "side", "ms", "speed", "share", "error")
WIDTHS = {"SAM-B": 768, "SAM-L": 1024, "SAM-H": 1280}
DECODER = ((256, 256), (256, 128), (128, 256), (256, 2048), (2048, 256))
OF_THE_FLOOR = ("megabytes", "gigaflop", "floor_ms", "share")
COLD_BYTES = 400 << 20  # several times the L2 cache of any card
CALLS = 20  # in a graph, at least
OURS = ("dense", "exact", "int8")
INTEGER = ("int8", "torchao W8A8", "bitsandbytes int8", "bitsandbytes LLM.int8")  # sides that multiply bytes
EXPECTED = {"bhk": 10.0, "peers": 75.0}  # seconds that a case is likely to take, most of them to compile


@dataclass(frozen=True)
class Case:
    """One layer and input to measure.

    Attributes:
        precision: of float32 products: "highest" is IEEE, "high" is TF32.
        others: whether layers of other people, and experiments, are measured beside.
    """

    in_features: int
    out_features: int
    rows: int
    dtype: torch.dtype = torch.float32
    precision: str = "highest"
    cold: bool = False
    others: bool = False

    @property
    def kind(self) -> str:
        """What the numbers of its products are called."""
        return "tf32" if self.precision == "high" else str(self.dtype).removeprefix("torch.")


def cases(device: str) -> Iterator[Case]:
    """Yield the cases for a device, on a card the most important first."""
    encoder = {
        width: [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)] for width in WIDTHS.values()
    }
    if device == "cpu":
        shapes = [(*shape, 4096) for shape in encoder[768]]
        shapes += [(*shape, rows) for shape in DECODER for rows in (7, 300)] + [(256, 128, 4096), (128, 256, 4096)]
        yield from (Case(*shape) for shape in shapes)
        return
    half = torch.bfloat16
    for shape in encoder[1280]:
        yield Case(*shape, 4096, half)
    yield Case(1280, 5120, 4096, half, others=True)
    for size in (4096, 8192):
        yield from (Case(size, size, rows, half, cold=True) for rows in (1, 4, 16, 32, 48, 64, 128))
    yield from (Case(*shape, 7, half) for shape in DECODER)
    for width in (768, 1024):
        yield from (Case(*shape, 4096, half) for shape in encoder[width])
    yield from (Case(1280, 5120, 32768, half), Case(1280, 3840, 25 * 196, half))
    yield from (Case(*shape, 4096, torch.float16) for shape in encoder[1280])
    yield from (Case(4096, 4096, rows, torch.float16, cold=True) for rows in (1, 16))
    for precision in ("high", "highest"):
        yield from (Case(*shape, 4096, precision=precision) for shape in encoder[1280])
        yield from (Case(4096, 4096, rows, precision=precision, cold=True) for rows in (1, 16))
    yield from (Case(4096, 4096, rows, half, cold=True, others=True) for rows in (1, 16))


@cache
@torch.no_grad()
def _layer(in_features: int, out_features: int, device: str) -> HyperLinear:
    """Return a coded layer of this shape, in float32."""
    torch.manual_seed(0)
    linear = nn.Linear(in_features, out_features, device=device)
    student = torch.distributions.StudentT(torch.tensor(6.0, device=device))
    linear.weight.copy_(student.sample(linear.weight.shape) * 0.03)
    return HyperLinear.from_linear(linear)


def sides_of(case: Case, device: str) -> dict[str, Any]:
    """Return the dense layer and ours, with equal weights."""
    exact = copy.deepcopy(_layer(case.in_features, case.out_features, device)).to(case.dtype)
    int8 = copy.deepcopy(exact)
    int8.compute = "int8"
    return {"dense": exact.to_linear(), "exact": exact, "int8": int8}


def measure(case: Case, device: str) -> list[dict[str, object]]:
    """Return a row a side, without what the device is and where its floor lies."""
    torch.set_float32_matmul_precision(case.precision)
    sides = sides_of(case, device)
    weight = sides["exact"].dense_weight(torch.float64)
    torch.manual_seed(1)
    x = torch.randn(case.rows, case.in_features).to(device, case.dtype)
    weights = dict.fromkeys(sides, weight)
    if case.others:
        from tools.bench.layers.others import others_of  # needs Triton

        others, own_weights = others_of(sides["dense"], x)
        sides, weights = sides | others, weights | dict.fromkeys(others, weight) | own_weights
    seconds = _seconds(sides, x, case.cold, device)
    bias = sides["dense"].bias
    return [
        {
            "in": case.in_features,
            "out": case.out_features,
            "rows": case.rows,
            "dtype": case.kind,
            "cache": "cold" if case.cold else "warm",
            "side": name,
            "ms": f"{1e3 * seconds[name]:.4f}",
            "speed": f"{seconds['dense'] / seconds[name]:.3f}",
            "error": f"{_error(side(x), functional.linear(x.double(), weights[name], bias.double())):.2e}",
            "bits_per_weight": f"{8 * (held_bytes(side) - bias.nbytes) / weight.numel():.2f}",
        }
        for name, side in sides.items()
        if name in seconds
    ]


def _error(y: Tensor, exact: Tensor) -> float:
    return float((y.double() - exact).norm() / exact.norm())


def _seconds(sides: Mapping[str, nn.Module], x: Tensor, cold: bool, device: str) -> dict[str, float]:
    """Return what a call of each side takes; on a card as part of a CUDA graph, so that no launch is waited for."""
    if device == "cpu":
        for side in sides.values():
            side(x)
        return alternate({name: partial(side, x) for name, side in sides.items()}, device, least=5, most=200)
    replays: dict[str, Callable[[], object]] = {}
    calls = {}
    for name, side in sides.items():
        copies = max(1, COLD_BYTES // held_bytes(side)) if cold else 1
        calls[name] = max(copies, CALLS)
        try:
            pool = [side, *(copy.deepcopy(side) for _ in range(copies - 1))]
            replays[name] = captured(partial(_call_in_turn, pool, calls[name], x))
            replays[name]()
        except Exception as error:  # a layer of other people that no graph takes
            if name in OURS:
                raise
            print(f"left out: {name}: {type(error).__name__}: {error}", flush=True)
    return {name: took / calls[name] for name, took in alternate(replays, device, least=7, most=50, enough=0.3).items()}


def _call_in_turn(layers: Sequence[nn.Module], count: int, x: Tensor) -> None:
    for at in range(count):
        layers[at % len(layers)](x)


def with_floor(row: dict[str, object], ceilings: Ceilings) -> dict[str, object]:
    """Return a row of a card with the least time that its side can take there, and the share of it in the time taken."""
    rows, in_features, out_features = (int(str(row[name])) for name in ("rows", "in", "out"))
    kind = "int8" if row["side"] in INTEGER else str(row["dtype"])
    itemsize = 4 if row["dtype"] in ("float32", "tf32") else 2
    weight = float(str(row["bits_per_weight"])) / 8 * in_features * out_features
    nbytes = int(weight) + itemsize * rows * (in_features + out_features)
    operations = 2 * rows * in_features * out_features
    floor = 1e3 * ceilings.floor(nbytes, operations, kind)
    share = floor / float(str(row["ms"]))
    figures = (nbytes / 1e6, operations / 1e9, floor, share)
    return row | {name: f"{figure:.4g}" for name, figure in zip(OF_THE_FLOOR, figures, strict=True)}


def run(device: str, budget: Budget) -> list[Row]:
    """Measure the cases as long as the budget lasts; on a card write the CSV after each."""
    where, name = device_columns(device), f"hyperlinear_{device_name(device)}"
    ceilings = written_ceilings() if device == "cuda" else None
    rows: list[Row] = []
    for case in cases(device):
        expected = EXPECTED["peers" if case.others else "bhk"]
        if device == "cuda" and not budget.allows(expected):
            print(f"left out, {max(budget.left, 0):.0f} s left: {case}", flush=True)
            continue
        try:
            found = measure(case, device)
        except Exception as error:  # nothing of one case may keep the rest from being measured
            if device == "cpu":
                raise
            print(f"failed: {case}: {type(error).__name__}: {error}", flush=True)
            continue
        floors = [with_floor(row, ceilings) if ceilings else row | dict.fromkeys(OF_THE_FLOOR, "") for row in found]
        rows += [{**row, **where} for row in floors]
        write_csv(name, rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=200.0, help="on a card: after which no case starts")
    arguments = parser.parse_args()
    with torch.no_grad():
        rows = run(arguments.device, Budget(arguments.seconds))
    show(rows, SHOWN)


if __name__ == "__main__":
    main()
