"""HyperLinear beside nn.Linear, layer by layer, in one run: `python -m tools.bench.hyperlinear [--device cuda]`.

Shapes are those of SAM image encoders and mask decoders; weights follow Student's t and are coded with the default preset.
Both sides hold the same decoded weights in the same dtype. Times are medians in milliseconds, the sides taken in turn. On a
CPU that is wall time. On a card it is the time by events of replayed CUDA graphs; "cold" rotates through copies of the
weight that together exceed the L2 cache several times, "warm" uses one. Errors are relative to the float64 product with the
decoded weights. The CSV is named after the device.
"""

from __future__ import annotations

import argparse
import copy
import re
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from bhk.nn import HyperLinear
from tools.bench.table import Row, environment, show, write_csv

SHOWN = ("in", "out", "rows", "dtype", "cache", "dense_ms", "exact_ms", "int8_ms", "exact_speed", "int8_speed")
WIDTHS = {"SAM-B": 768, "SAM-L": 1024, "SAM-H": 1280}
DECODER = ((256, 256), (256, 128), (128, 256), (256, 2048), (2048, 256))
COLD_BYTES = 400 << 20  # several times the L2 cache of any card


@dataclass(frozen=True)
class Case:
    """One layer and input to measure."""

    in_features: int
    out_features: int
    rows: int
    dtype: torch.dtype
    precision: str  # of float32 products: "highest" is IEEE, "high" is TF32
    cold: bool


def cases(device: str) -> Iterator[Case]:
    """Yield the cases for a device: every encoder layer at many rows, decoder and square layers at few."""
    encoder = [(width, out) for width in WIDTHS.values() for out in (3 * width, width, 4 * width)]
    encoder += [(4 * width, width) for width in WIDTHS.values()]
    if device == "cpu":
        shapes = [(*shape, 4096) for shape in encoder if 768 in shape]
        shapes += [(*shape, rows) for shape in DECODER for rows in (7, 300)] + [(256, 128, 4096), (128, 256, 4096)]
        for shape in shapes:
            yield Case(*shape, torch.float32, "highest", False)
        return
    for dtype, precision in (
        (torch.bfloat16, "highest"),
        (torch.float16, "highest"),
        (torch.float32, "highest"),
        (torch.float32, "high"),
    ):
        for shape in encoder:
            yield Case(*shape, 4096, dtype, precision, False)
        for size in (4096, 8192):
            for rows in (1, 4, 16, 32, 48, 64, 128):
                yield Case(size, size, rows, dtype, precision, True)
        for shape in DECODER:
            for rows in (1, 7, 64):
                yield Case(*shape, rows, dtype, precision, False)


def measure(case: Case, device: str) -> Row:
    """Return the row of a case."""
    torch.set_float32_matmul_precision(case.precision)
    exact = copy.deepcopy(_layer(case.in_features, case.out_features)).to(device, case.dtype)
    int8 = copy.deepcopy(exact)
    int8.compute = "int8"
    layers = {"dense": exact.to_linear(), "exact": exact, "int8": int8}
    x = torch.randn(case.rows, case.in_features).to(device, case.dtype)
    truth = x.double() @ exact.dense_weight(torch.float64).t()
    if exact.bias is not None:
        truth += exact.bias.double()
    seconds = _time_on_card(layers, x, case.cold) if device == "cuda" else _time_on_cpu(layers, x)
    row: dict[str, object] = {
        "in": case.in_features,
        "out": case.out_features,
        "rows": case.rows,
        "dtype": str(case.dtype).removeprefix("torch.") + (" (tf32)" if case.precision == "high" else ""),
        "cache": "cold" if case.cold else "warm",
        "bits_per_weight": f"{exact.bits_per_weight:.2f}",
        "outliers": len(exact.outliers),
    }
    for name, layer in layers.items():
        row[f"{name}_ms"] = f"{1e3 * seconds[name]:.4f}"
        row[f"{name}_error"] = f"{float((layer(x).double() - truth).norm() / truth.norm()):.2e}"
    for name in ("exact", "int8"):
        row[f"{name}_speed"] = f"{seconds['dense'] / seconds[name]:.2f}"
    return {**row, **_where(device)}


@cache
def _layer(in_features: int, out_features: int) -> HyperLinear:
    """Return a coded layer of this shape, on the CPU."""
    torch.manual_seed(0)
    linear = nn.Linear(in_features, out_features)
    linear.weight.copy_(torch.distributions.StudentT(6.0).sample(linear.weight.shape) * 0.03)
    return HyperLinear.from_linear(linear)


def _time_on_cpu(layers: dict[str, nn.Module], x: Tensor) -> dict[str, float]:
    """Return the median wall time of each layer, taken in turn, after one call to warm up."""
    times: dict[str, list[float]] = {name: [] for name in layers}
    started = time.perf_counter()
    while len(times["dense"]) < 5 or (time.perf_counter() - started < 1.0 and len(times["dense"]) < 200):
        for name, layer in layers.items():
            begin = time.perf_counter()
            layer(x)
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def _time_on_card(layers: dict[str, nn.Module], x: Tensor, cold: bool) -> dict[str, float]:
    """Return the median time a call of each layer, in CUDA graphs taken in turn."""
    graphs: dict[str, tuple[torch.cuda.CUDAGraph, int, list[nn.Module]]] = {}
    for name, layer in layers.items():
        held = sum(tensor.nbytes for tensor in layer.state_dict().values())
        copies = max(1, COLD_BYTES // held) if cold else 1
        calls = max(copies, 20)
        pool = [layer] + [copy.deepcopy(layer) for _ in range(copies - 1)]
        graphs[name] = (
            _captured(lambda pool=pool, calls=calls: [pool[i % len(pool)](x) for i in range(calls)]),
            calls,
            pool,
        )
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(7):
        for name, (graph, calls, _) in graphs.items():
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            times[name].append(begin.elapsed_time(end) / 1e3 / calls)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def _captured(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """Return `work` as a CUDA graph, warmed up first."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def _where(device: str) -> Row:
    if device == "cpu":
        return {"device": "cpu", "capability": torch.backends.cpu.get_cpu_capability(), **environment()}
    import triton

    capability = "sm_{}{}".format(*torch.cuda.get_device_capability())
    versions = {"cuda": torch.version.cuda, "triton": triton.__version__}
    return {"device": torch.cuda.get_device_name(), "capability": capability, **environment(), **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    device = parser.parse_args().device
    with torch.no_grad():
        rows = [measure(case, device) for case in cases(device)]
    name = "cpu" if device == "cpu" else re.sub(r"\W+", "_", torch.cuda.get_device_name().lower())
    show(rows, SHOWN)
    print(write_csv(f"hyperlinear_{name}", rows))


if __name__ == "__main__":
    main()
