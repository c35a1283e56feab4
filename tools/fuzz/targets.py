"""What is fuzzed. Each target reads one input and raises if its reader does what it must not."""

from __future__ import annotations

import io
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

import bhk
from bhk import checkpoint
from bhk.evaluation.annotations.errors import AnnotationError
from bhk.evaluation.annotations.reading import read_annotations, resolve
from bhk.evaluation.annotations.segmentation import read_segmentation
from bhk.evaluation.faults import FaultLog
from tools.corruption.forged_headers import DRAFTS
from tools.corruption.readers import ours
from tools.fuzz import structure


@dataclass(frozen=True)
class Target:
    """A reader that is fuzzed.

    Attributes:
        run: reads an input; raises only if the reader does what it must not.
        seeds: yields sound inputs.
        change: changes an input and keeps its structure.
        modules: what is watched for coverage.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    change: Callable[[bytes, random.Random, structure.Mutate], bytes]
    modules: tuple[str, ...]


class DisagreementError(Exception):
    """Two readers give different verdicts or values."""


@cache
def _folder() -> Path:
    """Return a folder of this process, which is removed at its end."""
    holder = tempfile.TemporaryDirectory(prefix="bhk-fuzz-")
    _kept.append(holder)
    return Path(holder.name)


_kept: list[object] = []


def container(data: bytes) -> None:
    """Read a `.bhk` file with the library and the reference reader: equal verdicts, equal values."""
    file = _folder() / "file.bhk"
    file.write_bytes(data)
    expected = None
    for reader in ours():
        outcome, found = reader.judge(file, expected, forged=True)
        if outcome.failed:
            shown = found if isinstance(found, str) else sorted(found)
            other = expected if isinstance(expected, str) else sorted(expected or ())
            raise DisagreementError(f"{reader.name}: {outcome.name.lower()}: {shown}, the other: {other}")
        expected = found


def checkpoints(data: bytes) -> None:
    """Read a checkpoint of any format: an error of bhk, or tensors that can be used."""
    file = _folder() / "file.pth"
    file.write_bytes(data)
    try:
        found = checkpoint.read(file)
        for tensor in found.tensors.values():
            tensor.contiguous().view(-1)[:1].tolist()
    except bhk.BhkError:
        pass


def annotations(data: bytes) -> None:
    """Read annotations and their masks: an error of bhk, or objects."""
    file = _folder() / "picture.json"
    file.write_bytes(data)
    log = FaultLog()
    try:
        found = read_annotations(file, _pictures())
    except AnnotationError:
        return
    for entry in found.images:
        image = resolve(entry, log)
        for annotated in image.objects if image is not None else ():
            if image is not None and image.width * image.height < 1 << 16:
                mask = read_segmentation(annotated.segmentation, image.height, image.width, lambda _: None)
                if mask is not None:
                    assert mask.decode().shape == (image.height, image.width)


@cache
def _pictures() -> Path:
    from PIL import Image

    folder = _folder() / "pictures"
    folder.mkdir()
    Image.new("RGB", (8, 6)).save(folder / "picture.jpg")
    return folder


def _container_seeds() -> Iterator[bytes]:
    for make in DRAFTS.values():
        yield make().encode()


def _checkpoint_seeds() -> Iterator[bytes]:
    from safetensors.torch import save

    weights = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.zeros(3, dtype=torch.float16)}
    tied = {"model": {**weights, "b.weight": weights["a.weight"], "part": weights["a.weight"][1:, :2]}, "epoch": 3}
    yield save(weights)
    for protocol in (2, 4):
        for zipped in (True, False):
            file = io.BytesIO()
            torch.save(tied, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
            yield file.getvalue()


def _annotation_seeds() -> Iterator[bytes]:
    box, square = [1, 1, 3, 3], [[1, 1, 4, 1, 4, 4, 1, 4]]
    masks = (square, {"size": [6, 8], "counts": [7, 3, 38]}, {"size": [6, 8], "counts": "73V1"})
    objects = [
        {"id": 1 + i, "image_id": 5, "category_id": 2, "segmentation": mask, "bbox": box, "area": 9.0, "iscrowd": i % 2}
        for i, mask in enumerate(masks)
    ]
    image = {"id": 5, "width": 8, "height": 6, "file_name": "picture.jpg"}
    categories = [{"id": 2, "name": "thing"}]
    yield json.dumps({"images": [image], "annotations": objects, "categories": categories}).encode()
    lvis = {**image, "neg_category_ids": [2], "not_exhaustive_category_ids": [], "coco_url": "http://x/picture.jpg"}
    frequent = [{"id": 2, "name": "thing", "frequency": "c"}]
    yield json.dumps({"images": [lvis], "annotations": objects, "categories": frequent}).encode()
    single = {"image_id": 5, "width": 8, "height": 6, "file_name": "picture.jpg"}
    yield json.dumps({"image": single, "annotations": objects}).encode()


TARGETS = {
    "container": Target(
        container,
        _container_seeds,
        structure.container,
        ("bhk.base", "bhk.codec", "bhk.container", "bhk.file", "format_spec"),
    ),
    "checkpoints": Target(checkpoints, _checkpoint_seeds, structure.checkpoint, ("bhk.base", "bhk.checkpoint")),
    "annotations": Target(
        annotations, _annotation_seeds, structure.json_text, ("bhk.base", "bhk.evaluation", "bhk.pictures")
    ),
}
