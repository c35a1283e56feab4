"""Video and everything on a CPU: the packages' own predictors with dense and with compressed models.

"video" is SAM 2's video predictor with SAM2-B+: it reads three frames, takes one point in the first, and follows the object.
"everything" is segment_anything's automatic mask generator with eight points a side, on a picture of the demo. SAM2-B+ and
SAM-B have synthetic weights of true size, and all sides hold the same weights. The masks of SAM-B's are no objects, so its
generator keeps them all: three for each point. The demo SAM is trained; its layers, which bhk would hold dense on a CPU, keep
their codes, and int8 rounds in all of them: its rows are there for the masks, not for the time. Each side runs in a process of
its own, and they take turns.

Seconds are the median of the whole task without loading, wall time. Each mask is compared with the most similar one of dense;
of synthetic weights, that says how exact the products are, and nothing about quality. Peak memory is the growth of the process
by loading and by the first run of the task, beyond its imports.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import bhk
from bhk.nn.hyperlinear import Compute
from bhk.pictures.image import read_image
from bhk.pictures.masks import mask_iou
from tools.bench.frame.benchmark import Benchmark, Option, Row, Run
from tools.bench.frame.memory import HostPeak
from tools.bench.frame.timing import elapsed
from tools.bench.frame.worker import Worker
from tools.bench.models.synthetic import DEMO
from tools.bench.runtimes.in_torch import CODED, DENSE, coded_model, dense_model, write_files
from tools.demo import PICTURES

PICTURE = PICTURES / "toys.jpg"
POINTS_PER_SIDE = 8
FRAMES = 3
STEP = 12  # pixels by which the picture moves from frame to frame
CONFIG = "configs/sam2/sam2_hiera_b+.yaml"
SIDES: dict[str, Compute | None] = {"dense": None, "bhk exact": "exact", "bhk int8": "int8"}

Masks = NDArray[np.bool_]  # (masks, height, width)


class Task(Protocol):
    """A task with a loaded model."""

    def run(self) -> Masks:
        """Return the masks that the task finds."""


class Everything:
    """The automatic mask generator on one picture, with its usual filters of masks or with `filters`."""

    def __init__(self, folder: Path, side: str, filters: Mapping[str, float] = MappingProxyType({})) -> None:
        from segment_anything import SamAutomaticMaskGenerator

        compute = SIDES[side]
        model = dense_model(folder) if compute is None else coded_model(folder, compute)
        self._generator = SamAutomaticMaskGenerator(model.eval(), POINTS_PER_SIDE, **filters)
        self._picture = read_image(PICTURE)

    def run(self) -> Masks:
        """Return the masks of everything in the picture."""
        return np.stack([found["segmentation"] for found in self._generator.generate(self._picture)])


class Video:
    """The video predictor on a few frames."""

    def __init__(self, folder: Path, side: str) -> None:
        from sam2.build_sam import build_sam2_video_predictor

        compute = SIDES[side]
        self._predictor = build_sam2_video_predictor(CONFIG, folder / DENSE if compute is None else None, "cpu")
        if compute is not None:
            bhk.load_into(self._predictor, folder / CODED, compute=compute)
        self._frames = folder / "frames"

    def run(self) -> Masks:
        """Return the masks of an object in the frames."""
        state = self._predictor.init_state(str(self._frames))
        centre = np.array([[state["video_width"] / 2, state["video_height"] / 2]], np.float32)
        self._predictor.add_new_points_or_box(state, 0, 1, points=centre, labels=np.array([1]))
        return np.stack([(logits[0, 0] > 0).numpy() for _, _, logits in self._predictor.propagate_in_video(state)])


@dataclass(frozen=True)
class Case:
    """A task and a model."""

    task: str
    model: str
    variant: str
    package: str
    make: Callable[[Path, str], Task]

    def __str__(self) -> str:
        return f"{self.task}, {self.model}"


KEEP_ALL = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
EVERYTHING = Case("everything", "SAM-B", "sam_vit_b", "segment_anything", partial(Everything, filters=KEEP_ALL))
QUICK = Case("everything", "demo SAM", DEMO, "segment_anything", Everything)
VIDEO = Case("video", "SAM2-B+", "sam2_hiera_base_plus", "sam2.build_sam", Video)


def cases(run: Run) -> list[Case]:
    return [QUICK] if run.quick else [EVERYTHING, QUICK, VIDEO]


class Runner:
    """A side of a case in a process of its own; it has run its task once."""

    def __init__(self, case: Case, folder: Path, side: str) -> None:
        torch.set_grad_enabled(False)
        __import__(case.package)
        peak = HostPeak()
        self._task = case.make(folder, side)
        self._masks = self._task.run()
        self._peak = peak.mib

    def run(self) -> None:
        """Do the task."""
        self._task.run()

    def found(self) -> tuple[Masks, float | None]:
        """Return the masks, and MiB by which the process has grown at most when it had done the task once."""
        return self._masks, self._peak


def measure(case: Case, run: Run) -> Iterator[Row]:
    """Yield the row of each side after each round, with the median of all rounds so far."""
    folder = write_files(case.variant, run.folder)
    write_frames(folder / "frames")
    with contextlib.ExitStack() as stack:
        workers = {side: stack.enter_context(Worker(Runner, case, folder, side)) for side in SIDES}
        expected, _ = workers["dense"].found()
        rows = {side: _found(case, side, worker, expected) for side, worker in workers.items()}
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(run["runs"]):
            for side, worker in workers.items():
                times[side].append(elapsed(worker.run, "cpu"))
                median, dense = (statistics.median(times[which]) for which in (side, "dense"))
                yield rows[side] | {
                    "seconds": f"{median:.3f}",
                    "min_seconds": f"{min(times[side]):.3f}",
                    "ratio": f"{median / dense:.3f}",
                }


def _found(case: Case, side: str, worker: Worker, expected: Masks) -> Row:
    """Return a side's row, but for its times."""
    masks, peak = worker.found()
    ious = [max((mask_iou(mask, other) for other in expected), default=0.0) for mask in masks]
    return {
        "task": case.task,
        "model": case.model,
        "side": side,
        "masks": len(masks),
        "iou_mean": f"{statistics.mean(ious):.5f}" if ious else None,
        "iou_min": f"{min(ious):.5f}" if ious else None,
        "peak_mib": None if peak is None else f"{peak:.0f}",
    }


def write_frames(folder: Path) -> None:
    """Write the frames of a video: a window that moves over the picture."""
    folder.mkdir()
    picture = Image.open(PICTURE)
    side = min(picture.size) - FRAMES * STEP
    for index in range(FRAMES):
        at = index * STEP
        picture.crop((at, at, at + side, at + side)).save(folder / f"{index:05}.jpg", quality=95)


BENCHMARK = Benchmark(
    cases,
    measure,
    case="task model side",
    figures="seconds min_seconds ratio masks iou_mean iou_min peak_mib",
    csv="predictors_{device}",
    options={"runs": Option(2, "rounds", quick=1)},
    expected=lambda case, run: 300.0,
)
