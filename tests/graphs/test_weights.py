from __future__ import annotations

import numpy as np
import pytest
import torch

from bhk.codec.codebook import Codebook, Codes
from bhk.codec.shape import Shape
from bhk.codec.tensor import encode

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
weights = pytest.importorskip("bhk.graphs.weights")


def computed(held: object, rank: int, name: str = "w") -> np.ndarray:
    """Return the tensor that constants and nodes stand for, as ONNX Runtime computes it."""
    output = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [None] * rank)
    nodes = [*held.nodes, onnx.helper.make_node("Identity", [name], ["out"])]  # type: ignore[attr-defined]
    graph = onnx.helper.make_graph(nodes, "weight", [], [output], list(held.constants))  # type: ignore[attr-defined]
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return runtime.InferenceSession(model.SerializeToString()).run(None, {})[0]  # type: ignore[no-any-return]


def codes(codebook: Codebook, pairs: int, outliers: int) -> Codes:
    generator = torch.Generator().manual_seed(0)
    winding, phase = torch.randint(0, codebook.windings, (2, pairs), generator=generator, dtype=torch.uint8)
    shell = torch.zeros(pairs, dtype=torch.uint8)
    shell[:outliers] = 1 + torch.arange(outliers) % max(codebook.shells, 1)
    return Codes(winding, phase, shell if codebook.shells else None)


@pytest.mark.parametrize("lattice", ["centred", "grid"])
@pytest.mark.parametrize("windings", [1, 7, 64, 256])
@pytest.mark.parametrize("outliers", [0, 3])
def test_integers_give_the_decoded_weights(lattice: str, windings: int, outliers: int) -> None:
    codebook = Codebook((0.003, -0.001), 0.5, windings, *((4, 0.25) if outliers else ()), lattice=lattice)  # type: ignore[arg-type]
    shape = Shape((9, 5, 2), "rows")
    given = codes(codebook, shape.count, outliers)
    held = weights.hold_codes("w", shape, "F32", codebook, given)
    assert held.form == "int8"
    assert held.constants[0].data_type == onnx.TensorProto.INT8
    expected = shape.join(codebook.decode(given)).numpy()
    np.testing.assert_allclose(computed(held, 3), expected, rtol=0, atol=1e-7)
    assert np.array_equal(computed(held, 3).reshape(-1, 2)[:outliers], expected.reshape(-1, 2)[:outliers])


def test_weights_of_half_precision_are_rounded_as_the_file_rounds_them() -> None:
    encoded = encode(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).half())
    held = weights.hold_codes("w", Shape((64, 64), "rows"), "F16", encoded.codebook, encoded.planes)
    assert np.array_equal(computed(held, 2), encoded.decode().float().numpy())


@pytest.mark.parametrize("reason", ["published lattice", "odd rows", "many outliers"])
def test_floats_serve_where_integers_do_not(reason: str) -> None:
    lattice = "corner" if reason == "published lattice" else "centred"
    codebook = Codebook((0.0, 0.0), 0.5, 16, 4, 0.25, lattice)
    shape = Shape((8, 7 if reason == "odd rows" else 8), "rows")
    given = codes(codebook, shape.count, shape.count // 2 if reason == "many outliers" else 0)
    assert weights.hold_codes("w", shape, "F32", codebook, given) is None


def test_tables_are_rounded_to_float16_but_not_vectors_nor_what_overflows() -> None:
    table = np.float32([[1.0001, 2.0], [3.0, 4.0]])
    held = weights.hold_floats("w", table, "float16")
    assert np.array_equal(computed(held, 2), table.astype(np.float16).astype(np.float32))
    for values in (table[0], table * 1e6):
        held = weights.hold_floats("w", values, "float16")
        assert (held.form, np.array_equal(computed(held, values.ndim), values)) == ("float32", True)
