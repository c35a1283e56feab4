"""Building SAM 3 with Meta's package `sam3`, which expects a GPU even where it is told to build on a CPU."""

from __future__ import annotations

import gzip
import importlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from bhk.sam.architecture import Sam3

# Where the package looks for the vocabulary of its tokenizer. The wheel on PyPI does not have it.
_VOCABULARY = Path("assets") / "bpe_simple_vocab_16e6.txt.gz"
_MERGES = 49152


def build_sam3(package: ModuleType, _: Sam3) -> nn.Module:
    """Build detector and tracker, on a CPU."""
    builders: Any = importlib.import_module(f"{package.__name__}.model_builder")
    vocabulary = Path(str(package.__file__)).parent.parent / _VOCABULARY
    with tempfile.TemporaryDirectory(prefix="bhk-") as folder, _OnCpu():
        path = vocabulary if vocabulary.is_file() else _stand_in(Path(folder))
        model: Any = builders.build_sam3_video_model(None, load_from_HF=False, bpe_path=str(path), device="cpu")
    if path is not vocabulary:
        model.detector.backbone.language_backbone.tokenizer = _no_tokenizer
    return model  # type: ignore[no-any-return]


def _stand_in(folder: Path) -> Path:
    """Write a vocabulary of the right size that means nothing."""
    path = folder / _VOCABULARY.name
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(f"{number} {number}\n" for number in range(_MERGES))
    return path


def _no_tokenizer(*_: object, **__: object) -> torch.Tensor:
    raise RuntimeError(
        f"the package sam3 has no vocabulary; put {_VOCABULARY.name} into the folder {_VOCABULARY.parent} beside it"
    )


class _OnCpu(TorchFunctionMode):
    """Makes tensors for a GPU on the CPU."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        device = options.get("device")
        if device is not None and torch.device(device).type == "cuda":
            options["device"] = "cpu"
        return func(*args, **options)
