"""The sides of a comparison on a CPU: what each runs, and in which numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor

from tools.bench.models.sam_parts import Features
from tools.bench.runtimes import exported, in_torch


class Encoder(Protocol):
    """What runs an image encoder."""

    def encode(self, image: Tensor) -> Features:
        """Return the features of an image, float32 (1, 3, size, size), as `Parts.encode` does."""


class Numbers(NamedTuple):
    """In which numbers an image encoder multiplies."""

    linear: str = "float32"
    attention: str = "float32"
    convolution: str = "float32"


_FLOAT32, _BFLOAT16 = Numbers(), Numbers("bfloat16", "bfloat16", "bfloat16")


@dataclass(frozen=True)
class Side:
    """A way to run a model.

    Attributes:
        load: makes the encoder from a folder of files; a whole model is a `Parts`.
        numbers: in which it multiplies.
        package: what it needs beside the model's own package.
        prepare: writes the files that `load` needs beside those of `write_files`; None if it needs no others.
        is_whole: whether prompts run this way, too, and not only the image encoder.
    """

    load: Callable[[Path], Encoder]
    numbers: Numbers = _FLOAT32
    package: str = "torch"
    prepare: Callable[[Path], None] | None = None
    is_whole: bool = False


def _onnx_runtime(name: str, prepare: Callable[[Path], None], linear: str) -> Side:
    return Side(partial(exported.onnx_runtime, name), Numbers(linear), package="onnxruntime", prepare=prepare)


def _openvino(name: str, prepare: Callable[[Path], None], precision: str, linear: str, rest: str) -> Side:
    return Side(partial(exported.open_vino, name, precision), Numbers(linear, rest, rest), "openvino", prepare)


SIDES = {
    "dense": Side(in_torch.dense, is_whole=True),
    "torch.compile": Side(in_torch.compiled),
    "bfloat16": Side(in_torch.in_bfloat16, _BFLOAT16, is_whole=True),
    "bhk attention": Side(in_torch.with_fused_attention, package="bhk", is_whole=True),
    "bhk exact": Side(in_torch.coded, package="bhk", is_whole=True),
    "bhk int8": Side(partial(in_torch.coded, compute="int8"), Numbers("int8"), "bhk", is_whole=True),
    "torchao int8": Side(in_torch.torchao_int8, Numbers("int8"), "torchao"),
    "ONNX Runtime float32": _onnx_runtime(exported.ONNX, exported.export_onnx, "float32"),
    "ONNX Runtime int8": _onnx_runtime(exported.ONNX_INT8, exported.quantise_onnx, "int8"),
    "OpenVINO float32": _openvino(exported.OPENVINO, exported.export_openvino, "f32", "float32", "float32"),
    "OpenVINO bfloat16": _openvino(exported.OPENVINO, exported.export_openvino, "bf16", "bfloat16", "bfloat16"),
    "OpenVINO int8": _openvino(exported.OPENVINO_INT8, exported.quantise_openvino, "bf16", "int8", "bfloat16"),
}
