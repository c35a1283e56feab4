"""The first step of a conversion: read the source, and check everything that can fail before the work begins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from bhk.base.errors import listed, option, shown
from bhk.base.files import WriteError, check_destination
from bhk.base.names import BHK_SUFFIX, CHECKPOINT_SUFFIXES
from bhk.base.parallel import worker_count
from bhk.base.texts import counted
from bhk.calibration.inputs import Inputs
from bhk.calibration.model import CalibrationModel, calibration_model
from bhk.calibration.options import Calibration
from bhk.calibration.samples import inputs_for
from bhk.checkpoint import Checkpoint, UnsupportedTensorError
from bhk.checkpoint.companions import companions_beside
from bhk.checkpoint.computed import pruned_weights
from bhk.checkpoint.quantised import find_quantised
from bhk.checkpoint.terms import terms_beside
from bhk.codec.dtypes import DTYPE_NAMES
from bhk.codec.fit import PresetError
from bhk.container.header import Header
from bhk.conversion.destination import default_destination
from bhk.conversion.fidelity_search import pictures_for
from bhk.conversion.header import check_metadata, start_header
from bhk.conversion.provenance import calibration_provenance, provenance
from bhk.conversion.quality import Quality
from bhk.conversion.selection import PlannedTensor, select
from bhk.pictures.folder import replaced_pictures
from bhk.pictures.prompted import Asked
from bhk.sam.checkpoints import read_checkpoint
from bhk.sam.configuration import Config
from bhk.sam.recognise import Recognised, unrecognised
from bhk.sam.variants import title_of


@dataclass(frozen=True)
class Evidence:
    """What a conversion runs the dense model on.

    Attributes:
        model: the dense model.
        calibration: the options; None without calibration.
        inputs: what calibration shows to the model; None without calibration.
        pictures: what the masks are compared on; none unless the quality is a fidelity.
        warnings: pictures that cannot be used, and why.
    """

    model: CalibrationModel
    calibration: Calibration | None
    inputs: Inputs | None
    pictures: tuple[Asked, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """A conversion whose source was read and whose options were checked.

    Attributes:
        checkpoint: the weights, under their names without a wrapper's prefix.
        tensors: what becomes of each tensor; steps are not chosen yet.
        header: the header without layers.
        path: the file to write.
        force: replace it if it exists.
        quality: how finely to code the model.
        evidence: what to run the model on; None if neither calibration nor fidelity need it.
        threads: number of worker threads.
        warnings: what the file will lack, and why.
    """

    checkpoint: Checkpoint
    tensors: tuple[PlannedTensor, ...]
    header: Header
    path: Path
    force: bool
    quality: Quality
    evidence: Evidence | None
    threads: int
    warnings: tuple[str, ...]


def prepare(
    src: str | os.PathLike[str] | nn.Module,
    out: str | os.PathLike[str] | None,
    quality: Quality,
    calibration: Calibration | None,
    *,
    key: str | None,
    config: Config | None,
    metadata: Mapping[str, str],
    threads: int | None,
    force: bool,
    dry_run: bool,
) -> Job:
    """Read the source, recognise its model, and check all options; see `bhk.convert`."""
    if quality.is_published and calibration is not None:
        raise PresetError(
            f"preset {quality.preset!r} is the published method, which has no calibration; "
            f"choose another preset, or leave out {option('calibration')}"
        )
    workers = worker_count(threads)
    check_metadata(metadata, of_files=not isinstance(src, nn.Module))
    if out is not None and not dry_run:
        check_destination(Path(out), force=force, sources=() if isinstance(src, nn.Module) else (Path(src),))
        _check_name(Path(out))
    checkpoint, recognised = read_checkpoint(src, key, config)
    path = default_destination(src) if out is None else Path(out)
    if not dry_run:
        shown = calibration.samples if calibration and isinstance(calibration.samples, str | os.PathLike) else None
        check_destination(path, force=force, sources=(*checkpoint.source.inputs, *replaced_pictures(shown, path)))
    _check_tensors(checkpoint)
    empty = _check_empty(checkpoint.tensors)
    quantised = find_quantised(checkpoint.tensors)
    companions, faults = companions_beside(checkpoint)
    terms, without = terms_beside(checkpoint)
    finer_db = recognised.finer_db if recognised else lambda name: 0.0
    measured = calibration is not None and calibration.steps == "measured"
    tensors = select(
        checkpoint.tensors,
        checkpoint.aliases,
        quality,
        finer_db,
        buffers=checkpoint.buffers | quantised.names,
        measured=measured,
        read=checkpoint.source.values,
    )
    evidence = None
    if calibration is not None or quality.fidelity is not None:
        model = calibration_model(src, checkpoint, recognised)
        evidence = _evidence(model, quality, calibration)
    made = provenance(quality, key)
    if evidence is not None and evidence.calibration is not None and evidence.inputs is not None:
        made |= calibration_provenance(evidence.calibration, evidence.model.module, len(evidence.inputs))
    header = start_header(checkpoint, recognised.entry if recognised else None, companions | terms, metadata, made)
    doubts = _doubts(checkpoint, recognised)
    warnings = (*empty, *_pruned(checkpoint.tensors), *quantised.lines(), *faults, *without, *doubts)
    return Job(checkpoint, tensors, header, path, force, quality, evidence, workers, warnings)


def _check_name(path: Path) -> None:
    if path.suffix in CHECKPOINT_SUFFIXES:
        raise WriteError(f"{path} has the name of a checkpoint; choose a file name that ends in {BHK_SUFFIX}")


def _check_tensors(checkpoint: Checkpoint) -> None:
    for name, tensor in checkpoint.tensors.items():
        layer, _, last = name.rpartition(".")
        if last == "codes" and {f"{layer}.codebook", f"{layer}.outlier_starts"} <= checkpoint.tensors.keys():
            raise UnsupportedTensorError(
                f"{layer!r} is a layer on codes, which is coded already; call bhk.nn.to_dense(model) before you save or "
                "convert the model"
            )
        if tensor.dtype not in DTYPE_NAMES:
            raise UnsupportedTensorError(
                f"tensor {name!r} is {tensor.dtype}, which .bhk files cannot hold; convert it in the program that made the "
                "checkpoint"
            )


def _check_empty(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return a warning about weights without elements.

    Raises:
        UnsupportedTensorError: most are, so the weights are elsewhere.
    """
    floating = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
    empty = [name for name in floating if not tensors[name].numel()]
    if not empty:
        return ()
    found = f"{counted(len(empty), 'tensor')} of {len(floating)} have no elements ({listed(empty, 3)})"
    if 2 * len(empty) >= len(floating):
        raise UnsupportedTensorError(
            f"{found}: the weights are elsewhere; ZeRO stage 3 of DeepSpeed leaves such a file, and zero_to_fp32.py in its "
            "folder gathers the weights"
        )
    return (found,)


