"""A .bhk file back to a dense checkpoint: `bhk.export`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bhk.base.errors import BhkError
from bhk.base.progress import Progress, silent
from bhk.base.report import Report
from bhk.base.texts import size
from bhk.checkpoint import Layout, TensorSpec, write
from bhk.checkpoint.companions import companions_of, readable_companions_of
from bhk.codec.dtypes import TORCH_DTYPES
from bhk.file.bhkfile import BhkFile, open_file
from bhk.hub.download import local_file
from bhk.hub.ranges import open_container
from bhk.sam.variants import published_files, title_of

_TRANSFORMERS = "model.safetensors"  # the name that transformers looks for in a folder


class UnnamedModelError(BhkError):
    """The model was never published, so it has no official file name."""


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written.

    Attributes:
        path: where it is.
        bytes: its size.
    """

    path: Path
    bytes: int


@dataclass(frozen=True)
class ExportReport(Report):
    """What `bhk.export` wrote.

    Attributes:
        files: the weights, in one file or in shards with their index, and then configuration files.
        other_names: other official names of the same architecture, if bhk chose the file name.
    """

    files: tuple[ExportedFile, ...]
    other_names: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file of weights; of several shards, the first."""
        return self.files[0].path

    @property
    def hints(self) -> tuple[str, ...]:
        """Other official names, if bhk chose one."""
        return (
            (f"{self.path.name} is one official name of this architecture; others: {', '.join(self.other_names)}",)
            if self.other_names
            else ()
        )

    def lines(self) -> Iterator[str]:
        """Yield each file with its size."""
        for file in self.files:
            yield f"{file.path}: {size(file.bytes)}"


def export(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    shard_bytes: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the dense weights with their original names, wrapper and dtypes, so that any program can load them.

    Into a folder, the file gets the name under which the model was published, which many programs need in order to
    choose the architecture: the name of the source if it is an official one; else the first official name, because
    fine-tuned models have the names and shapes of the original (MedSAM those of SAM-B); else the name that transformers
    looks for, if the .bhk file holds the configuration of a transformers model. The configuration files are then written
    beside it.

    >>> report = bhk.export("demo_sam.bhk", "dense.safetensors")
    >>> report.path.name
    'dense.safetensors'
    >>> bhk.diff("demo_sam.bhk", "dense.safetensors").equal
    True

    Args:
        path: a .bhk file, or "hf://user/repo[/file.bhk][@revision]" on the Hugging Face Hub.
        out: a .pth, .pt, .bin (torch) or .safetensors file to write, or a folder (one that exists, or a name that ends
            in a slash).
        shard_bytes: split into shards of at most this many bytes, with an index that Hugging Face libraries read.
        force: overwrite existing files. New shards get other names than those that the old index names, which are removed
            when the new index is there.
        progress: called with ("Exporting", dense bytes written, all dense bytes).

    Raises:
        HubError: the file could not be downloaded from the Hub.
        ReadError, FormatError: the .bhk file cannot be read, or breaks a rule of the format.
        WriteError: `out` exists, is the file being read, or cannot be written; all files are left unchanged.
        UnsupportedFormatError: `out` has an unknown suffix.
        UnnamedModelError: `out` is a folder, and the model has no official file name.
    """
    target, other_names = name_in_folder(path, out)
    source = local_file(path)
    with open_file(source) as file:
        file.check_size()
        companions = readable_companions_of(file.metadata) if target != Path(out) else {}
        beside = {name: text.encode("utf-8") for name, text in companions.items()}
        written = _write_weights(file, target, source, beside, shard_bytes, force, progress or silent)
    return ExportReport(tuple(ExportedFile(file, file.stat().st_size) for file in written), other_names)


def _write_weights(
    file: BhkFile,
    target: Path,
    source: Path,
    beside: Mapping[str, bytes],
    shard_bytes: int | None,
    force: bool,
    progress: Progress,
) -> tuple[Path, ...]:
    specs = [TensorSpec(layer.name, TORCH_DTYPES[layer.dtype], layer.shape) for layer in file.layers]
    done, total = 0, sum(spec.nbytes for spec in specs)

    def advance(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        progress("Exporting", done, total)

    return write(
        target,
        specs,
        file.tensor,
        aliases={layer.name: layer.aliases for layer in file.layers if layer.aliases},
        layout=Layout.from_metadata(file.metadata),
        shard_bytes=shard_bytes,
        beside=beside,
        force=force,
        sources=(source,),
        advance=advance,
    )


def name_in_folder(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> tuple[Path, tuple[str, ...]]:
    """Return the file to write, and other official names it could have; see `export`.

    Raises:
        HubError: the .bhk file could not be read from the Hub.
        ReadError, FormatError: the .bhk file cannot be read, or breaks a rule of the format.
        UnnamedModelError: `out` is a folder, and the model has no official file name.
    """
    target = Path(out)
    if not (target.is_dir() or os.fspath(out).endswith(("/", os.sep))):
        return target, ()
    with open_container(path) as container:
        model, metadata = container.header.model, container.header.metadata
    names = published_files(model) if model else ()
    if companions_of(metadata):
        names = names or (_TRANSFORMERS,)
    if not names:
        held = f"holds {title_of(model)}" if model else "does not say which model it holds"
        raise UnnamedModelError(f"{path} {held}, so it has no official file name; give the name of the file to write")
    first = metadata["source.name"] if metadata.get("source.name") in names else names[0]
    chosen, *others = (name.removesuffix(".zip") for name in (first, *(name for name in names if name != first)))
    return target / chosen, tuple(others)
