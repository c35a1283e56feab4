"""Merging the results of a large evaluation: time and memory of `bhk eval --merge` over synthetic results.

A tar archive names the pictures, which are never opened, and a work folder holds random results of two models, of which the
first is the original. The merge runs in a process of its own.

    masks       pairs of masks in a picture (fidelity), or its objects (accuracy: SA-1B's format, prompted by box)
    bytes       of the stored results of a picture
    seconds     to list the pictures, read the results and compute means, medians and intervals; a single time
    peak_mib    growth of the process
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import bhk
from bhk.evaluation.accuracy import Answer, ImageAccuracy, ShardAccuracy, TrueObject
from bhk.evaluation.fidelity import ImageFidelity, Kind
from bhk.tasks.fidelity import ComparedPicture
from tools.bench.frame.benchmark import Benchmark, Row, Rows, Run
from tools.bench.frame.process import apart
from tools.bench.models.synthetic import DEMO, make

SHARD = 4  # pictures
KINDS: tuple[Kind, ...] = ("point", "point", "box", "single")  # in each four masks


@dataclass(frozen=True)
class Case:
    """An evaluation whose results are merged."""

    protocol: str
    pictures: int
    masks: int
    expected: float

    def __str__(self) -> str:
        return f"{self.protocol} of {self.pictures:,} pictures"


CASES = (
    Case("fidelity", 10_000, 64, 30),
    Case("fidelity", 100_000, 64, 200),
    Case("fidelity", 1_000_000, 8, 900),
    Case("accuracy", 2_000, 100, 60),
    Case("accuracy", 20_000, 100, 300),
)
QUICK = (Case("fidelity", 40, 8, 5), Case("accuracy", 40, 8, 5))


def fidelity(images: str, work: str, model: str, original: str, **resources: Any) -> object:
    settings = bhk.FidelitySettings(control=False)
    return bhk.fidelity(model, images, against=original, settings=settings, work_dir=work, **resources)


def accuracy(images: str, work: str, model: str, original: str, **resources: Any) -> object:
    settings = bhk.AccuracySettings(prompts=("box",))
    return bhk.accuracy(model, images, against=original, format="sa1b", settings=settings, work_dir=work, **resources)


EVALUATE: dict[str, Callable[..., object]] = {"fidelity": fidelity, "accuracy": accuracy}


def merge(protocol: str, images: str, work: str, model: str, original: str) -> Iterator[None]:
    """Merge in this process; see `tools.bench.frame.process`."""
    import torch

    torch.set_num_threads(1)
    evaluate = EVALUATE[protocol]
    yield
    evaluate(images, work, model, original, workers=0)
    yield


def write_archive(path: Path, case: Case) -> None:
    """Write an archive of empty pictures, and of one object beside each of them where objects are annotated."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(case.pictures):
            image = {"image_id": number, "width": 9, "height": 9}
            annotated = json.dumps({"image": image, "annotations": []}).encode()
            members = {".jpg": b""} | ({".json": annotated} if case.protocol == "accuracy" else {})
            for suffix, content in members.items():
                member = tarfile.TarInfo(f"{number:07}{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
                archive.members.clear()  # type: ignore[attr-defined]


def write_results(work: Path, archive: str, case: Case) -> int:
    """Write random results, and return their bytes."""
    random, nbytes = np.random.default_rng(0), 0
    make_shard = {"fidelity": fidelity_shard, "accuracy": accuracy_shard}[case.protocol]
    for start in range(0, case.pictures, SHARD):
        numbers = range(start, min(start + SHARD, case.pictures))
        data = msgspec.json.encode(make_shard(numbers, archive, case.masks, random))
        (work / f"shard-{start // SHARD:06}.json").write_bytes(data)
        nbytes += len(data)
    return nbytes


def fidelity_shard(numbers: range, archive: str, masks: int, random: np.random.Generator) -> list[ComparedPicture]:
    def found() -> ImageFidelity:
        iou, boundary = (np.minimum(1, 1 - random.exponential(0.02, masks)).clip(0) for _ in range(2))
        return ImageFidelity(
            kinds=list(KINDS) * (masks // len(KINDS)),
            iou=iou.tolist(),
            boundary_iou=boundary.tolist(),
            score_change=random.normal(0, 0.01, masks).tolist(),
            flips=(random.random(masks) < 0.1).tolist(),
            empty=[False] * masks,
            embedding_cosine=float(random.uniform(0.99, 1)),
        )

    return [ComparedPicture(f"{archive}/{number:07}.jpg", (found(),)) for number in numbers]


def accuracy_shard(numbers: range, archive: str, masks: int, random: np.random.Generator) -> ShardAccuracy:
    def answers() -> tuple[Answer, ...]:
        return tuple(
            Answer("box", about, *pair, None, None) for about, pair in enumerate(random.random((masks, 2)).tolist())
        )

    def found(number: int) -> ImageAccuracy:
        areas = random.uniform(10, 20_000, masks).tolist()
        objects = tuple(TrueObject(None, area, False, (1.0, 2.0, 3.0, 4.0), None) for area in areas)
        return ImageAccuracy(number, 9, 9, objects, (), (answers(),), answers())

    return ShardAccuracy(tuple(map(found, numbers)), ())


def measure(case: Case, run: Run) -> Rows:
    with tempfile.TemporaryDirectory(dir=run.folder) as folder:
        return [_row(case, Path(folder))]


def _row(case: Case, folder: Path) -> Row:
    archive, work, original, model = (folder / name for name in ("p.tar", "work", "original.pth", "model.bhk"))
    make(DEMO, original)
    bhk.convert(original, model)
    write_archive(archive, case)
    arguments = tuple(map(str, (archive, work, model, original)))
    shards = -(-case.pictures // SHARD)
    EVALUATE[case.protocol](*arguments, part=bhk.Part(1, shards), workers=1)  # claims the folder
    nbytes = write_results(work, archive.name, case)
    found = apart(merge, case.protocol, *arguments)
    return {
        "protocol": case.protocol,
        "pictures": case.pictures,
        "masks": case.masks,
        "bytes": f"{nbytes / case.pictures:.0f}",
        "seconds": f"{found.stages[0].seconds:.1f}",
        "peak_mib": f"{found.stages[0].host_peak_mib:.0f}",
    }


BENCHMARK = Benchmark(
    lambda run: QUICK if run.quick else CASES,
    measure,
    case="protocol pictures masks",
    figures="bytes seconds peak_mib",
    csv="merge",
    expected=lambda case, run: case.expected,
)