def _pruned(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return a warning about weights that torch's pruning keeps as two tensors each."""
    pruned = pruned_weights(tensors.keys())
    if not pruned:
        return ()
    calls = " or ".join(dict.fromkeys(pruned.values()))
    return (
        f"{counted(len(pruned), 'pruned weight')} ({listed(list(pruned), 3)}) will be stored as two tensors each, the weight "
        f"before pruning and its mask; call {calls} for each layer and convert again, so that other programs load the file",
    )


def _evidence(model: CalibrationModel, quality: Quality, calibration: Calibration | None) -> Evidence:
    pictures = () if quality.fidelity is None else pictures_for(model.module, calibration)
    inputs, warnings = (None, ()) if calibration is None else inputs_for(model.module, calibration)
    return Evidence(model, calibration, inputs, pictures, warnings)


def _doubts(checkpoint: Checkpoint, recognised: Recognised | None) -> tuple[str, ...]:
    """Return what was assumed about the model, or why bhk cannot build it from the file."""
    if recognised is None:
        reason = unrecognised({name: tuple(tensor.shape) for name, tensor in checkpoint.tensors.items()})
        own = "it loads by bhk.load_into, into a module that you build"
        return () if reason is None else (f"not recognised as a Segment Anything model, because {reason}; {own}",)
    if recognised.fault is not None:
        return (f"bhk.load cannot build this model, because {recognised.fault}; {recognised.remedy}",)
    doubts = []
    if recognised.beside:
        names = listed(recognised.beside, 3)
        what = f"the {title_of(recognised.entry)} below {shown(recognised.prefix)!r}"
        doubts.append(
            f"bhk.load builds {what}, without {counted(len(recognised.beside), 'tensor')} beside it ({names})"
        )
    if recognised.note is not None:
        doubts.append(recognised.note)
    return tuple(doubts)
