"""An HTML page about a .bhk file: `bhk.report`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bhk.base.errors import OptionError, option
from bhk.base.files import Replacement, check_destination, made_folder, replace_files
from bhk.base.progress import Progress
from bhk.base.report import Report
from bhk.base.texts import counted, number, size
from bhk.checkpoint.roles import natural_key
from bhk.evaluation.results import Skipped
from bhk.file.bhkfile import BhkFile, open_file
from bhk.hub.address import address_of
from bhk.hub.download import local_file
from bhk.nn.device import Device
from bhk.pictures.folder import NoPicturesError, replaced_pictures
from bhk.pictures.image import ImageError, Rgb, read_image
from bhk.reports.layers import OriginalError, sketches
from bhk.reports.page import render
from bhk.reports.page_data import PageContent, page_data, unicode_name
from bhk.sam.checkpoints import TensorFile, open_tensors

if TYPE_CHECKING:
    from bhk.reports.masks import PictureMasks

SUFFIX = ".html"
LIMIT = 6  # pictures


class ReportError(OptionError):
    """The options of a report page do not fit together."""


@dataclass(frozen=True)
class PageReport(Report):
    """What `bhk.report` returns.

    Attributes:
        path: the page.
        bytes: its size.
        figures: the files of the figures.
        pictures: names of the pictures whose masks are shown.
        iou: mean IoU between the masks of the two models; None without pictures.
        skipped: pictures that could not be read.
        seconds: wall-clock time.
    """

    path: Path
    bytes: int
    figures: tuple[Path, ...]
    pictures: tuple[str, ...]
    iou: float | None
    skipped: tuple[Skipped, ...]
    seconds: float

    @property
    def hints(self) -> tuple[str, ...]:
        """The names of skipped pictures."""
        return tuple(f"skipped {picture.name}: {picture.reason}" for picture in self.skipped)

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        yield f"{self.path}: {size(self.bytes)} in {self.seconds:.1f} s"
        yield from map(str, self.figures)
        if self.iou is not None:
            yield f"mean IoU {number(self.iou, 4)} of the masks of {counted(len(self.pictures), 'picture')}"


def report(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    against: str | os.PathLike[str] | None = None,
    key: str | None = None,
    images: str | os.PathLike[str] | None = None,
    limit: int = LIMIT,
    figures: str | os.PathLike[str] | None = None,
    device: Device = "cpu",
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> PageReport:
    """Write an HTML page about a .bhk file: sizes, provenance, layer map, and histograms and codebook of every layer.

    With the original, the page also shows its histograms and the errors; with pictures as well, the masks of both models side
    by side. The page is a single file and loads nothing from the network.

    >>> import bhk
    >>> page = bhk.report("demo_sam.bhk", "demo_sam.html", against="demo_sam.safetensors", force=True)
    >>> print(page.path)
    demo_sam.html

    Args:
        path: the file, here or on the Hub: "hf://user/repo[/file.bhk][@revision]".
        out: the page to write; None: beside the file with the suffix .html, or in the current folder for a file on the Hub.
        against: the checkpoint that the file was converted from.
        key: which of its state dicts, if it holds several.
        images: a picture, or a folder whose first `limit` readable pictures, by name, are used. Needs `against`.
        limit: number of pictures, at most.
        figures: also write the main figures to this folder, as PDF, PNG and SVG; it is created if it does not exist.
        device: the device that computes masks.
        threads: worker threads; None: one per core.
        force: overwrite existing files.
        progress: called with ("Layers", dense bytes done, all dense bytes), then ("Masks", pictures done, all pictures).

    Raises:
        ReportError: there are pictures but no original, or `limit` is not positive.
        NoPicturesError: none of the pictures can be read.
        OriginalError: the file was not converted from `against`.
        HubError, ReadError, FormatError, CheckpointError: a file cannot be read.
        BhkError: with pictures, see `bhk.load`.
        MissingPackageError: figures need matplotlib, pictures need Pillow.
        WriteError: an output exists and `force` is false, or cannot be written.
    """
    started = time.perf_counter()
    address = address_of(path)
    page = Path(out or (Path(path).with_suffix(SUFFIX) if address is None else address.name + SUFFIX))
    sources = (Path(path),) if against is None else (Path(path), Path(against))
    check_destination(page, force=force, sources=(*sources, *replaced_pictures(images, page)))
    path = local_file(path)
    pictures, skipped = _pictures(images, limit, against)
    with (
        _figure_writer(figures, force) as write,
        open_file(path) as file,
        _original(file, against, key) as original,
    ):
        tensor, label = (original.tensor, original.label) if original else (None, None)
        drawn = tuple(sketches(file, tensor, threads=threads, progress=progress))
        masks = (
            _masks((os.fspath(against), os.fspath(path)), pictures, device, progress) if against and pictures else ()
        )
        content = PageContent(file, path, drawn, label, masks)
        html = render(page_data(content), unicode_name(path.name)).encode("utf-8")
        with replace_files(force=force) as new:
            new.open(page).write(html)
            written = write(content, new) if write else ()
    ious = [mask.iou for picture in masks for mask in picture.masks]
    return PageReport(
        path=page,
        bytes=len(html),
        figures=written,
        pictures=tuple(picture.name for picture in masks),
        iou=sum(ious) / len(ious) if ious else None,
        skipped=skipped,
        seconds=time.perf_counter() - started,
    )


@contextlib.contextmanager
def _figure_writer(
    figures: str | os.PathLike[str] | None, force: bool
) -> Iterator[Callable[[PageContent, Replacement], tuple[Path, ...]] | None]:
    """Yield a function that writes the figures to a folder, after checking everything it needs; None without one."""
    if figures is None:
        yield None
        return
    from bhk.reports.figures import check_figures, write_figures

    folder = Path(figures)
    with made_folder(folder):
        check_figures(folder, force=force)
        yield lambda content, new: write_figures(content, folder, new)


@contextlib.contextmanager
def _original(file: BhkFile, against: str | os.PathLike[str] | None, key: str | None) -> Iterator[TensorFile | None]:
    """Open the original, whose tensors must have the same names as those of the file."""
    if against is None:
        yield None
        return
    with open_tensors(against, key) as original:
        alone = sorted(set(file.names) ^ set(original.names))
        if alone:
            raise OriginalError(
                f"the file and {original.label} differ in {counted(len(alone), 'tensor name')}, such as {alone[0]!r}; "
                "give the checkpoint that the file was converted from"
            )
        yield original


def _pictures(
    images: str | os.PathLike[str] | None, limit: int, against: str | os.PathLike[str] | None
) -> tuple[list[tuple[str, Rgb]], tuple[Skipped, ...]]:
    """Return names and pixels of the pictures, and those that could not be read."""
    if images is None:
        return [], ()
    if against is None:
        raise ReportError(
            "masks are compared with those of the original; "
            f"give {option('against')}, the checkpoint that the file was converted from"
        )
    if limit < 1:
        raise ReportError(f"a limit of {limit} pictures leaves none; expected 1 or more")
    folder = Path(images)
    paths = sorted(folder.iterdir(), key=lambda path: natural_key(path.name)) if folder.is_dir() else [folder]
    found: list[tuple[str, Rgb]] = []
    skipped = []
    for path in paths:
        if len(found) == limit:
            break
        if path.is_dir() or path.name.startswith("."):
            continue
        try:
            found.append((unicode_name(path.name), read_image(path)))
        except ImageError as error:
            skipped.append(Skipped(unicode_name(path.name), str(error)))
    if not found:
        reason = f"; {skipped[0].reason}" if skipped else ""
        raise NoPicturesError(f"{folder} has no picture that can be read{reason}")
    return found, tuple(skipped)


def _masks(
    models: tuple[str, str], pictures: list[tuple[str, Rgb]], device: Device, progress: Progress | None
) -> tuple[PictureMasks, ...]:
    """Return the masks of the original and of the file, whose paths are `models`."""
    from bhk.evaluation.models import ModelSource
    from bhk.reports.masks import compare_masks

    original, compressed = (ModelSource(model, device=str(device)) for model in models)
    return compare_masks(original, compressed, pictures, progress=progress)
