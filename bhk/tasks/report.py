"""A page about a .bhk file: `bhk.report`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bhk.base.errors import BhkError
from bhk.base.files import check_destination, replace_file
from bhk.checkpoint.roles import natural_key
from bhk.evaluation.results import Skipped
from bhk.file.bhkfile import BhkFile, open_file
from bhk.hub.address import address_of
from bhk.hub.download import local_file
from bhk.pictures.image import ImageError, Rgb, read_image
from bhk.reports.document import Contents, document, shown
from bhk.reports.layers import OriginalError, sketches
from bhk.reports.page import render
from bhk.sam.checkpoints import TensorFile, open_tensors

if TYPE_CHECKING:
    from bhk.reports.masks import PictureMasks

SUFFIX = ".html"
MOST_PICTURES = 6

Progress = Callable[[str, int, int], None]


class ReportError(BhkError):
    """What was asked of a report does not go together."""


@dataclass(frozen=True)
class WrittenReport:
    """What `bhk.report` wrote.

    Attributes:
        path: of the page.
        bytes: its size.
        figures: the files of the figures.
        pictures: names of the pictures whose masks are shown.
        iou: mean IoU of their masks; None without.
        skipped: pictures that could not be read.
        seconds: how long it took.
    """

    path: Path
    bytes: int
    figures: tuple[Path, ...]
    pictures: tuple[str, ...]
    iou: float | None
    skipped: tuple[Skipped, ...]
    seconds: float


def report(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    against: str | os.PathLike[str] | None = None,
    key: str | None = None,
    images: str | os.PathLike[str] | None = None,
    most_images: int = MOST_PICTURES,
    figures: str | os.PathLike[str] | None = None,
    force: bool = False,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> WrittenReport:
    """Write one HTML page about a .bhk file that needs nothing else and asks no network for anything.

    It shows size, provenance, the layer map, and of each layer histograms and its codebook over a sample of its weights.
    With the original, its histograms and the errors too; with pictures as well, masks of both models side by side.

    Args:
        path: the file, or one on the Hugging Face Hub, "hf://user/repo[/file.bhk][@revision]".
        out: the page; None: beside the file, with the suffix .html; of one on the Hub, in the current folder.
        against: the checkpoint that the file was made from.
        key: which state dict of it, when it holds several.
        images: a picture, or a folder of which the first `most_images` that can be read are taken, by name.
        figures: a folder for the main figures as PNG and SVG; made where it does not exist.
        force: replace what exists.
        device: where masks are computed.
        progress: called with (what is being done, done, all of it).

    Raises:
        ReportError: pictures without the original, of which the masks would have to be, or no picture that can be read.
        OriginalError: `against` is not what the file was made from.
        HubError, ReadError, FormatError, CheckpointError: a file cannot be read.
        BhkError: with pictures, see `bhk.load`.
        MissingPackageError: figures need matplotlib, pictures need Pillow.
        WriteError: an output exists and `force` is false, or cannot be written.
    """
    started = time.perf_counter()
    address = address_of(path)
    page = Path(out or (Path(path).with_suffix(SUFFIX) if address is None else address.name + SUFFIX))
    sources = (Path(path),) if against is None else (Path(path), Path(against))
    check_destination(page, force=force, sources=sources)
    path = local_file(path)
    draw = None if figures is None else _figure_writer(Path(figures), force)
    pictures, skipped = _pictures(images, most_images, against)
    with open_file(path) as file, _original(file, against, key) as original:
        drawn = sketches(
            file,
            original.tensor if original else None,
            threads=threads,
            progress=progress and _named(progress, "Layers"),
        )
        contents = Contents(
            file,
            path,
            tuple(drawn),
            original.label if original else None,
            _masks((os.fspath(against), os.fspath(path)), pictures, device, progress) if against and pictures else (),
        )
        text = render(document(contents), shown(path.name))
        files = draw(contents) if draw else ()
    data = text.encode("utf-8")
    with replace_file(page, force=force) as output:
        output.write(data)
    ious = [mask.iou for picture in contents.pictures for mask in picture.masks]
    return WrittenReport(
        path=page,
        bytes=len(data),
        figures=files,
        pictures=tuple(picture.name for picture in contents.pictures),
        iou=sum(ious) / len(ious) if ious else None,
        skipped=skipped,
        seconds=time.perf_counter() - started,
    )


def _named(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(what, done, total)


def _figure_writer(folder: Path, force: bool) -> Callable[[Contents], tuple[Path, ...]]:
    """Return what draws the figures into `folder`, once all is known to be there that it needs."""
    from bhk.reports.figures import check_figures, write_figures

    check_figures(folder, force=force)
    return lambda contents: write_figures(contents, folder, force=force)


@contextlib.contextmanager
def _original(file: BhkFile, against: str | os.PathLike[str] | None, key: str | None) -> Iterator[TensorFile | None]:
    """Open the original; its names must be those of the file."""
    if against is None:
        yield None
        return
    with open_tensors(against, key) as original:
        alone = sorted(set(file.names) ^ set(original.names))
        if alone:
            raise OriginalError(
                f"{len(alone)} tensors are only in one of the file and {original.label}, the first of them {alone[0]!r}; "
                "give the checkpoint that the file was made from"
            )
        yield original


def _pictures(
    images: str | os.PathLike[str] | None, most: int, against: str | os.PathLike[str] | None
) -> tuple[list[tuple[str, Rgb]], tuple[Skipped, ...]]:
    """Return name and pixels of the pictures, and those that could not be read."""
    if images is None:
        return [], ()
    if against is None:
        raise ReportError("masks are compared with those of the original, which was not given; add --against ORIGINAL")
    if most < 1:
        raise ReportError(f"{most} pictures were asked for; give 1 or more, or no folder of pictures")
    folder = Path(images)
    paths = sorted(folder.iterdir(), key=lambda path: natural_key(path.name)) if folder.is_dir() else [folder]
    found: list[tuple[str, Rgb]] = []
    skipped = []
    for path in paths:
        if len(found) == most:
            break
        if path.is_dir() or path.name.startswith("."):
            continue
        try:
            found.append((shown(path.name), read_image(path)))
        except ImageError as error:
            skipped.append(Skipped(shown(path.name), str(error)))
    if not found:
        reason = f"; {skipped[0].reason}" if skipped else ""
        raise ReportError(f"{folder} has no picture that can be read{reason}")
    return found, tuple(skipped)


def _masks(
    models: tuple[str, str], pictures: list[tuple[str, Rgb]], device: str, progress: Progress | None
) -> tuple[PictureMasks, ...]:
    """Return the masks of the original and the file, whose paths are `models`."""
    from bhk.evaluation.models import ModelSource
    from bhk.reports.masks import compare_masks

    original, compressed = (ModelSource(model, device=device) for model in models)
    return compare_masks(original, compressed, pictures, progress=progress and _named(progress, "Pictures"))
