"""A Segment Anything model as ONNX files: `bhk.export_onnx`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from bhk.base.errors import OptionError
from bhk.base.files import check_destination, made_folder, replace_files
from bhk.base.packages import Package, import_package
from bhk.base.progress import Progress, silent
from bhk.base.report import Report
from bhk.base.texts import choices, counted, size
from bhk.file.bhkfile import open_downloaded
from bhk.graphs.parts import OnnxError, Weights
from bhk.nn.loading import load_options
from bhk.sam.attention.biased import BiasedAttention
from bhk.sam.configuration import Config
from bhk.sam.load import load_model
from bhk.sam.variants import FAMILIES, WITHIN, prepares_of, title_of
from bhk.tasks.export import ExportedFile

if TYPE_CHECKING:
    from bhk.graphs.onnx_model import OnnxModel

ONNX = Package("onnx", "run: pip install onnx")
# Relatives have classes of the same names, and want pictures prepared in other ways.
_FAMILIES = ("sam", "sam_hq", "sam_hq_tiny", "mobile_sam", "sam2")


@dataclass(frozen=True)
class OnnxReport(Report):
    """What `bhk.export_onnx` wrote.

    Attributes:
        files: the ONNX files; after one of more than 2 GB, the file of its weights.
        tensors: of each part, how many of its tensors are held in each form.
        opset: version of ONNX's operators.
    """

    files: tuple[ExportedFile, ...]
    tensors: Mapping[str, Mapping[str, int]]
    opset: int

    def lines(self) -> Iterator[str]:
        """Yield each file with its size and the forms of its weights."""
        for file in self.files:
            forms = self.tensors.get(file.path.stem, {})
            held = ", ".join(f"{counted(count, 'tensor')} {form}" for form, count in forms.items())
            yield f"{file.path}: {size(file.bytes)}" + (f" ({held})" if held else "")


def export_onnx(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    weights: Weights = "int8",
    config: Config | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> OnnxReport:
    """Write a SAM, SAM-HQ, MobileSAM or SAM 2 as two ONNX files, `encoder.onnx` and `decoder.onnx`, for pictures.

    Their inputs and outputs are those of samexporter and of the demos that run in browsers; docs/onnx.md lists them. All
    operators are ONNX's own, so ONNX Runtime, also in a browser, and OpenVINO run the files.

    >>> report = bhk.export_onnx("demo_sam.bhk", "demo_onnx")
    >>> [file.path.name for file in report.files], report.opset
    (['encoder.onnx', 'decoder.onnx'], 17)

    Args:
        path: a .bhk file, or "hf://user/repo[/file.bhk][@revision]" on the Hugging Face Hub.
        out: the folder to write to. It is made if its parent exists.
        weights: "int8" holds weights that the file has as codes as two signed bytes a pair, and gives the decoded weights
            up to rounding in float32; "float32" holds the decoded weights; "float16" rounds tables of them to two bytes.
            Runtimes compute in float32 in any case.
        config: see `bhk.load`.
        force: overwrite existing files.
        progress: called with ("Exporting", bytes of weights, all bytes of weights), counted in float32.

    Raises:
        OptionError: there are no such `weights`.
        MissingPackageError: onnx or the model's package is not installed.
        OnnxError: the model is not of these families, or has a layer that ONNX lacks.
        WriteError: a file exists or cannot be written; all files are left unchanged.
        HubError, ReadError, FormatError, UnknownModelError, LoadError: see `bhk.load`.
    """
    if weights not in get_args(Weights):
        raise OptionError(f"weights {weights!r} are unknown; choose {choices(get_args(Weights))}")
    import_package((ONNX,))
    from bhk.graphs.onnx_model import onnx_models
    from bhk.graphs.trace import OPSET

    folder = Path(out)
    _check(folder, force)
    loaded = load_model(path, load_options(mode="dense"), config=config)
    prefix, family = str(loaded.entry.arguments.get(WITHIN, "")), FAMILIES[loaded.entry.family]
    is_prepared = prepares_of(loaded.entry)
    if family.name not in _FAMILIES or is_prepared:
        title = title_of(loaded.entry) if is_prepared else family.title
        raise OnnxError(f"bhk writes no ONNX files of {title}; it does of SAM, SAM-HQ, MobileSAM and SAM 2")
    for module in loaded.module.modules():
        if isinstance(module, BiasedAttention):
            module.ab = None  # so that the graph holds the bias of each offset, and not of each pair of tokens
    done, total = 0, sum(tensor.nbytes for tensor in loaded.module.state_dict().values())

    def advance(nbytes: int) -> None:
        nonlocal done
        done = min(done + nbytes, total)
        (progress or silent)("Exporting", done, total)

    with open_downloaded(path) as file:
        stored = {family.own_name(name[len(prefix) :]): name for name in file.names if name.startswith(prefix)}
        parts = list(onnx_models(loaded.module, file, stored, weights, advance))
    files = _write(folder, parts, force)
    (progress or silent)("Exporting", total, total)
    return OnnxReport(
        tuple(ExportedFile(file, file.stat().st_size) for file in files),
        {part.name: part.tensors for part in parts},
        OPSET,
    )


def _check(folder: Path, force: bool) -> None:
    """Check that the folder can be written, before any work is done."""
    if folder.is_dir():
        for name in ("encoder.onnx", "decoder.onnx"):
            check_destination(folder / name, force=force)
            check_destination(folder / f"{name}.data", force=force)
    else:
        check_destination(folder, force=False)


def _write(folder: Path, parts: list[OnnxModel], force: bool) -> list[Path]:
    """Write all files or none, and the folder with them; remove weights that lay beside a larger model before."""
    files = []
    with made_folder(folder), replace_files(force=force) as replacement:
        for part in parts:
            path = folder / f"{part.name}.onnx"
            data = path.with_suffix(".onnx.data")
            content, chunks = part.chunks(data.name)
            replacement.open(path).write(content)
            files.append(path)
            for index, chunk in enumerate(chunks):
                if not index:
                    beside = replacement.open(data)
                    files.append(data)
                beside.write(chunk)
    for part in parts:
        data = folder / f"{part.name}.onnx.data"
        if data not in files:
            data.unlink(missing_ok=True)
    return files
