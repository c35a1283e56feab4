"""SAMs on a CPU: bhk beside the models' own packages, torch.compile, torchao, ONNX Runtime and OpenVINO.

SAM-B, SAM-L, SAM2-B+ and MobileSAM of true size with synthetic weights, float32, one image of 1,024 by 1,024 pixels. All sides
hold the same weights, as bhk's file decodes them. Each runs in a process of its own with as many threads as torch takes, and
takes turns with dense. "dense" is the package's own model; "bfloat16" is the same, cast, and "bhk attention" the same with
bhk's attention, with which bhk's files load, too. "torch.compile" and "torchao int8" compile the image encoder, the second with
int8 weights and inputs. ONNX Runtime and OpenVINO run the exported image encoder, also as their own tools quantise it.
OpenVINO's int8 computes everything else in bfloat16. A side that fails has the reason as its note, and so has "bhk int8" of a
model without a layer large enough for it.

    …_s, …_min_s, …_ratio      median and minimum of the rounds, wall time; the median's ratio to that of dense in these rounds
    encoder                    the image encoder
    floor_s                    multiplications and additions of the encoder over the rates of the numbers in which the side
                               multiplies linear layers, attention and convolutions; `ceilings` measures the rates in the
                               same run. Bytes are ignored. Exact products of integers can be faster.
    error                      of the features, relative to those of dense
    prompt, prompts            one point and 32 points through prompt encoder and mask decoder
    iou_mean, iou_min          of the masks of 32 points with those of dense; where only the encoder runs, dense decodes
    linear_share               memory of the linear layers' weights over that of dense
    load_peak_mib, peak_mib    growth of the process by loading, and by loading and encoding one image, beyond its imports
    first_mask_s               from the start of a fresh process to the mask of one point, with imports; the file lies in the
                               page cache. dense builds its model, reads a .pth file and copies the weights.

The weights are untrained, so masks say how exact the products are, and nothing about quality.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tools.bench.ceilings import Ceilings, ceilings_of
from tools.bench.frame.benchmark import Benchmark, Option, Row, Run
from tools.bench.frame.process import ProcessError, apart, warm
from tools.bench.frame.results import version
from tools.bench.frame.timing import Budget, in_turn
from tools.bench.frame.worker import Worker
from tools.bench.models.sam_parts import relative_error
from tools.bench.models.synthetic import DEMO
from tools.bench.runtimes.in_torch import write_files
from tools.bench.runtimes.runner import PROMPTS, Arrays, Operations, Runner, first_mask, prepare
from tools.bench.runtimes.sides import SIDES, Numbers

MOST = 30  # rounds
ENOUGH = 15.0  # seconds after which no round starts beyond the least
QUICK = "bhk,float32"  # the other runtimes take a minute to compile or quantise


@dataclass(frozen=True)
class Model:
    """A model to run.

    Attributes:
        variant: its name in tests/data/state_dicts, or `DEMO`.
        package: what a process imports before it builds the dense model.
        expected: seconds that all sides are likely to take.
        size: pixels of the side of its image.
    """

    title: str
    variant: str
    package: str
    expected: float
    size: int = 1024

    def __str__(self) -> str:
        return self.title


MODELS = (
    Model("SAM-B", "sam_vit_b", "segment_anything", 1000),
    Model("SAM2-B+", "sam2_hiera_base_plus", "sam2.build_sam", 600),
    Model("MobileSAM", "mobile_sam", "segment_anything_hq", 400),
    Model("SAM-L", "sam_vit_l", "segment_anything", 2400),
)
QUICK_MODEL = Model("demo SAM", DEMO, "segment_anything", 60, size=128)


def measure(model: Model, run: Run) -> Iterator[Row]:
    """Yield the row of each side, and again with the first masks after each round of them."""
    folder = write_files(model.variant, run.folder)
    rows: dict[str, Row] = {
        side: {"model": model.title, "side": side, "version": version(SIDES[side].package)}
        for side in chosen(run["sides"])
    }
    limits = ceilings_of(run)
    with Worker(Runner, "dense", folder, model.package, model.size) as worker:
        dense = _Dense(worker, *worker.found(), worker.operations(), worker.linear_bytes(), limits)
        for side, row in rows.items():
            budget = Budget()
            try:
                row |= _measured(side, dense, model, folder, run)
            except ProcessError as error:
                row["note"] = str(error)
                print(f"{side}: left out after {budget.spent:.0f} s: {error}", flush=True)
            else:
                print(f"{side}: {row['encoder_ratio']} of dense, {budget.spent:.0f} s", flush=True)
            yield row
    yield from _first_masks(rows, model, folder, run["processes"])


def chosen(text: str) -> list[str]:
    """Return the sides whose names have one of the comma-separated texts in them, and always dense."""
    return [name for name in SIDES if name == "dense" or any(part in name for part in text.split(","))]


@dataclass(frozen=True)
class _Dense:
    """The dense side at work, and what it found."""

    worker: Worker
    features: Arrays
    peaks: tuple[float | None, float | None]
    operations: Operations
    linear_bytes: int
    limits: Ceilings


def _measured(side: str, dense: _Dense, model: Model, folder: Path, run: Run) -> Row:
    """Return what a side takes and finds; it takes turns with dense."""
    with contextlib.ExitStack() as stack:
        worker = dense.worker
        if side != "dense":
            if SIDES[side].prepare is not None:
                Worker(prepare, side, folder).close()
            worker = stack.enter_context(Worker(Runner, side, folder, model.package, model.size))
        row = _times("encoder", {"dense": dense.worker.encode, side: worker.encode}, side, run)
        features, (loaded, encoded) = worker.found()
        if SIDES[side].is_whole:
            for part, count in (("prompt", 1), ("prompts", PROMPTS)):
                calls = {"dense": partial(dense.worker.ask, count), side: partial(worker.ask, count)}
                row |= _times(part, calls, side, run)
            row["linear_share"] = f"{worker.linear_bytes() / dense.linear_bytes:.4f}"
        decoder = worker if SIDES[side].is_whole else dense.worker
        iou = _iou(decoder.masks(features), dense.worker.masks(dense.features))
        return row | {
            "floor_s": floor(dense.operations, worker.numbers(), dense.limits),
            "error": f"{_error(features, dense.features):.2e}",
            "iou_mean": f"{iou.mean():.5f}",
            "iou_min": f"{iou.min():.5f}",
            "load_peak_mib": None if loaded is None else f"{loaded:.0f}",
            "peak_mib": None if encoded is None else f"{encoded:.0f}",
        }


def _times(part: str, calls: Mapping[str, Callable[[], Any]], side: str, run: Run) -> Row:
    """Return the columns of a part's seconds; the side takes turns with dense, which is the first side and warm by then."""
    calls[side]()
    found = in_turn(calls, "cpu", least=run["runs"], most=MOST, enough=0.0 if run.quick else ENOUGH)
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    return {
        f"{part}_s": f"{medians[side]:.4f}",
        f"{part}_min_s": f"{min(found[side]):.4f}",
        f"{part}_ratio": f"{medians[side] / medians['dense']:.3f}",
    }


