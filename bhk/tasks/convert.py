"""A checkpoint to a .bhk file: `bhk.convert`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec
from torch import nn

from bhk.base.errors import BhkError
from bhk.base.files import WriteError, check_destination
from bhk.base.names import BHK_SUFFIX, CHECKPOINT_SUFFIXES
from bhk.base.parallel import ordered_map, worker_count
from bhk.base.progress import Progress, silent
from bhk.calibration.models import CalibrationModel
from bhk.calibration.options import Calibration, Samples
from bhk.checkpoint import Checkpoint, UnsupportedTensorError
from bhk.checkpoint.companions import KEY as COMPANION_KEY
from bhk.checkpoint.companions import companions_beside
from bhk.checkpoint.folder import INDEX_SUFFIX
from bhk.codec.dtypes import DTYPE_NAMES
from bhk.codec.fit import PresetError
from bhk.container.header import Header, LayerEntry, ModelEntry
from bhk.container.header_size import likely_header_size
from bhk.container.validate import ALIGNMENT, PREAMBLE_BYTES, validate
from bhk.conversion.coder import CalibrationReport, Coder, coding, model_of
from bhk.conversion.fidelity_search import pictures_for, snr_for_fidelity
from bhk.conversion.plan import Item, plan
from bhk.conversion.quality import Quality
from bhk.conversion.steps import Steps, snr_for_ratio
from bhk.conversion.writing import estimated, outline_of, write
from bhk.hub.address import parse_address
from bhk.pictures.prompted import Asked
from bhk.sam.checkpoints import read_checkpoint
from bhk.sam.configuration import FILE as CONFIG
from bhk.sam.configuration import deviations
from bhk.sam.recognise import Recognised
from bhk.version import __version__

OWN_KEYS = (
    "checkpoint.",
    COMPANION_KEY,
)  # how the names of what `Layout.to_metadata` and `companions_beside` give begin


class MetadataError(BhkError):
    """An entry of the metadata that is not the user's to choose."""


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did.

    Attributes:
        path: the .bhk file; None after a dry run.
        source_bytes: bytes of the dense tensors, each once.
        bytes: size of the .bhk file; estimated in a dry run.
        seconds: wall time.
        layers: the layer map; in a dry run without streams and errors.
        warnings: tensors that could not be coded and why, in words.
        left_out: what the checkpoint held beside its weights, in words.
        calibration: None where there was none.
    """

    path: Path | None
    source_bytes: int
    bytes: int
    seconds: float
    layers: tuple[LayerEntry, ...] = field(repr=False)
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]
    calibration: CalibrationReport | None = None

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than the dense tensors."""
        return self.source_bytes / self.bytes

    @property
    def coded(self) -> int:
        """Number of tensors coded on a trajectory."""
        return sum(layer.encoding == "trajectory" for layer in self.layers)


