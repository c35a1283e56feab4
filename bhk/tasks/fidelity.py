"""How closely the masks of a compressed model match those of its original: `bhk.fidelity`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from bhk.base.progress import Progress
from bhk.evaluation.fidelity import PictureFidelity, ask, compared, summarise
from bhk.evaluation.frame import ModelPair, evaluate, find_models, folder_digest, worker_processes
from bhk.evaluation.models import ModelSource, Subject
from bhk.evaluation.results import FidelityReport, Skipped
from bhk.evaluation.settings import FidelitySettings
from bhk.pictures.folder import NoPicturesError, find_pictures
from bhk.pictures.image import ImageError, read_image
from bhk.pictures.prompt_grid import grid_prompts
from bhk.sam.prediction.predictor import PredictionError


def fidelity(
    model: str | os.PathLike[str],
    images: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str],
    settings: FidelitySettings = FidelitySettings(),
    workers: int | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> FidelityReport:
    """Compare the masks of a compressed model with those of its original, on pictures without annotations.

    Both models get the same prompts, points and boxes spread over each picture. Of several masks for a prompt, the one that
    the original scores best is compared with the other model's mask of the same index; for boxes, the single masks are
    compared as well. Equal arguments give equal results on one machine, whatever `workers` is.

    >>> import bhk
    >>> settings = bhk.FidelitySettings(points=2, boxes=1, limit=1, control=False)
    >>> report = bhk.fidelity("demo_sam.bhk", ".", against="demo_sam.safetensors", settings=settings, workers=1)
    >>> report.fidelity.all.iou_mean.value > 0.9
    True

    Args:
        model: a .bhk file, here or on the Hub, or a checkpoint.
        images: a folder; pictures in it and in its subfolders are used.
        against: the checkpoint that the model was converted from.
        settings: prompts, pictures, device and data type.
        workers: number of processes, each of which loads all models. None: 1 on a GPU, on a CPU one per core but at most 4.
            With more than 1, scripts need `if __name__ == "__main__":`.
        work_dir: a folder that keeps intermediate results, to continue after an interruption.
        progress: called with ("Evaluating", pictures done, all pictures).

    Raises:
        NoPicturesError: there are no pictures, or none can be used.
        DifferentModelsError: the models do not have the same architecture.
        UnknownModelError, LoadError, HubError, ReadError, FormatError, CheckpointError: see `bhk.load`.
        NotFiniteError: a model returned NaN or infinity.
        WorkDirError: `work_dir` holds results of other work.
        WorkerError: a worker process failed.
        WriteError: `work_dir` cannot be written.
    """
    worker_processes(workers, str(settings.device))  # can the device be used?
    folder = Path(images)
    names = find_pictures(folder, limit=settings.limit, seed=settings.seed)
    models = find_models(model, against)
    shards = evaluate(
        _Work(str(folder), models.sources(settings), settings),
        list(enumerate(names)),
        list[PictureFidelity],
        models=models,
        settings=settings,
        inputs={"pictures": folder_digest(folder, names)},
        workers=workers,
        work_dir=work_dir,
        progress=progress,
    )
    return _report(settings, models, [picture for shard in shards for picture in shard])


@dataclass(frozen=True)
class _Work:
    """Compares the models on some pictures, given by (number, name); loads the models once."""

    folder: str
    sources: tuple[ModelSource, ModelSource | None]
    settings: FidelitySettings

    @cached_property
    def _subjects(self) -> tuple[Subject, Subject, Subject | None]:
        """The original, the model, and the original in bfloat16."""
        model, original = self.sources
        assert original is not None
        control = replace(original, dtype="bfloat16")
        return (
            Subject(original.load()),
            Subject(model.load()),
            Subject(control.load()) if self.settings.control else None,
        )

    def __call__(self, shard: Sequence[tuple[int, str]]) -> list[PictureFidelity]:
        return [self._picture(number, name) for number, name in shard]

    def _picture(self, number: int, name: str) -> PictureFidelity:
        original, model, control = self._subjects
        settings = self.settings
        try:
            pixels = read_image(Path(self.folder) / name)
            height, width, _ = pixels.shape
            prompts = grid_prompts(width, height, (settings.seed, number), settings.points, settings.boxes)
            expected = ask(original, pixels, prompts)
            return PictureFidelity(
                name,
                compared(expected, ask(model, pixels, prompts)),
                compared(expected, ask(control, pixels, prompts)) if control else None,
            )
        except (ImageError, PredictionError) as error:
            return PictureFidelity(name, reason=str(error))


def _report(settings: FidelitySettings, models: ModelPair, pictures: Sequence[PictureFidelity]) -> FidelityReport:
    skipped = tuple(Skipped(picture.name, picture.reason) for picture in pictures if picture.reason is not None)
    used = tuple(picture for picture in pictures if picture.fidelity is not None)
    if not used:
        raise NoPicturesError(f"none of {len(skipped)} pictures can be used; {skipped[0].name}: {skipped[0].reason}")
    assert models.original is not None
    controls = [picture.control for picture in used if picture.control is not None]
    return FidelityReport(
        settings=settings,
        model=models.model,
        original=models.original,
        pictures=len(used),
        fidelity=summarise([picture.fidelity for picture in used if picture.fidelity], seed=settings.seed),
        control=summarise(controls, seed=settings.seed) if controls else None,
        skipped=skipped,
        images=used,
    )
