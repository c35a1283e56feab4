"""The dense model that a checkpoint holds, for calibration to run."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bhk.base.errors import option
from bhk.base.packages import import_package
from bhk.base.strict_json import parse_object
from bhk.calibration.errors import CalibrationError
from bhk.checkpoint import Checkpoint
from bhk.checkpoint.companions import CONFIG, without_code
from bhk.nn.errors import MismatchError
from bhk.nn.meta import Most, weights_on_meta
from bhk.nn.model_tensors import model_tensors
from bhk.sam.load import dense_model, fill
from bhk.sam.packages import TRANSFORMERS
from bhk.sam.recognise import Recognised

_ADVICE = f"convert without {option('calibration')} or {option('fidelity')}, or give the model itself to bhk.convert, in Python"


@dataclass(frozen=True, eq=False)
class CalibrationModel:
    """A dense model, and the names its weights have in a checkpoint.

    Attributes:
        module: float32, in eval mode. It may share its tensors with the checkpoint: read them, do not write to them.
        names: parameter name (as in `named_parameters`) -> tensor name in the checkpoint. Several parameters may share one
            tensor. Parameters that the checkpoint lacks, and tensors that the module lacks, are left out.
    """

    module: nn.Module
    names: Mapping[str, str]


def calibration_model(
    src: str | os.PathLike[str] | nn.Module, checkpoint: Checkpoint, recognised: Recognised | None
) -> CalibrationModel:
    """Return the dense model of a checkpoint, on the first GPU if there is one.

    A file's model is one of the Segment Anything family, or the one that a config.json of transformers beside it describes.
    A module is copied.

    Args:
        src: what the checkpoint was read from.
        checkpoint, recognised: as `read_checkpoint` returns them.

    Raises:
        CalibrationError: bhk cannot build the model, its tensors do not fit, or the module cannot be copied.
        UnknownModelError, MismatchError: it belongs to the family, but differs from the models that bhk builds.
        MissingPackageError: the model's package is not installed; the message says how to install it.
    """
    if isinstance(src, nn.Module):
        model = _copied(src, checkpoint)
    else:
        module, prefix = _built(Path(src), checkpoint, recognised)
        model = CalibrationModel(module.float().eval(), _names(module, prefix, checkpoint))
    model.module.to("cuda" if torch.cuda.is_available() else "cpu")
    return model


def _copied(module: nn.Module, checkpoint: Checkpoint) -> CalibrationModel:
    try:
        copied = copy.deepcopy(module).float().eval()
    except RuntimeError as error:
        raise CalibrationError(f"cannot copy the {type(module).__name__} to calibrate it: {error}") from error
    stored = ((name, alias) for name in checkpoint.tensors for alias in (name, *checkpoint.aliases.get(name, ())))
    own = {checkpoint.layout.flat(alias): name for name, alias in stored}
    return CalibrationModel(copied, {name: own.get(name, name) for name, _ in copied.named_parameters()})


def _built(path: Path, checkpoint: Checkpoint, recognised: Recognised | None) -> tuple[nn.Module, str]:
    """Return the model of a file, and the prefix its tensor names have in the checkpoint, such as "bert."."""
    folder = checkpoint.source.files[0].parent
    if recognised and recognised.fault is None:
        return dense_model(checkpoint, recognised, path), recognised.prefix
    if (folder / CONFIG).is_file():
        return _transformers_model(checkpoint, folder)
    raise CalibrationError(
        f"{path} holds {len(checkpoint.tensors)} tensors of a model that bhk cannot build; expected one of the Segment "
        f"Anything family, or a {CONFIG} of transformers beside the file; {_ADVICE}"
    )


def _names(module: nn.Module, prefix: str, checkpoint: Checkpoint) -> dict[str, str]:
    """Return each parameter's name in the checkpoint, which may know only one name of a tied parameter."""
    first = {alias: name for name, aliases in checkpoint.aliases.items() for alias in (name, *aliases)}
    first |= {name: name for name in checkpoint.tensors}
    found = {}
    for tied in model_tensors(module):
        stored = next((first[prefix + name] for name in tied.names if prefix + name in first), None)
        if stored is not None and isinstance(tied.tensor, nn.Parameter):
            found[tied.names[0]] = stored
    return found


def _transformers_model(checkpoint: Checkpoint, folder: Path) -> tuple[nn.Module, str]:
    """Return the model that the config.json in `folder` describes, and its prefix in the checkpoint."""
    package: Any = import_package([TRANSFORMERS])
    try:
        with tempfile.TemporaryDirectory() as harmless:
            values = without_code(parse_object((folder / CONFIG).read_bytes()))
            Path(harmless, CONFIG).write_text(json.dumps(values), "utf-8")
            config = package.AutoConfig.from_pretrained(harmless, trust_remote_code=False, local_files_only=True)
        with weights_on_meta(Most.of(tensor.shape for tensor in checkpoint.tensors.values())):
            model: Any = package.AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except Exception as error:  # a config.json may say anything, and raise anything
        reason = str(error).partition("\n")[0]
        raise CalibrationError(
            f"transformers cannot build a model from {folder / CONFIG} ({reason}); {_ADVICE}"
        ) from error
    tensors = checkpoint.all_values()

    def known(prefix: str) -> dict[str, Tensor]:
        return {name: tensors[prefix + name] for name in model.state_dict() if prefix + name in tensors}

    prefix = max(("", f"{model.base_model_prefix}."), key=lambda prefix: len(known(prefix)))
    if getattr(model, "pooler", None) is not None and not any(name.startswith("pooler.") for name in known(prefix)):
        model.pooler = None  # checkpoints of heads that do not use it, such as masked language models, lack it
    try:
        fill(model, known(prefix), (), folder)
    except MismatchError as error:
        raise CalibrationError(f"{error}; {_ADVICE}") from error
    return model, prefix
