"""How closely a compressed model answers as its original: `bhk.fidelity`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec

from bhk.evaluation.fidelity import Fidelity, ImageFidelity, ask, compared, summarise
from bhk.evaluation.models import ModelSource, Subject
from bhk.evaluation.results import ModelFacts, Skipped, check_same_kind, default_workers, describe, folder_digest
from bhk.evaluation.shards import run_shards, split
from bhk.hub.download import local_file
from bhk.nn.hyperlinear import Compute
from bhk.nn.plan import Mode
from bhk.pictures.folder import NoPicturesError, find_pictures
from bhk.pictures.image import ImageError, read_image
from bhk.pictures.prompt_grid import grid_prompts
from bhk.pictures.prompts import PromptError
from bhk.sam.prediction.predictor import PredictionError
from bhk.version import __version__

Progress = Callable[[int, int], None]

POINTS, BOXES = 32, 16

_SHARD = 4  # pictures


@dataclass(frozen=True)
class FidelitySettings:
    """All that the figures depend on, beside models and pictures.

    Attributes:
        points, boxes: prompts a picture.
        seed: of the prompts, of the choice of pictures and of the bootstrap.
        limit: at most as many pictures, drawn at random; None for all.
        device, dtype: of both models.
        mode, compute: of the compressed one; see `bhk.load`.
        control: whether the original was compared with itself in bfloat16.
    """

    points: int
    boxes: int
    seed: int
    limit: int | None
    device: str
    dtype: str
    mode: str
    compute: str
    control: bool


class PictureFidelity(msgspec.Struct, frozen=True):
    """What was found about one picture.

    Attributes:
        name: its path from the folder.
        fidelity: of the model; None when the picture was skipped.
        control: of the original in bfloat16; None when it was not asked, too.
        reason: why the picture was skipped; None when it was not.
    """

    name: str
    fidelity: ImageFidelity | None = None
    control: ImageFidelity | None = None
    reason: str | None = None


@dataclass(frozen=True)
class FidelityReport:
    """How closely a model answers as its original.

    Attributes:
        protocol: "fidelity".
        settings: all that the figures depend on.
        model, original: what was compared.
        pictures: how many were used; `skipped` are not among them.
        fidelity: of the model.
        control: of the original in bfloat16, which is the noise that people accept without a thought; None when it was
            not asked.
        skipped: pictures that could not be used.
        images: what was found about each picture used.
    """

    protocol: str
    settings: FidelitySettings
    model: ModelFacts
    original: ModelFacts
    pictures: int
    fidelity: Fidelity
    control: Fidelity | None
    skipped: tuple[Skipped, ...]
    images: tuple[PictureFidelity, ...]


def fidelity(
    model: str | os.PathLike[str],
    images: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str],
    points: int = POINTS,
    boxes: int = BOXES,
    seed: int = 0,
    limit: int | None = None,
    workers: int | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    mode: Mode = "hyper",
    compute: Compute = "exact",
    control: bool = True,
    progress: Progress | None = None,
) -> FidelityReport:
    """Ask a model and its original the same about pictures, which need no annotations, and compare the masks.

    Prompts are points and boxes all over each picture (`bhk.pictures.prompt_grid`); what is compared, and how, is said in
    `bhk.evaluation.fidelity`. Equal arguments give equal figures on one machine, whatever `workers` is.

    Args:
        model: a .bhk file, or a repository of the Hub; or a checkpoint.
        images: a folder; pictures in it and below it are used.
        against: the checkpoint that the model was converted from.
        points, boxes: prompts a picture.
        seed: of prompts, of the choice of pictures and of the bootstrap.
        limit: use at most as many pictures, drawn at random.
        workers: processes, each of which holds all models; None: one on a GPU, on a CPU one a core and at most four.
            With more than one, a script that calls this needs `if __name__ == "__main__":`.
        work_dir: keep intermediate results in this folder, and take up there after an interruption.
        device, dtype: of both models; the dtype by its name.
        mode, compute: of the compressed one; see `bhk.load`.
        control: compare the original with itself in bfloat16, too; slow on processors that lack bfloat16.
        progress: called with (pictures done, all pictures).

    Raises:
        PromptError: neither points nor boxes are asked for.
        NoPicturesError: there are no pictures, or none that can be used.
        DifferentModelsError: the models are not of one architecture.
        UnknownModelError, LoadError, ReadError, FormatError, CheckpointError: see `bhk.load`.
        NotFiniteError: a model answers with values that are no numbers.
        WorkDirError: `work_dir` holds results of other work.
        WorkerError: a worker process failed.
        WriteError: `work_dir` cannot be written.
    """
    if points < 0 or boxes < 0 or not points + boxes:
        raise PromptError(f"{points} points and {boxes} boxes a picture; expected at least one prompt")
    settings = FidelitySettings(points, boxes, seed, limit, device, dtype, mode, compute, control)
    processes = default_workers(workers, device)
    folder = Path(images)
    names = find_pictures(folder, limit=limit, seed=seed)
    facts, original = describe(model), describe(against)
    check_same_kind(facts, original)
    work = _Work(str(local_file(model)), str(local_file(against)), str(folder), settings)
    shards = split(list(enumerate(names)), _SHARD)

    def advance(done: int, total: int) -> None:
        if progress:
            progress(min(done * _SHARD, len(names)), len(names))

    found = run_shards(
        work,
        shards,
        list[PictureFidelity],
        workers=processes,
        work_dir=None if work_dir is None else Path(work_dir),
        identity=_identity(settings, facts, original, folder_digest(folder, names)),
        progress=advance,
    )
    return _report(settings, facts, original, [picture for shard in found for picture in shard])


@dataclass(frozen=True)
class _Work:
    """Compares the models on some pictures, given by (number, name); loads the models once."""

    model: str
    against: str
    folder: str
    settings: FidelitySettings

    @cached_property
    def _subjects(self) -> tuple[Subject, Subject, Subject | None]:
        """The original, the model, and the original in bfloat16."""
        settings = self.settings
        original = ModelSource(self.against, settings.device, settings.dtype, mode="dense")
        model = ModelSource(self.model, settings.device, settings.dtype, settings.mode, settings.compute)
        control = replace(original, dtype="bfloat16")
        return (
            Subject(original.load()),
            Subject(model.load()),
            Subject(control.load()) if settings.control else None,
        )

    def __call__(self, shard: Sequence[tuple[int, str]]) -> list[PictureFidelity]:
        return [self._picture(number, name) for number, name in shard]

    def _picture(self, number: int, name: str) -> PictureFidelity:
        original, model, control = self._subjects
        try:
            pixels = read_image(Path(self.folder) / name)
            height, width, _ = pixels.shape
            prompts = grid_prompts(
                width, height, (self.settings.seed, number), self.settings.points, self.settings.boxes
            )
            expected = ask(original, pixels, prompts)
            return PictureFidelity(
                name,
                compared(expected, ask(model, pixels, prompts)),
                compared(expected, ask(control, pixels, prompts)) if control else None,
            )
        except (ImageError, PredictionError) as error:
            return PictureFidelity(name, reason=str(error))


def _identity(settings: FidelitySettings, model: ModelFacts, original: ModelFacts, pictures: str) -> dict[str, str]:
    named = {name: str(value) for name, value in asdict(settings).items()}
    return named | {
        "protocol": "fidelity",
        "version": __version__,
        "model": model.sha256,
        "original": original.sha256,
        "pictures": pictures,
    }


def _report(
    settings: FidelitySettings, model: ModelFacts, original: ModelFacts, found: Sequence[PictureFidelity]
) -> FidelityReport:
    skipped = tuple(Skipped(picture.name, picture.reason) for picture in found if picture.reason is not None)
    used = tuple(picture for picture in found if picture.fidelity is not None)
    if not used:
        raise NoPicturesError(f"none of {len(skipped)} pictures can be used; {skipped[0].name}: {skipped[0].reason}")
    controls = [picture.control for picture in used if picture.control is not None]
    return FidelityReport(
        protocol="fidelity",
        settings=settings,
        model=model,
        original=original,
        pictures=len(used),
        fidelity=summarise([picture.fidelity for picture in used if picture.fidelity], seed=settings.seed),
        control=summarise(controls, seed=settings.seed) if controls else None,
        skipped=skipped,
        images=used,
    )
