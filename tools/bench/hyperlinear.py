"""HyperLinear beside other linear layers.

Shapes are those of SAM image encoders and mask decoders; weights follow Student's t and are coded with the default preset.
"dense", "exact" and "int8" hold the same decoded weights in the same dtype. On a GPU, some shapes are also measured with other
people's layers (`layers/peers`), the published kernel's scheme (`layers/published`), and weights resident at 6 bits beside 8
(`layers/six_bits`). Times are medians in milliseconds, the sides in turn: wall time on a CPU, CUDA events around replayed CUDA
graphs on a GPU. "cold" rotates through copies of the weight that exceed the L2 cache several times, "warm" uses one. Errors
are relative to the float64 product with the decoded weights.

The floor is the larger of two times: the bytes that a side must move (its weight, inputs, outputs) over the GPU's copying
rate, and its operations over the GPU's rate for that kind of number. Both rates are measured in the same run (`ceilings`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bhk.nn import HyperLinear
from tools.bench.ceilings import Ceilings, ceilings_of
from tools.bench.frame.benchmark import Benchmark, Row, Rows, Run, one_line
from tools.bench.frame.memory import held_bytes
from tools.bench.frame.timing import alternate, captured

WIDTHS = (768, 1024, 1280)  # of SAM-B, SAM-L, SAM-H
DECODER = ((256, 256), (256, 128), (128, 256), (256, 2048), (2048, 256))
COLD_BYTES = 400 << 20  # several times the L2 cache of any GPU
CALLS = 20  # in a graph, at least
OURS = ("dense", "exact", "int8")
INTEGER = ("int8", "torchao W8A8", "bitsandbytes int8", "bitsandbytes LLM.int8")  # sides that multiply bytes


@dataclass(frozen=True)
class Case:
    """One layer and input.

    Attributes:
        precision: of float32 products: "highest" is IEEE, "high" is TF32.
        others: measure other people's layers and experiments, too.
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
        """The numbers of its products."""
        return "tf32" if self.precision == "high" else str(self.dtype).removeprefix("torch.")

    def __str__(self) -> str:
        parts = (f"{self.in_features} to {self.out_features}", f"{self.rows} rows", self.kind)
        return ", ".join([*parts, *["cold"] * self.cold, *["others"] * self.others])


def cases(run: Run) -> Iterator[Case]:
    """Yield the cases for a device, on a GPU the most important first."""
    encoder = {width: [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)] for width in WIDTHS}
    if run.quick:
        yield Case(256, 128, 7)
        return
    if run.device == "cpu":
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


@torch.no_grad()
def measure(case: Case, run: Run) -> Rows:
    torch.set_float32_matmul_precision(case.precision)
    limits = ceilings_of(run) if run.device == "cuda" else None
    sides = sides_of(case, run.device)
    weight = sides["exact"].dense_weight(torch.float64)
    torch.manual_seed(1)
    x = torch.randn(case.rows, case.in_features).to(run.device, case.dtype)
    weights = dict.fromkeys(sides, weight)
    if case.others:
        from tools.bench.layers.peers import others_of  # some of them need Triton

        others, own_weights = others_of(sides["dense"], x)
        sides, weights = sides | others, weights | dict.fromkeys(others, weight) | own_weights
    seconds = _seconds(sides, x, case.cold, run.device)
    bias = sides["dense"].bias
    rows: Rows = [
        {
            "in": case.in_features,
            "out": case.out_features,
            "rows": case.rows,
            "dtype": case.kind,
            "cache": "cold" if case.cold else "warm",
            "side": side,
            "ms": f"{1e3 * seconds[side]:.4f}",
            "speed": f"{seconds['dense'] / seconds[side]:.3f}",
            "error": f"{_error(layer(x), functional.linear(x.double(), weights[side], bias.double())):.2e}",
            "bits_per_weight": f"{8 * (held_bytes(layer) - bias.nbytes) / weight.numel():.2f}",
        }
        for side, layer in sides.items()
        if side in seconds
    ]
    return [with_floor(row, limits) if limits else row for row in rows]


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


def _error(y: Tensor, exact: Tensor) -> float:
    return float((y.double() - exact).norm() / exact.norm())


def _seconds(sides: Mapping[str, nn.Module], x: Tensor, cold: bool, device: str) -> dict[str, float]:
    """Return the seconds of a call of each side; on a GPU within a CUDA graph, so that nothing waits for launches."""
    if device == "cpu":
        for layer in sides.values():
            layer(x)
        return alternate({side: partial(layer, x) for side, layer in sides.items()}, device, least=5, most=200)
    replays: dict[str, Callable[[], object]] = {}
    calls = {}
    for side, layer in sides.items():
        copies = max(1, COLD_BYTES // held_bytes(layer)) if cold else 1
        calls[side] = max(copies, CALLS)
        try:
            pool = [layer, *(copy.deepcopy(layer) for _ in range(copies - 1))]
            replays[side] = captured(partial(_call_in_turn, pool, calls[side], x))
            replays[side]()
        except Exception as error:  # another package's layer that no graph can capture
            if side in OURS:
                raise
            print(f"{side}: left out: {one_line(error)}", flush=True)
    return {side: took / calls[side] for side, took in alternate(replays, device, least=7, most=50, enough=0.3).items()}


def _call_in_turn(layers: Sequence[nn.Module], count: int, x: Tensor) -> None:
    for at in range(count):
        layers[at % len(layers)](x)


def with_floor(row: Row, limits: Ceilings) -> Row:
    """Return a row with the least time that its side can take on the GPU, and its share of the time taken."""
    rows, in_features, out_features = (int(str(row[name])) for name in ("rows", "in", "out"))
    kind = "int8" if row["side"] in INTEGER else str(row["dtype"])
    itemsize = 4 if row["dtype"] in ("float32", "tf32") else 2
    weight = float(str(row["bits_per_weight"])) / 8 * in_features * out_features
    nbytes = int(weight) + itemsize * rows * (in_features + out_features)
    operations = 2 * rows * in_features * out_features
    floor = 1e3 * limits.floor(nbytes, operations, kind)
    figures = {
        "megabytes": nbytes / 1e6,
        "gigaflop": operations / 1e9,
        "floor_ms": floor,
        "share": floor / float(str(row["ms"])),
    }
    return row | {name: f"{figure:.4g}" for name, figure in figures.items()}


BENCHMARK = Benchmark(
    cases,
    measure,
    case="in out rows dtype cache side",
    figures="ms speed error bits_per_weight megabytes gigaflop floor_ms share",
    csv="hyperlinear_{device}",
    shown="in out rows dtype cache side ms speed share error",
    devices=("cpu", "cuda"),
    expected=lambda case, run: 0.0 if run.device == "cpu" else 75.0 if case.others else 10.0,  # most of it to compile
)
