"""Throughput of an evaluation: processes of this machine beside workers on Ray, one and two of them.

`bhk.fidelity` of the demo SAM on drawn scenes, without the control. Each case is an evaluation of its own, with the start of
processes or of Ray.

    seconds             the whole evaluation
    pictures_a_second   from the first results to the last
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

import bhk
from bhk.pictures.scenes import make_scene
from tools.bench.frame.benchmark import Benchmark, Option, Rows, Run
from tools.bench.frame.results import version
from tools.bench.models.synthetic import DEMO, make


@dataclass(frozen=True)
class Case:
    """Who computes."""

    engine: str
    workers: int

    def __str__(self) -> str:
        return f"{self.engine} with {self.workers}"


def cases(run: Run) -> Iterator[Case]:
    """Yield the engines in turn."""
    for workers in (1, 2):
        for engine in ("processes", "ray"):
            yield Case(engine, workers)


def measure(case: Case, run: Run) -> Rows:
    original, model, pictures = (run.folder / name for name in ("original.pth", "model.bhk", "pictures"))
    if not pictures.exists():
        make(DEMO, original)
        bhk.convert(original, model)
        pictures.mkdir()
        for number in range(run["images"]):
            Image.fromarray(make_scene((1 << 40) + number).picture).save(pictures / f"{number:04}.png")
    seen: list[tuple[float, int]] = []
    workers = case.workers if case.engine == "processes" else bhk.Ray("local", workers=case.workers)
    started = time.perf_counter()
    found = bhk.fidelity(
        model,
        pictures,
        against=original,
        settings=bhk.FidelitySettings(control=False),
        workers=workers,
        progress=lambda _, done, total: seen.append((time.perf_counter(), done)),
    )
    seconds = time.perf_counter() - started
    (begun, first), (ended, last) = seen[1], seen[-1]
    return [
        {
            "engine": case.engine,
            "workers": case.workers,
            "pictures": found.pictures,
            "seconds": f"{seconds:.1f}",
            "pictures_a_second": f"{(last - first) / (ended - begun):.2f}",
            "ray": version("ray"),
        }
    ]


BENCHMARK = Benchmark(
    cases,
    measure,
    case="engine workers",
    figures="pictures seconds pictures_a_second ray",
    csv="cluster",
    options={"images": Option(160, "pictures to evaluate", quick=16)},
    expected=lambda case, run: 120,
)
