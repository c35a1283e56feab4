"""Accuracy and fidelity of a small Segment Anything model's masks under a coder of its weights: what benchmarks share.

Rate: bytes of the float32 tensors over bytes of the compressed file, everything counted. Accuracy: mIoU with the objects of
scenes that were not trained on, each asked for by its box and by its innermost point, single-mask output; what is lost, in
per cent of the original's. Fidelity: IoU with the original's masks. Intervals are of 95 %, over scenes.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import nn

import bhk
import bhk.kernels.reference
from bhk.codec.fit import PresetError
from bhk.evaluation.intervals import bootstrap
from bhk.evaluation.models import Subject
from bhk.pictures.masks import bounding_box, innermost_point, mask_iou
from bhk.pictures.prompts import Prompt
from bhk.pictures.scenes import HELD_OUT, Scene, make_scene
from tools.bench.coders.bhk import Bhk
from tools.bench.coders.peers import Coder, installed
from tools.bench.frame.results import ROOT, Row, environment, version

CHECKPOINT = ROOT / "examples" / "demo" / "demo_sam.safetensors"
SCENES = 40
HALF_PRECISION = 2.0**-11  # relative rounding error of float16
KINDS = ("box", "point")
SHOWN = ("coder", "setting", "ratio", "box_miou", "point_miou", "box_drop", "point_drop", "box_iou", "point_iou")

Masks = NDArray[np.bool_]  # of a scene: (objects, height, width), of answers (objects, kinds, height, width)


@dataclass(frozen=True)
class Work:
    """What every coder is measured with.

    Attributes:
        checkpoint: .safetensors, float32.
        scenes: how many.
    """

    checkpoint: Path
    scenes: int

    def measure(self, coder: Coder) -> Row:
        """Encode, decode, and ask the model that comes of it."""
        figures: dict[str, object] = {}
        note = f"not installed: pip install {coder.package}"
        if installed(coder):
            try:
                figures, note = self._figures(coder), coder.note
            except PresetError as error:  # a ratio out of reach
                note = str(error)
        Console(stderr=True).print(f"{coder.name} {coder.setting} done")
        named = {"coder": coder.name, "setting": coder.setting}
        return named | figures | {"note": note, "version": version(coder.package)}

    def _figures(self, coder: Coder) -> dict[str, object]:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "compressed.bhk"
            coder.encode(self.checkpoint, target)
            dense = sum(tensor.nbytes for tensor in load_file(self.checkpoint).values())
            size = target.stat().st_size
            # The model's layers are smaller than those from which 8-bit activations pay; here, all take them.
            with mock.patch.object(bhk.kernels.reference, "INTEGER_SIZE", 0):
                found = answers(_decoded(coder, target, self.checkpoint), self.scenes)
        return {"bytes": size, "ratio": f"{dense / size:.3f}"} | compared(self.scenes, original_answers(self), found)


def _decoded(coder: Coder, path: Path, checkpoint: Path) -> nn.Module:
    if isinstance(coder, Bhk):
        return bhk.load(path, compute=coder.compute)
    model = bhk.load(checkpoint)
    model.load_state_dict(coder.decode(path))
    return model


@functools.cache
def held_out(scenes: int) -> list[Scene]:
    return [make_scene(seed) for seed in range(HELD_OUT, HELD_OUT + scenes)]


@functools.cache
def original_answers(work: Work) -> list[Masks]:
    return answers(bhk.load(work.checkpoint), work.scenes)


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


def compared(scenes: int, original: list[Masks], found: list[Masks]) -> dict[str, object]:
    """Return the columns of accuracy and fidelity."""
    truths = [scene.masks for scene in held_out(scenes)]
    ious = [_ious(*masks) for masks in zip(truths, original, found, strict=True)]
    columns: dict[str, object] = {"scenes": scenes, "objects": sum(map(len, truths))}
    for index, kind in enumerate(KINDS):
        of_kind = [values[:, index] for values in ious]
        before, after, alike = np.concatenate(of_kind).T
        drop = bootstrap(of_kind, lambda values: 100 * float(1 - values[:, 1].mean() / values[:, 0].mean()), seed=0)
        columns |= {
            f"{kind}_miou_original": f"{before.mean():.4f}",
            f"{kind}_miou": f"{after.mean():.4f}",
            f"{kind}_drop": f"{drop.value:.3f}",
            f"{kind}_drop_low": f"{drop.low:.3f}",
            f"{kind}_drop_high": f"{drop.high:.3f}",
            f"{kind}_iou": f"{alike.mean():.4f}",
            f"{kind}_iou_p01": f"{np.quantile(alike, 0.01):.4f}",
        }
    return columns


def _ious(truths: Masks, original: Masks, found: Masks) -> NDArray[np.float64]:
    """Return (objects, kinds, 3): IoU of the original with the truth, of the other with the truth, and of the two."""
    return np.array(
        [
            [(mask_iou(a, truth), mask_iou(b, truth), mask_iou(a, b)) for a, b in zip(*answered, strict=True)]
            for truth, *answered in zip(truths, original, found, strict=True)
        ]
    )


@contextlib.contextmanager
def float32_checkpoint(source: Path) -> Iterator[Path]:
    """Give a float32 checkpoint that the float16 weights of `source` may have been rounded from, for as long as it is used.

    Noise below half a step fills the bits that float16 has not; zeros there would flatter who compresses without loss.
    """
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, tensor in load_file(source).items():
        noise = torch.rand(tensor.shape, generator=generator) - 0.5
        tensors[name] = tensor.float() * (1 + noise * HALF_PRECISION)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "sam.safetensors"
        save_file(tensors, checkpoint)
        yield checkpoint


def run(work: Work, chosen: Iterable[Coder], workers: int) -> list[Row]:
    """Measure coders side by side, in processes of one thread each."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        measured = pool.map(work.measure, list(chosen), chunksize=1)
    where = environment() | {"threads": 1}
    empty = dict.fromkeys(measured[0], "")
    return [empty | row | where for row in measured]
