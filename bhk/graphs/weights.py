"""How an ONNX graph holds a weight: integers of its lattice, or floats.

A pair of weights on codes is, with the signed bytes (Q, R) of the identity in `bhk.kernels.resident`, an affine function of
them. For all P pairs of a tensor that is one product of small matrices,

    (P, 2) float32  =  (P, 2) int8  @  [[step, 0], [step / n, step]]  +  [offset_even, offset_odd]

of the operators Cast and Gemm, after which ScatterND puts in the few pairs outside the square. Runtimes compute all that once,
when they load the file. Scales of an operator DequantizeLinear can do neither: a second term, and once: ONNX Runtime keeps
that operator for each run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from bhk.codec.codebook import Codebook, Codes
from bhk.codec.shape import Shape
from bhk.graphs.parts import Weights
from bhk.kernels.resident import step_and_offsets

_HALF = {"F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}  # dtypes to which files round decoded weights
_OUTLIER = 16  # bytes: its place and two weights
_FLOAT16_MOST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Held:
    """A weight in a graph: constants, and the nodes that make of them a tensor of its name.

    Attributes:
        form: "int8", "float32" or "float16"; other dtypes stay as they are and count as float32.
    """

    form: Weights
    constants: tuple[onnx.TensorProto, ...]
    nodes: tuple[onnx.NodeProto, ...] = ()


def hold_floats(name: str, values: npt.NDArray[np.generic], weights: Weights) -> Held:
    """Hold a tensor as it is, or rounded to float16 if its values allow that."""
    if weights != "float16" or values.dtype != np.float32 or not _fits_float16(values):
        return Held("float32", (numpy_helper.from_array(values, name),))
    half = numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
    return Held("float16", (half,), (helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT),))


def _fits_float16(values: npt.NDArray[np.generic]) -> bool:
    return values.ndim > 1 and bool(np.abs(values).max(initial=0.0) <= _FLOAT16_MOST)


def hold_codes(name: str, shape: Shape, dtype: str, codebook: Codebook, codes: Codes) -> Held | None:
    """Hold a tensor by its codes; None where floats are smaller, or where the identity does not give the decoded weights.

    The weights equal the decoded ones up to rounding to float32. Those in shells are exact.
    """
    outer = np.flatnonzero(codes.shell) if codes.shell is not None else np.empty(0, np.int64)
    if codebook.lattice == "corner" or shape.padded or 2 * len(codes) + _OUTLIER * len(outer) > 4 * shape.numel:
        return None
    half = codebook.windings // 2
    integers = np.stack([plane.numpy().astype(np.int16) - half for plane in (codes.winding, codes.phase)], axis=1)
    step, *offsets = step_and_offsets(codebook)
    matrix = [[step, 0.0], [step * codebook.trajectory.lean, step]]
    constants = [
        numpy_helper.from_array(integers.astype(np.int8), f"{name}.codes"),
        numpy_helper.from_array(np.array(matrix, np.float32), f"{name}.steps"),
        numpy_helper.from_array(np.array(offsets, np.float32), f"{name}.offsets"),
        numpy_helper.from_array(np.array(shape.dims, np.int64), f"{name}.shape"),
    ]
    pairs = f"{name}.pairs"
    nodes = [
        helper.make_node("Cast", [f"{name}.codes"], [f"{name}.integers"], to=TensorProto.FLOAT),
        helper.make_node("Gemm", [f"{name}.integers", f"{name}.steps", f"{name}.offsets"], [pairs]),
    ]
    if len(outer):
        exact = codebook.decode(_chosen(codes, torch.from_numpy(outer)))
        constants += [
            numpy_helper.from_array(outer[:, None], f"{name}.places"),
            numpy_helper.from_array(exact.numpy(), f"{name}.outliers"),
        ]
        nodes.append(helper.make_node("ScatterND", [pairs, f"{name}.places", f"{name}.outliers"], [f"{name}.all"]))
        pairs = f"{name}.all"
    if dtype in _HALF:
        nodes.append(helper.make_node("Cast", [pairs], [f"{name}.rounded"], to=_HALF[dtype]))
        nodes.append(helper.make_node("Cast", [f"{name}.rounded"], [f"{name}.widened"], to=TensorProto.FLOAT))
        pairs = f"{name}.widened"
    nodes.append(helper.make_node("Reshape", [pairs, f"{name}.shape"], [name]))
    return Held("int8", tuple(constants), tuple(nodes))


def _chosen(codes: Codes, which: Tensor) -> Codes:
    """Return the codes of some of the pairs."""
    return Codes(codes.winding[which], codes.phase[which], None if codes.shell is None else codes.shell[which])
