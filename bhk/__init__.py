"""bhk: compress checkpoints into small, checked .bhk files with the Birkhoff method."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bhk.version import __version__

if TYPE_CHECKING:
    from bhk.base.errors import BhkError as BhkError
    from bhk.codec.tensor import EncodedTensor as EncodedTensor
    from bhk.codec.tensor import encode as encode
    from bhk.file.bhkfile import BhkFile as BhkFile
    from bhk.file.bhkfile import load_state_dict as load_state_dict
    from bhk.file.bhkfile import open_file as open
    from bhk.nn.loading import LoadReport as LoadReport
    from bhk.nn.loading import load_into as load_into
    from bhk.publishing.pull import PullReport as PullReport
    from bhk.publishing.pull import pull as pull
    from bhk.publishing.push import PushReport as PushReport
    from bhk.publishing.push import push as push
    from bhk.sam.load import load as load
    from bhk.tasks.accuracy import AccuracyReport as AccuracyReport
    from bhk.tasks.accuracy import accuracy as accuracy
    from bhk.tasks.compare import Comparison as Comparison
    from bhk.tasks.compare import compare as compare
    from bhk.tasks.convert import ConversionReport as ConversionReport
    from bhk.tasks.convert import convert as convert
    from bhk.tasks.diff import diff as diff
    from bhk.tasks.export import export as export
    from bhk.tasks.fidelity import FidelityReport as FidelityReport
    from bhk.tasks.fidelity import fidelity as fidelity
    from bhk.tasks.inspect import Inspection as Inspection
    from bhk.tasks.inspect import inspect as inspect
    from bhk.tasks.models import Model as Model
    from bhk.tasks.models import models as models
    from bhk.tasks.report import WrittenReport as WrittenReport
    from bhk.tasks.report import report as report
    from bhk.tasks.segment import Segmentation as Segmentation
    from bhk.tasks.segment import segment as segment
    from bhk.tasks.verify import Verification as Verification
    from bhk.tasks.verify import verify as verify

# Where each public name lives. Nothing is imported before it is used: `import bhk` needs neither torch nor numpy.
_HOME = {
    "AccuracyReport": ("bhk.tasks.accuracy", "AccuracyReport"),
    "accuracy": ("bhk.tasks.accuracy", "accuracy"),
    "BhkError": ("bhk.base.errors", "BhkError"),
    "BhkFile": ("bhk.file.bhkfile", "BhkFile"),
    "Comparison": ("bhk.tasks.compare", "Comparison"),
    "compare": ("bhk.tasks.compare", "compare"),
    "ConversionReport": ("bhk.tasks.convert", "ConversionReport"),
    "EncodedTensor": ("bhk.codec.tensor", "EncodedTensor"),
    "convert": ("bhk.tasks.convert", "convert"),
    "diff": ("bhk.tasks.diff", "diff"),
    "encode": ("bhk.codec.tensor", "encode"),
    "export": ("bhk.tasks.export", "export"),
    "FidelityReport": ("bhk.tasks.fidelity", "FidelityReport"),
    "fidelity": ("bhk.tasks.fidelity", "fidelity"),
    "Inspection": ("bhk.tasks.inspect", "Inspection"),
    "Segmentation": ("bhk.tasks.segment", "Segmentation"),
    "Model": ("bhk.tasks.models", "Model"),
    "Verification": ("bhk.tasks.verify", "Verification"),
    "LoadReport": ("bhk.nn.loading", "LoadReport"),
    "inspect": ("bhk.tasks.inspect", "inspect"),
    "load": ("bhk.sam.load", "load"),
    "load_into": ("bhk.nn.loading", "load_into"),
    "load_state_dict": ("bhk.file.bhkfile", "load_state_dict"),
    "models": ("bhk.tasks.models", "models"),
    "open": ("bhk.file.bhkfile", "open_file"),
    "PullReport": ("bhk.publishing.pull", "PullReport"),
    "pull": ("bhk.publishing.pull", "pull"),
    "PushReport": ("bhk.publishing.push", "PushReport"),
    "push": ("bhk.publishing.push", "push"),
    "report": ("bhk.tasks.report", "report"),
    "WrittenReport": ("bhk.tasks.report", "WrittenReport"),
    "segment": ("bhk.tasks.segment", "segment"),
    "verify": ("bhk.tasks.verify", "verify"),
}

__all__ = ["__version__", *_HOME]


_ROOMS = ("nn", "sam")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"bhk.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'bhk' has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
