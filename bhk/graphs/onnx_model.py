"""The ONNX models of a Segment Anything model in a .bhk file: `onnx_models`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto
from torch import Tensor, nn

from bhk.file.bhkfile import BhkFile
from bhk.graphs.parts import Part, Weights, parts_of
from bhk.graphs.trace import trace
from bhk.graphs.weights import Held, hold_codes, hold_floats
from bhk.version import __version__

LARGEST = (
    2_000_000_000  # bytes of a file in the format of ONNX, protobuf, which allows 2^31; weights beyond lie beside it
)
_SMALL = 1024  # bytes of a tensor that stays in the file then
_MODEL = "model."  # where the module of a part has the model


@dataclass(frozen=True)
class OnnxModel:
    """A part of a model as ONNX.

    Attributes:
        name: name of its file, without the suffix.
        proto: the graph with its weights.
        tensors: how many tensors have each form.
    """

    name: str
    proto: onnx.ModelProto
    tensors: Mapping[str, int]

    def chunks(self, data_name: str) -> tuple[bytes, Iterator[bytes]]:
        """Return the content of its file, and what follows in the file `data_name` beside it: nothing, unless it is large."""
        if sum(map(_length, self.proto.graph.initializer)) <= LARGEST:
            return self.proto.SerializeToString(), iter(())
        large = [tensor for tensor in self.proto.graph.initializer if _length(tensor) >= _SMALL]
        data, start = [], 0
        for tensor in large:
            data.append(tensor.raw_data)
            _point(tensor, data_name, start)
            start += len(data[-1])
        return self.proto.SerializeToString(), iter(data)


def _length(tensor: onnx.TensorProto) -> int:
    return len(tensor.raw_data)


def _point(tensor: onnx.TensorProto, location: str, start: int) -> None:
    """Let a tensor say that its data lie in another file."""
    for key, value in (("location", location), ("offset", start), ("length", _length(tensor))):
        tensor.external_data.add(key=key, value=str(value))
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")


def onnx_models(
    model: nn.Module,
    file: BhkFile,
    stored: Mapping[str, str],
    weights: Weights,
    advance: Callable[[int], None],
) -> Iterator[OnnxModel]:
    """Yield the encoder and the decoder of a model.

    Args:
        model: with the dense weights of `file`, in float32.
        stored: name of a tensor in the model -> its name in the file.
        weights: how the file's codes are held; what has none, and what floats hold better, is float32.
        advance: called with the bytes of each tensor in float32.

    Raises:
        OnnxError: the model is of another family, or has a layer that ONNX lacks.
    """
    tensors = model.state_dict()
    for part in parts_of(model):
        proto = trace(part)
        names = [node.name.removeprefix(_MODEL) for node in proto.graph.input if node.name not in part.inputs]
        held = []
        for name in names:
            held.append(_held(name, tensors[name], file, stored.get(name), weights))
            advance(tensors[name].nbytes)
        yield OnnxModel(part.name, _complete(proto, part, held), _counts(held))


def _held(name: str, tensor: Tensor, file: BhkFile, stored: str | None, weights: Weights) -> Held:
    node, found = _MODEL + name, None
    if weights == "int8" and stored is not None:
        codebook, codes = file.codebook(stored), file.planes(stored)
        if codebook is not None and codes is not None:
            layer = file.layer(stored)
            found = hold_codes(node, layer.pairs, layer.dtype, codebook, codes)
    return found or hold_floats(node, tensor.numpy(), weights)


def _complete(proto: onnx.ModelProto, part: Part, held: list[Held]) -> onnx.ModelProto:
    """Put weights into a graph that takes them as inputs."""
    inputs = [node for node in proto.graph.input if node.name in part.inputs]
    nodes = [node for weight in held for node in weight.nodes] + list(proto.graph.node)
    del proto.graph.input[:], proto.graph.node[:]
    proto.graph.input.extend(inputs)
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(tensor for weight in held for tensor in weight.constants)
    proto.producer_name, proto.producer_version = "bhk", __version__
    onnx.helper.set_model_props(proto, {"image_size": str(part.size)})
    return proto


def _counts(held: list[Held]) -> dict[str, int]:
    forms = [weight.form for weight in held]
    return {form: forms.count(form) for form in sorted(set(forms))}
