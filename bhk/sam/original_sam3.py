"""Building SAM 3 with Meta's package `sam3`, which expects a GPU even where it is told to build on a CPU."""

from __future__ import annotations

import contextlib
import importlib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from bhk.sam.architecture import Sam3, Sam3Image
from bhk.sam.vocabulary import Vocabulary, meaningless, write_vocabulary


def build_sam3(package: ModuleType, sizes: Sam3 | Sam3Image) -> nn.Module:
    """Build the package's model for pictures: the detector, with the tracker, if there is one, for points and boxes."""
    tracker = not isinstance(sizes, Sam3Image) or sizes.tracker
    return _built(package, "build_sam3_image_model", enable_inst_interactivity=tracker)


def build_sam3_video(package: ModuleType, _: Sam3) -> nn.Module:
    """Build the package's model for clips, detector and tracker side by side."""
    return _built(package, "build_sam3_video_model")


def build_sam3_multiplex(package: ModuleType, _: Sam3) -> nn.Module:
    """Build SAM 3.1, detector and tracker side by side. Its builder takes a checkpoint; it gets one that is empty."""

    def build(builders: Any, vocabulary: Path) -> nn.Module:
        nothing = vocabulary.with_name("nothing.pt")
        torch.save({}, nothing)
        with contextlib.redirect_stdout(io.StringIO()):  # it lists what the checkpoint lacks
            predictor = builders.build_sam3_multiplex_video_predictor(
                checkpoint_path=str(nothing), bpe_path=str(vocabulary), use_fa3=False, use_rope_real=False
            )
        return predictor.model  # type: ignore[no-any-return]

    return _without_gpu(package, build)


def _built(package: ModuleType, builder: str, **options: Any) -> nn.Module:
    def build(builders: Any, vocabulary: Path) -> nn.Module:
        return getattr(builders, builder)(  # type: ignore[no-any-return]
            bpe_path=str(vocabulary), checkpoint_path=None, load_from_HF=False, device="cpu", **options
        )

    return _without_gpu(package, build)


def _without_gpu(package: ModuleType, build: Callable[[Any, Path], nn.Module]) -> nn.Module:
    """Return what a function builds with the package's module of builders and a vocabulary, on a CPU."""
    with tempfile.TemporaryDirectory(prefix="bhk-") as folder, WithoutGpu(), _some_gpu(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "CUDA is not available")
        builders = importlib.import_module(f"{package.__name__}.model_builder")
        model = build(builders, write_vocabulary(Path(folder), meaningless()))
    for module in model.modules():
        _complete(module, package.__name__)
    return model


@contextlib.contextmanager
def _some_gpu() -> Iterator[None]:
    """Answer those who ask torch what the first GPU can do, where there is none: nothing new."""
    ask = torch.cuda.get_device_properties
    if not torch.cuda.is_available():
        torch.cuda.get_device_properties = lambda *_: SimpleNamespace(major=0)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.cuda.get_device_properties = ask


def _complete(module: Any, package: str) -> None:
    """Give a part of the model what depends on its device, and take away what the package leaves to the whole process."""
    match type(module).__name__:
        case "VETextEncoder":
            module.tokenizer = Vocabulary(package)
        case "TextTransformer":  # made of torch.empty, which is on meta while bhk builds a model without weights
            module.attn_mask = torch.full((module.num_pos, module.num_pos), float("-inf")).triu_(1)
        case "PositionEmbeddingSine":
            module.cache.clear()
        case "TransformerDecoder":
            module.compilable_cord_cache = None
        case "Sam3TrackerPredictor" | "Sam3MultiplexPredictorWrapper":
            module.bf16_context.__exit__(None, None, None)  # bfloat16 for all that the process computes on a GPU


def vocabulary_of(model: nn.Module) -> Vocabulary | None:
    """Return the vocabulary of a SAM 3 that was built here; None for other models."""
    found = (getattr(module, "tokenizer", None) for module in model.modules())
    return next((tokenizer for tokenizer in found if isinstance(tokenizer, Vocabulary)), None)


class WithoutGpu(TorchFunctionMode):
    """Makes tensors for a GPU on the CPU, and leaves those there that the package would move or pin."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (torch.Tensor.cuda, torch.Tensor.pin_memory):
            return args[0]
        options = dict(kwargs or {})
        device = options.get("device")
        if device is not None and torch.device(device).type == "cuda":
            options["device"] = "cpu"
        return func(*args, **options)