def convert(
    src: str | os.PathLike[str] | nn.Module,
    out: str | os.PathLike[str] | None = None,
    quality: str | Quality = "balanced",
    *,
    calibration: Calibration | Samples | None = None,
    key: str | None = None,
    metadata: Mapping[str, str] | None = None,
    threads: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ConversionReport:
    """Convert a checkpoint into a .bhk file.

    With `calibration`, bhk runs the model on samples and codes its weights so that its outputs change less: each column's
    error is compensated by later columns (GPTQ), and tensors that move the outputs most get finer steps. At the same preset,
    outputs change about as much as without calibration, in a smaller file.

    >>> report = bhk.convert("demo_sam.safetensors", "small.bhk", "small")
    >>> report.path.name, round(report.ratio, 1)
    ('small.bhk', 4.7)

    Args:
        src: a .pth, .pt, .bin or .safetensors file, a folder of shards, a zip that holds one of them, or a Hub id; or a module,
            whose state dict is coded and which needs an `out`.
        out: the file to write; by default the source's name with the suffix .bhk, beside it (for a Hub id: in this folder).
        quality: the name of a preset ("fine", "balanced", "small" or "birkhoff"), or a `bhk.Quality`.
        calibration: a `bhk.Calibration`, or its samples: "dead-leaves", "noise", a folder of pictures, or samples of your own.
        key: which state dict to convert if the checkpoint holds several, such as "ema" or "model.state_dict".
        metadata: entries to add to the file's metadata, such as {"license": "Apache-2.0"}.
        threads: worker threads; by default one per core. The bytes written do not depend on it.
        force: replace `out` if it exists.
        dry_run: estimate the sizes and write nothing.
        progress: called with (stage, done, total): ("Encoding", bytes of dense tensors done, all bytes), and before that
            ("Moments", "Sensitivity" or "Fidelity", samples or trials done, all of them).

    Raises:
        CalibrationError, NoPicturesError: the model cannot be built, fails, or cannot be run on these samples.
        WorkDirError: the calibration's work folder holds results of other work.
        CheckpointError: the source cannot be read, holds no tensors, is ambiguous or not safe to load.
        PresetError, PatternError: the quality is unknown or out of reach, or a pattern matches no tensor.
        MetadataError: an entry of `metadata` is one that bhk writes itself.
        FormatError: the format does not allow the name of a tensor or of an entry of `metadata`.
        WriteError: the destination exists, is the source, or cannot be written; it is left as it was.
    """
    started = time.perf_counter()
    if isinstance(quality, str):
        quality = Quality(quality)
    if calibration is not None and not isinstance(calibration, Calibration):
        calibration = Calibration(calibration)
    if quality.is_published and calibration is not None:
        raise PresetError(
            f"preset {quality.preset!r} is the published method, which has no calibration; leave out one of them"
        )
    progress = progress or silent
    workers = worker_count(threads)
    if out is not None and not dry_run:
        check_destination(Path(out), force=force)
    checkpoint, recognised = read_checkpoint(src, key)
    path = Path(out) if out is not None else _default_destination(src)
    if not dry_run:
        check_destination(path, force=force, sources=checkpoint.source.inputs)
        if path.suffix in CHECKPOINT_SUFFIXES:
            raise WriteError(
                f"{path} has the name of a checkpoint; give the .bhk file a name that ends in {BHK_SUFFIX}"
            )
    _check_tensors(checkpoint)
    folder = checkpoint.source.files[0].parent if checkpoint.source.files else None
    odd = deviations(recognised.family.name, folder) if recognised and folder else ()
    companions, not_kept = companions_beside(checkpoint)
    entry = None if recognised is None else _entry(recognised, odd)
    template = _template(checkpoint, entry, companions, metadata or {})
    _check_names(checkpoint, template)

    def outline(items: Sequence[Item]) -> Header:
        return msgspec.structs.replace(template, layers=tuple(map(outline_of, items)))

    def overhead(items: Sequence[Item]) -> int:
        streams = sum(2 if item.coded else 1 for item in items)
        padding = ALIGNMENT // 2 * (streams + 1)  # half a unit on average
        return PREAMBLE_BYTES + likely_header_size(outline(items)) + padding

    finer_db = recognised.finer_db if recognised else lambda name: 0.0
    items = plan(checkpoint.tensors, checkpoint.aliases, quality, finer_db)
    dense = sum(item.nbytes for item in items)
    model = model_of(src, checkpoint, recognised) if calibration or quality.fidelity else None
    pictures_shown = pictures_for(model.module, calibration) if model and quality.fidelity else ()
    with coding(model, items, calibration, progress) as coder:
        if not quality.is_published:
            steps = Steps.of(coder.allocate(items, workers), workers)
            items = steps.at(_snr(quality, steps, overhead(items), coder, model, pictures_shown, progress))
        if dry_run:
            size = overhead(items) + round(sum(ordered_map(estimated, items, workers)))
            layers, warnings = tuple(map(outline_of, items)), coder.warnings
        else:
            layers, size, warnings = write(path, checkpoint, outline(items), items, coder, workers, force, progress)
    warnings = (*warnings, *not_kept)
    if odd:
        advice = "load the file into a module of transformers with bhk.load_into"
        warnings = (*warnings, f"{CONFIG} has {', '.join(odd)}, which bhk.load does not rebuild; {advice}")
    seconds = time.perf_counter() - started
    return ConversionReport(
        None if dry_run else path, dense, size, seconds, layers, warnings, checkpoint.left_out, coder.report
    )


def _snr(
    quality: Quality,
    steps: Steps,
    overhead: int,
    coder: Coder,
    model: CalibrationModel | None,
    pictures: Sequence[Asked],
    progress: Progress,
) -> float:
    """Return the model's signal-to-noise ratio in dB that was asked for, in one way or another."""
    if quality.ratio is not None:
        return snr_for_ratio(quality.ratio, steps, overhead, coder)
    if quality.fidelity is not None and model is not None:
        return snr_for_fidelity(quality.fidelity, steps, coder, model, pictures, progress)
    return quality.model_snr_db


def _default_destination(src: str | os.PathLike[str] | nn.Module) -> Path:
    """Return the source's name with the suffix .bhk, beside it; for a Hub id, in the current folder."""
    if isinstance(src, nn.Module):
        raise WriteError(f"a {type(src).__name__} has no place of its own; say where to write the file")
    local = Path(src)
    if not local.exists():
        address = parse_address(os.fsdecode(src))
        return Path(_stem(PurePosixPath(address.path or address.repository).name) + BHK_SUFFIX)
    if local.is_dir():
        return local.parent / (local.resolve().name + BHK_SUFFIX)
    return local.with_name(_stem(local.name) + BHK_SUFFIX)


def _stem(name: str) -> str:
    stem = name.removesuffix(INDEX_SUFFIX)
    while (suffix := Path(stem).suffix) in CHECKPOINT_SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem


def _check_tensors(checkpoint: Checkpoint) -> None:
    for name, tensor in checkpoint.tensors.items():
        layer, _, last = name.rpartition(".")
        if last == "codes" and f"{layer}.codebook" in checkpoint.tensors and f"{layer}.outliers" in checkpoint.tensors:
            raise UnsupportedTensorError(
                f"{layer!r} is a HyperLinear layer, coded already; put layer.to_linear() in its place before the model is saved"
            )
        if tensor.dtype not in DTYPE_NAMES:
            raise UnsupportedTensorError(
                f"tensor {name!r} is {tensor.dtype}, which .bhk lacks; convert it in the program that made the checkpoint"
            )


def _check_names(checkpoint: Checkpoint, template: Header) -> None:
    """Raise now what the writer would raise when all is encoded."""
    layers = tuple(
        LayerEntry(name, (0,), "U8", "other", "exact", aliases=checkpoint.aliases.get(name, ()))
        for name in checkpoint.tensors
    )
    validate(msgspec.structs.replace(template, layers=layers), 0, PREAMBLE_BYTES)


def _entry(recognised: Recognised, odd: Sequence[str]) -> ModelEntry:
    """Return what the header says of the model: not its sizes where they would build another one."""
    return ModelEntry(recognised.family.name) if odd else recognised.entry


def _template(
    checkpoint: Checkpoint, model: ModelEntry | None, companions: Mapping[str, str], metadata: Mapping[str, str]
) -> Header:
    """Return the header without its layers; the source's hash is filled in when it is known."""
    dtypes = sorted({DTYPE_NAMES[tensor.dtype] for tensor in checkpoint.tensors.values()})
    source = {
        "source.name": checkpoint.source.name.encode(errors="replace").decode(),  # names of files need not be Unicode
        "source.dtype": ",".join(dtypes),
    }
    if checkpoint.source.files:
        source |= {"source.bytes": str(checkpoint.source.size), "source.sha256": "0" * 64}
    for key in metadata:
        if key in source or key.startswith(OWN_KEYS):
            raise MetadataError(f"metadata entry {key!r} is one that bhk writes itself; choose another key")
    return Header(
        generator=f"bhk {__version__}",
        layers=(),
        metadata={**source, **checkpoint.layout.to_metadata(), **companions, **metadata},
        model=model,
    )
