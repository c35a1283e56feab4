"""Image encoders that run outside torch: exported to ONNX Runtime and OpenVINO, and quantised by their own tools.

Both take as many threads as torch has. Post-training quantisation by nncf sees a few random pictures, such as those that are
timed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tools.bench.models.sam_parts import Features, Parts, random_image
from tools.bench.runtimes.in_torch import dense

ONNX, ONNX_INT8 = "encoder.onnx", "encoder_int8.onnx"
OPENVINO, OPENVINO_INT8 = "encoder.xml", "encoder_int8.xml"
CALIBRATION = 4  # pictures


class Exported:
    """An image encoder outside torch.

    Attributes:
        run: takes an image, float32 (1, 3, size, size), and returns the features, as numpy arrays.
    """

    def __init__(self, run: Callable[[Any], Sequence[Any]]) -> None:
        self.run = run

    def encode(self, image: Tensor) -> Features:
        """Return the features as `Parts.encode` does."""
        return tuple(map(torch.from_numpy, self.run(image.numpy())))


class _Encoder(nn.Module):
    """An image encoder that takes a tensor and returns the features in a tuple."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, image: Tensor) -> Features:
        return self.parts.encode(image)


def export_onnx(folder: Path) -> None:
    """Write the dense image encoder as an ONNX file, unless it is there."""
    if not (folder / ONNX).exists():
        parts = dense(folder)
        warnings.simplefilter("ignore")  # of tracing shapes, which are fixed
        torch.onnx.export(
            _Encoder(parts), (random_image(parts.size),), folder / ONNX, input_names=["image"], dynamo=False
        )


def quantise_onnx(folder: Path) -> None:
    """Write the ONNX file with int8 weights, whose products round their inputs to bytes when they run."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    export_onnx(folder)
    quantize_dynamic(
        folder / ONNX, folder / ONNX_INT8, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8
    )


def onnx_runtime(name: str, folder: Path) -> Exported:
    """Load an ONNX file into ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
    return Exported(lambda image: session.run(None, {"image": image}))


def export_openvino(folder: Path) -> None:
    """Write the dense image encoder in OpenVINO's format, unless it is there."""
    import openvino

    if not (folder / OPENVINO).exists():
        parts = dense(folder)
        image = random_image(parts.size)
        warnings.simplefilter("ignore")  # of tracing shapes, which are fixed
        model = openvino.convert_model(_Encoder(parts), example_input=image, input=tuple(image.shape))
        openvino.save_model(model, folder / OPENVINO, compress_to_fp16=False)


def quantise_openvino(folder: Path) -> None:
    """Write the image encoder with int8 weights and activations, in OpenVINO's format."""
    import nncf
    import openvino

    export_openvino(folder)
    model = openvino.Core().read_model(folder / OPENVINO)
    size = model.input(0).shape[3]
    images = nncf.Dataset([random_image(size, 1 + seed).numpy() for seed in range(CALIBRATION)])
    found = nncf.quantize(model, images, model_type=nncf.ModelType.TRANSFORMER, subset_size=CALIBRATION)
    openvino.save_model(found, folder / OPENVINO_INT8, compress_to_fp16=False)


def open_vino(name: str, precision: str, folder: Path) -> Exported:
    """Load a file into OpenVINO.

    Args:
        precision: of everything that is not quantised: "f32" or "bf16".
    """
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = openvino.Core().compile_model(folder / name, "CPU", settings)
    return Exported(lambda image: [*model(image).values()])
