"""From a part of a model to a graph of ONNX operators: `trace`."""

from __future__ import annotations

import io
import warnings

import onnx
import torch

from bhk.graphs.parts import OnnxError, Part

OPSET = 17  # the first with LayerNormalization


def trace(part: Part) -> onnx.ModelProto:
    """Return the graph of a part in ONNX's own operators, as onnx has checked it. Weights are inputs, named as in the module.

    Raises:
        OnnxError: ONNX has no operator for a layer.
    """
    file = io.BytesIO()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of sizes that are fixed, and of this exporter, the one that needs only onnx
            torch.onnx.export(
                part.module,
                part.example,
                file,  # type: ignore[arg-type]
                input_names=list(part.inputs),
                output_names=list(part.outputs),
                dynamic_axes={name: dict(axes) for name, axes in part.dynamic.items()},
                opset_version=OPSET,
                dynamo=False,
                export_params=False,
                keep_initializers_as_inputs=True,  # so that equal weights stay apart
                do_constant_folding=False,  # so that weights keep their names and shapes
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).partition(". ")[0].partition("\n")[0]
        raise OnnxError(f"the {part.name} of this model has a layer that ONNX lacks: {reason}") from error
    proto = onnx.load_model_from_string(file.getvalue())
    onnx.checker.check_model(proto)
    return proto
