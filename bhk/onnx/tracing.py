"""From a part of a model to a graph of ONNX operators: `trace`."""

from __future__ import annotations

import io
import warnings

import onnx
import torch

from bhk.base.errors import BhkError
from bhk.onnx.graphs import Graph

OPSET = 17  # the first with LayerNormalization; ONNX Runtime has it from 1.12 on


class OnnxOperatorError(BhkError):
    """A layer of the model has no ONNX operator."""


def trace(graph: Graph) -> onnx.ModelProto:
    """Return the graph of a module, in ONNX's own operators only. Its weights are inputs, called as in the model's state dict.

    Raises:
        OnnxOperatorError: ONNX has no operator for a layer of the module.
    """
    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes that are fixed, and of this exporter, which needs only onnx
        torch.onnx.export(
            graph.module,
            graph.example,
            file,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes={name: dict(axes) for name, axes in graph.dynamic.items()},
            opset_version=OPSET,
            dynamo=False,
            export_params=False,
            keep_initializers_as_inputs=True,  # so that equal weights stay apart
            do_constant_folding=False,  # so that weights keep their names and shapes
        )
    return onnx.load_model_from_string(file.getvalue())
