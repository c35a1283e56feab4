"""From a part of a model to a graph of ONNX operators: `trace`."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from bhk.graphs.parts import OnnxError, Part

OPSET = 17  # the first with LayerNormalization
_TABLE = 1024  # entries from which a constant is worth two nodes


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
                training=torch.onnx.TrainingMode.PRESERVE,  # it is in eval mode; TinyViT makes large tables when that is set
                export_params=False,
                keep_initializers_as_inputs=True,  # so that equal weights stay apart
                do_constant_folding=False,  # so that weights keep their names and shapes
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).partition(". ")[0].partition("\n")[0]
        raise OnnxError(f"the {part.name} of this model has a layer that ONNX lacks: {reason}") from error
    proto = onnx.load_model_from_string(file.getvalue())
    _share_indices(proto.graph)
    onnx.checker.check_model(proto)
    return proto


def _share_indices(graph: onnx.GraphProto) -> None:
    """Hold tables of small indices in a byte each, and equal ones once; runtimes widen them when they load the graph."""
    widened: dict[bytes, str] = {}
    for node in graph.node:
        if node.op_type != "Constant" or node.attribute[0].name != "value":
            continue
        table = numpy_helper.to_array(node.attribute[0].t)
        if table.dtype != np.int64 or table.size < _TABLE or not 0 <= table.min() <= table.max() < 256:
            continue
        name, key = node.output[0], table.tobytes() + str(table.shape).encode()
        if key in widened:
            node.CopyFrom(helper.make_node("Identity", [widened[key]], [name]))
        else:
            widened[key] = name
            graph.initializer.append(numpy_helper.from_array(table.astype(np.uint8), f"{name}.bytes"))
            node.CopyFrom(helper.make_node("Cast", [f"{name}.bytes"], [name], to=TensorProto.INT64))
