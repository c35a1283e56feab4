"""Accuracy and fidelity of a small Segment Anything model's masks under a coder of its weights; see `demo_sam`."""

from __future__ import annotations

import functools
import tempfile
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

import bhk
import bhk.kernels.reference
from bhk.evaluation.intervals import estimate, ratio, resampled_sums
from bhk.evaluation.models import Subject
from bhk.pictures.masks import bounding_box, innermost_point, mask_iou
from bhk.pictures.prompts import Prompt
from bhk.pictures.scenes import HELD_OUT, Scene, make_scene
from tools.bench.coders.base import Coder, coder_row, tensor_bytes
from tools.bench.coders.bhk import Bhk
from tools.bench.frame.benchmark import Row, Run
from tools.bench.frame.plot import Panel

HALF_PRECISION = 2.0**-11  # relative rounding error of float16
KINDS = ("box", "point")
OF_A_KIND = ("miou_original", "miou", "drop", "drop_low", "drop_high", "iou", "iou_p01")
FIGURES = " ".join(
    ["bytes ratio scenes objects", *(f"{kind}_{figure}" for kind in KINDS for figure in OF_A_KIND), "note version"]
)
MASKS = Panel(
    lambda row: 1 - (float(row["box_iou"]) + float(row["point_iou"])) / 2,
    "1 - IoU with the original's masks, boxes and points (less is better)",
)
POINTS = Panel(
    lambda row: float(row["point_drop"]),
    "mIoU lost by one-point prompts, per cent (less is better)",
    ("point_drop_low", "point_drop_high"),
)

Masks = NDArray[np.bool_]  # of a scene: (objects, height, width), of answers (objects, kinds, height, width)


def float32_checkpoint(source: Path, target: Path) -> Path:
    """Write a float32 checkpoint from which the float16 weights of `source` could have been rounded; return its path.

    Noise below half a step fills the bits that float16 lacks; zeros there would flatter coders without loss.
    """
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, tensor in load_file(source).items():
        noise = torch.rand(tensor.shape, generator=generator) - 0.5
        tensors[name] = tensor.float() * (1 + noise * HALF_PRECISION)
    save_file(tensors, target)
    return target


def prepare(run: Run) -> Path:
    """Write the float32 checkpoint of a run, and return its path."""
    return float32_checkpoint(run["checkpoint"], _checkpoint(run))


def _checkpoint(run: Run) -> Path:
    return run.folder / "sam.safetensors"


def measure(coder: Coder, run: Run) -> list[Row]:
    """Encode and decode the checkpoint that `prepare` wrote, and ask the decoded model for masks."""
    return [coder_row(coder, partial(_figures, coder, _checkpoint(run), run["scenes"]))]


def _figures(coder: Coder, checkpoint: Path, scenes: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "compressed.bhk"
        coder.encode(checkpoint, target)
        size = target.stat().st_size
        # The model's layers are smaller than those for which codes and 8-bit activations pay; here, all layers use them.
        with mock.patch.object(bhk.kernels.reference, "INTEGER_SIZE", 0):
            found = answers(_decoded(coder, target, checkpoint), scenes)
    rate: Row = {"bytes": size, "ratio": f"{tensor_bytes(checkpoint) / size:.3f}"}
    return rate | compared(scenes, original_answers(checkpoint, scenes), found)


def _decoded(coder: Coder, path: Path, checkpoint: Path) -> nn.Module:
    if isinstance(coder, Bhk):
        return bhk.load(path, mode="hyper", compute=coder.compute)
    model = bhk.load(checkpoint)
    model.load_state_dict(coder.decode(path))
    return model


@functools.cache
def held_out(scenes: int) -> list[Scene]:
    """Return scenes that no model was trained on."""
    return [make_scene(seed) for seed in range(HELD_OUT, HELD_OUT + scenes)]


@functools.cache
def original_answers(checkpoint: Path, scenes: int) -> list[Masks]:
    """Return the answers of the original weights."""
    return answers(bhk.load(checkpoint), scenes)


def answers(model: nn.Module, scenes: int) -> list[Masks]:
    """Return for each scene masks (objects, kinds, height, width)."""
    subject, found = Subject(model), []
    for scene in held_out(scenes):
        subject.look(scene.picture)
        masks = [subject.answer(prompt, multimask=False)[0][0] for mask in scene.masks for prompt in _prompts(mask)]
        found.append(np.stack(masks).reshape(len(scene.masks), len(KINDS), *scene.masks.shape[1:]))
    return found


def _prompts(mask: NDArray[np.bool_]) -> tuple[Prompt, ...]:
    """Return a prompt of each of `KINDS`."""
    x, y = innermost_point(mask)
    return Prompt(box=bounding_box(mask)), Prompt(points=((x, y),))


def compared(scenes: int, original: list[Masks], found: list[Masks]) -> Row:
    """Return the columns of accuracy and fidelity."""
    truths = [scene.masks for scene in held_out(scenes)]
    ious = [_ious(*masks) for masks in zip(truths, original, found, strict=True)]
    columns: Row = {"scenes": scenes, "objects": sum(map(len, truths))}
    for index, kind in enumerate(KINDS):
        of_kind = [values[:, index] for values in ious]
        before, after, alike = np.concatenate(of_kind).T
        sums = resampled_sums(np.array([values[:, :2].sum(axis=0) for values in of_kind]).T, seed=0)
        drop = estimate(100 * (1 - ratio(sums[1], sums[0])))
        mious = [f"{value:.4f}" for value in (before.mean(), after.mean())]
        drops = [f"{value:.3f}" for value in (drop.value, drop.low, drop.high)]
        fidelity = [f"{value:.4f}" for value in (alike.mean(), np.quantile(alike, 0.01))]
        names = [f"{kind}_{figure}" for figure in OF_A_KIND]
        columns |= dict(zip(names, [*mious, *drops, *fidelity], strict=True))
    return columns


def _ious(truths: Masks, original: Masks, found: Masks) -> NDArray[np.float64]:
    """Return (objects, kinds, 3): IoU of the original with the truth, of the other with the truth, and of the two."""
    return np.array(
        [
            [(mask_iou(a, truth), mask_iou(b, truth), mask_iou(a, b)) for a, b in zip(*answered, strict=True)]
            for truth, *answered in zip(truths, original, found, strict=True)
        ]
    )
