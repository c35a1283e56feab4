from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
parts = pytest.importorskip("bhk.graphs.parts")
trace = pytest.importorskip("bhk.graphs.trace")


class Biased(nn.Module):
    """Adds what two tables of indices, which are equal, gather from a weight; and counts of a large table."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(200, 3, bias=False)
        table = torch.arange(40 * 40).reshape(40, 40)
        self.register_buffer("one", table % 200, persistent=False)
        self.register_buffer("other", table % 200, persistent=False)
        self.register_buffer("large", table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.model.weight
        return x + weight[:, self.one] - 2 * weight[:, self.other] + self.large  # type: ignore[operator, no-any-return]


def test_tables_of_indices_take_a_byte_each_and_equal_ones_are_held_once() -> None:
    module, x = Biased(), torch.zeros(3, 40, 40)
    part = parts.Part("encoder", module, (x,), ("x",), ("y",), {}, 40)
    proto = trace.trace(part)
    sizes = [len(tensor.raw_data) for tensor in proto.graph.initializer]
    assert sizes == [40 * 40]
    constants = [node.attribute[0].t for node in proto.graph.node if node.op_type == "Constant"]
    assert sum(len(tensor.raw_data) > 4000 for tensor in constants) == 1  # the counts
    inputs = {"x": x.numpy(), "model.weight": module.model.weight.detach().numpy()}
    session = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, inputs)[0], module(x).detach().numpy(), rtol=0, atol=1e-6)
