"""The dense model that a checkpoint belongs to, and what to show it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bhk.base.packages import import_package
from bhk.calibration.errors import CalibrationError
from bhk.calibration.inputs import BatchInputs, Inputs, SamInputs, pixel_values, random_tokens
from bhk.calibration.options import Calibration
from bhk.checkpoint import Checkpoint
from bhk.nn import weights_on_meta
from bhk.nn.errors import MismatchError
from bhk.nn.model_tensors import model_tensors
from bhk.pictures.prompted import KINDS, Asked, from_folder, synthetic
from bhk.sam.configuration import FILE as CONFIG
from bhk.sam.configuration import deviations
from bhk.sam.load import dense_model, fill
from bhk.sam.packages import TRANSFORMERS
from bhk.sam.prediction.predictor import PredictionError, predictor_for
from bhk.sam.recognise import Recognised

_ADVICE = "give bhk.convert the model in place of its file, or convert without calibration"
_TOKENS = 128  # of a sequence
_SIDE = 224  # of a picture, where a vision model takes any


@dataclass(frozen=True, eq=False)
class CalibrationModel:
    """A dense model, and where its weights stand in a checkpoint.

    Attributes:
        module: float32, in eval mode. Its tensors may be those of the checkpoint: to be read, not written to.
        names: of its parameters, as `named_parameters` gives them -> of tensors of the checkpoint, of which several parameters
            may have one. Parameters that the checkpoint lacks, and tensors that the module lacks, are not in it.
    """

    module: nn.Module
    names: Mapping[str, str]


def calibration_model(
    src: str | os.PathLike[str], checkpoint: Checkpoint, recognised: Recognised | None
) -> CalibrationModel:
    """Build the model that a checkpoint belongs to: of the family, or by the config.json of transformers beside it.

    Args:
        src: what to call the checkpoint in errors.
        checkpoint, recognised: as `read_checkpoint` returns them.

    Raises:
        CalibrationError: nothing says which model it is, or the tensors are others.
        UnknownModelError, MismatchError: it is of the family, but not as bhk builds its models.
        MissingPackageError: the package that the model comes from is not installed; the message says how to get it.
    """
    folder = checkpoint.source.files[0].parent
    odd = deviations(recognised.family.name, folder) if recognised else ()
    if recognised and recognised.architecture and not odd:
        module, prefix = dense_model(checkpoint, recognised, Path(src)), ""
    elif (folder / CONFIG).is_file():
        module, prefix = _transformers_model(checkpoint, folder)
    else:
        raise CalibrationError(
            f"{Path(src)} holds {len(checkpoint.tensors)} tensors of a model that bhk does not know how to build; expected "
            f"one of the Segment Anything family, or a {CONFIG} of transformers beside it; {_ADVICE}"
        )
    return CalibrationModel(module.float().eval(), _names(module, prefix, checkpoint))


def _names(module: nn.Module, prefix: str, checkpoint: Checkpoint) -> dict[str, str]:
    """Return the name in the checkpoint of each parameter; of a tied one, the checkpoint may know one name only."""
    first = {alias: name for name, aliases in checkpoint.aliases.items() for alias in (name, *aliases)}
    first |= {name: name for name in checkpoint.tensors}
    found = {}
    for tied in model_tensors(module):
        stored = next((first[prefix + name] for name in tied.names if prefix + name in first), None)
        if stored is not None and isinstance(tied.tensor, nn.Parameter):
            found[tied.names[0]] = stored
    return found


def _transformers_model(checkpoint: Checkpoint, folder: Path) -> tuple[nn.Module, str]:
    """Return a model of transformers, and what stands before its names in the checkpoint, such as "bert."."""
    package: Any = import_package([TRANSFORMERS])
    try:
        config = package.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with weights_on_meta():
            model: Any = package.AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except Exception as error:  # of many kinds, for a file that may say anything
        reason = str(error).partition("\n")[0]
        raise CalibrationError(f"transformers builds no model by {folder / CONFIG} ({reason}); {_ADVICE}") from error
    tensors = dict(checkpoint.tensors)
    for name, aliases in checkpoint.aliases.items():
        tensors |= dict.fromkeys(aliases, tensors[name])

    def known(prefix: str) -> dict[str, Tensor]:
        return {name: tensors[prefix + name] for name in model.state_dict() if prefix + name in tensors}

    prefix = max(("", f"{model.base_model_prefix}."), key=lambda prefix: len(known(prefix)))
    if getattr(model, "pooler", None) is not None and not any(name.startswith("pooler.") for name in known(prefix)):
        model.pooler = None  # heads that do not need it, such as that for masked words, come without
    try:
        fill(model, known(prefix), (), folder)
    except MismatchError as error:
        raise CalibrationError(f"{error}; {_ADVICE}") from error
    return model, prefix


def inputs_for(model: CalibrationModel, calibration: Calibration) -> tuple[Inputs, tuple[str, ...]]:
    """Return what to show a model, and warnings. A single tensor, mapping or callable is one sample.

    Raises:
        CalibrationError: none of these, or not for this model.
        NoPicturesError: the folder holds no picture that can be read.
    """
    samples, limit, seed = calibration.samples, calibration.limit, calibration.seed
    if not isinstance(samples, str | os.PathLike):
        return _given(samples), ()
    if samples not in KINDS and not Path(samples).is_dir():
        raise CalibrationError(
            f"{os.fspath(samples)!r} is nothing to calibrate with; expected {', '.join(KINDS)}, or a folder of pictures"
        )
    if getattr(model.module, "main_input_name", None) == "input_ids":
        return _tokens(model.module, samples, limit, seed), ()
    with contextlib.suppress(PredictionError):
        asked, warnings = _asked(samples, limit, seed, predictor_for(model.module).side)
        return SamInputs(asked), warnings
    height, width = _picture_size(model.module)
    asked, warnings = _asked(samples, limit, seed, max(height, width))
    return BatchInputs(pixel_values((picture for picture, _ in asked), height, width)), warnings


def _given(samples: Iterable[Any] | Callable[[nn.Module], Any]) -> BatchInputs:
    if callable(samples) or isinstance(samples, Tensor | Mapping):
        return BatchInputs((samples,))
    try:
        batches = tuple(samples)
    except TypeError:
        raise CalibrationError(
            f"{type(samples).__name__} is nothing to calibrate with; expected {', '.join(KINDS)}, a folder of pictures, "
            "samples that can be iterated, or a callable that is given the model"
        ) from None
    if not batches:
        raise CalibrationError("there are no samples to calibrate with; give at least one")
    return BatchInputs(batches)


def _tokens(module: Any, kind: str | os.PathLike[str], limit: int, seed: int) -> BatchInputs:
    if kind not in KINDS:
        raise CalibrationError(
            f"{type(module).__name__} reads tokens, not the pictures of {os.fspath(kind)}; give {' or '.join(KINDS)} "
            "for random tokens, or samples of your own"
        )
    config = module.config.get_text_config()
    length = min(_TOKENS, getattr(config, "max_position_embeddings", _TOKENS))
    return BatchInputs(random_tokens(config.vocab_size, limit, length, seed))


def _asked(
    samples: str | os.PathLike[str], limit: int, seed: int, side: int
) -> tuple[tuple[Asked, ...], tuple[str, ...]]:
    for kind in KINDS:
        if samples == kind:
            return synthetic(kind, limit, seed, side), ()
    asked, unreadable = from_folder(Path(samples), limit, seed, side)
    return asked, tuple(f"left out of the calibration: {reason}" for reason in unreadable)


def _picture_size(module: Any) -> tuple[int, int]:
    """Return (height, width) of the pictures that a vision model takes.

    Raises:
        CalibrationError: it is none that bhk knows.
    """
    if getattr(module, "main_input_name", None) == "pixel_values":
        size = getattr(module.config, "image_size", _SIDE)
    elif isinstance(getattr(module, "img_size", None), int):  # an image encoder of the family alone
        size = module.img_size
    else:
        raise CalibrationError(
            f"bhk knows no pictures or tokens for {type(module).__name__}; calibrate with samples that its forward takes"
        )
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