def _error(features: Arrays, expected: Arrays) -> float:
    one, other = (tuple(map(torch.from_numpy, arrays)) for arrays in (features, expected))
    return relative_error(one, other)


def _iou(masks: NDArray[np.bool_], reference: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the intersection over union of each mask (prompts, 3, height, width) with the reference's; 1 for empty ones."""
    union = (masks | reference).sum((2, 3))
    return np.where(union > 0, (masks & reference).sum((2, 3)) / np.maximum(union, 1), 1.0)


def floor(work: Operations, numbers: Numbers, limits: Ceilings) -> str | None:
    """Return the least seconds of an encoder's products in these numbers; None where the rate of a number is unknown."""
    rates = [limits.per_second.get(kind, 0.0) for kind in numbers]
    return f"{sum(count / rate for count, rate in zip(work, rates, strict=True)):.4f}" if all(rates) else None


def _first_masks(rows: dict[str, Row], model: Model, folder: Path, processes: int) -> Iterator[Row]:
    """Start whole models in fresh processes, in turn; yield the rows with the seconds to the first mask after each round."""
    for file in folder.iterdir():
        warm(file)
    arguments = model.package, model.size, torch.get_num_threads()
    seconds: dict[str, list[float]] = {side: [] for side in rows if SIDES[side].is_whole}
    for _ in range(processes):
        for side, found in seconds.items():
            row = rows[side]
            if "note" not in row:
                try:
                    found.append(apart(first_mask, side, folder, *arguments).seconds)
                except ProcessError as error:
                    row["note"] = f"from a cold file: {error}"
            if found and seconds["dense"]:
                median, dense = statistics.median(found), statistics.median(seconds["dense"])
                row |= {"first_mask_s": f"{median:.3f}", "first_mask_ratio": f"{median / dense:.3f}"}
            yield row


BENCHMARK = Benchmark(
    lambda run: [QUICK_MODEL] if run.quick else MODELS,
    measure,
    case="model side",
    figures="encoder_s encoder_min_s encoder_ratio floor_s error "
    "prompt_s prompt_min_s prompt_ratio prompts_s prompts_min_s prompts_ratio "
    "iou_mean iou_min linear_share load_peak_mib peak_mib first_mask_s first_mask_ratio version note",
    csv="sam_{device}",
    shown="model side encoder_s encoder_ratio floor_s error prompt_ratio peak_mib first_mask_ratio note",
    options={
        "sides": Option(
            "", "measure only sides with one of these texts in their names, comma-separated, and dense", QUICK
        ),
        "runs": Option(3, "rounds at least", quick=1),
        "processes": Option(3, "fresh processes of each whole model", quick=1),
    },
    expected=lambda model, run: model.expected,
)
