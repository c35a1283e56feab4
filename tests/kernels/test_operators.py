from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional

from bhk.kernels import operators as operators

pytestmark = pytest.mark.usefixtures("any_size")

_DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# windings, shells, outliers, lattice: a lattice, one with outliers, one that does not lean, 16-bit and 32-bit scalars
_CLASSES = {
    "plain": (200, 0, 0, "centred"),
    "lattice": (256, 9, 4, "centred"),
    "grid": (256, 9, 4, "grid"),
    "narrow": (35, 3, 20, "corner"),
    "wide": (256, 2, 20, "centred"),
}


@pytest.fixture(params=list(_CLASSES))
def weight(request: pytest.FixtureRequest, random_weight):
    windings, shells, outliers, lattice = _CLASSES[request.param]
    return random_weight(40, 51, windings, shells, outliers=outliers, lattice=lattice)


def _draw(weight, *leading: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(*leading, weight.width, generator=generator).to(dtype)
    return x, torch.randn(weight.out, generator=generator).to(dtype)


def _linear(x: Tensor, weight, bias: Tensor | None, compute: str = "exact") -> Tensor:
    return torch.ops.bhk.hyper_linear(x, *weight.operands, bias, compute)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decode_is_a_proper_operator(weight, dtype: torch.dtype) -> None:
    torch.library.opcheck(torch.ops.bhk.decode.default, (*weight.decode_operands, weight.width, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("compute", ["exact", "int8"])
@pytest.mark.parametrize("has_bias", [True, False])
def test_hyper_linear_is_a_proper_operator(weight, dtype: torch.dtype, compute: str, has_bias: bool) -> None:
    x, bias = _draw(weight, 3, 20, dtype=dtype)
    x.requires_grad_()
    arguments = (x, *weight.operands, bias.requires_grad_() if has_bias else None, compute)
    torch.library.opcheck(torch.ops.bhk.hyper_linear.default, arguments)


@pytest.mark.parametrize("dtype", _DTYPES)
def test_decode_rounds_what_the_codec_decodes(weight, dtype: torch.dtype) -> None:
    decoded = torch.ops.bhk.decode(*weight.decode_operands, weight.width, dtype)
    assert decoded.dtype == dtype
    assert torch.equal(decoded, weight.dense.to(dtype))


@pytest.mark.parametrize("rows", [[], [[39, 0, 7], [7, 7, 16]], 3])
def test_rows_are_looked_up_as_in_a_dense_table(weight, rows: object) -> None:
    chosen = torch.tensor(rows, dtype=torch.long)
    arguments = (chosen, *weight.decode_operands, weight.width, torch.float32)
    assert torch.equal(torch.ops.bhk.look_up(*arguments), weight.dense[chosen])
    torch.library.opcheck(torch.ops.bhk.look_up.default, arguments)


@pytest.mark.parametrize("row", [-1, 40])
def test_rows_that_do_not_exist_are_refused(weight, row: int) -> None:
    with pytest.raises(IndexError):
        torch.ops.bhk.look_up(torch.tensor([0, row]), *weight.decode_operands, weight.width, torch.float32)


@pytest.mark.parametrize("leading", [(), (1,), (0,), (7,), (2, 3), (2, 0, 3), (1, 30, 2), (130,)])
@pytest.mark.parametrize("dtype", _DTYPES)
def test_shapes_are_those_of_a_linear_layer(weight, leading: tuple[int, ...], dtype: torch.dtype) -> None:
    x, bias = _draw(weight, *leading, dtype=dtype)
    expected = functional.linear(x, weight.dense.to(dtype), bias)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 5e-3, torch.bfloat16: 5e-2}[dtype]
    for compute, loose in (("exact", 0.0), ("int8", 0.3)):
        y = _linear(x, weight, bias, compute)
        assert y.is_contiguous()
        torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance + loose)


def test_inputs_need_not_be_contiguous(weight) -> None:
    x, bias = _draw(weight, 6, 4)
    expected = _linear(x, weight, bias)
    for strided in (
        x.transpose(0, 1).contiguous().transpose(0, 1),
        torch.stack([x, x], dim=-1)[..., 0],
        functional.pad(x, (1, 1))[..., 1:-1],
    ):
        assert not strided.is_contiguous()
        torch.testing.assert_close(_linear(strided, weight, bias), expected, rtol=0, atol=1e-6)
    same = x[:1, :1].expand(6, 4, -1)
    torch.testing.assert_close(_linear(same, weight, bias)[5, 3], expected[0, 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("compute", ["exact", "int8"])
@pytest.mark.parametrize("leading", [(5,), (2, 30)])
def test_gradients_are_those_of_a_linear_layer(
    weight, dtype: torch.dtype, compute: str, leading: tuple[int, ...]
) -> None:
    x, bias = (tensor.requires_grad_() for tensor in _draw(weight, *leading, dtype=dtype))
    slope = torch.randn(*leading, weight.out, generator=torch.Generator().manual_seed(3)).to(dtype)
    _linear(x, weight, bias, compute).backward(slope)
    x2, bias2 = (tensor.detach().clone().requires_grad_() for tensor in (x, bias))
    functional.linear(x2, weight.dense.to(dtype), bias2).backward(slope)
    assert x.grad is not None
    assert bias.grad is not None
    # Sums of gradients in 16 bits may be added up in another order.
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 2e-2, torch.bfloat16: 1e-1}[dtype]
    torch.testing.assert_close(x.grad, x2.grad, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(bias.grad, bias2.grad, rtol=tolerance, atol=tolerance)


def test_gradients_are_computed_only_where_required(weight) -> None:
    x, bias = _draw(weight, 5)
    assert not _linear(x, weight, bias).requires_grad
    _linear(x, weight, bias.requires_grad_()).sum().backward()
    assert x.grad is None
    assert bias.grad is not None
    bias.grad = None
    _linear(x.requires_grad_(), weight, bias.detach()).sum().backward()
    torch.testing.assert_close(x.grad, weight.dense.sum(0).expand(5, -1), rtol=1e-5, atol=1e-5)
    assert bias.grad is None
    with torch.no_grad():
        assert not _linear(x, weight, bias).requires_grad


def test_first_and_second_derivatives_agree_with_differences(random_weight) -> None:
    weight = random_weight(4, 5, 100, 3, outliers=0)
    x, bias = (tensor.requires_grad_() for tensor in _draw(weight, 3, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x, bias: _linear(x, weight, bias), (x, bias))
    assert torch.autograd.gradgradcheck(lambda x, bias: _linear(x, weight, bias).square(), (x, bias))


@pytest.mark.parametrize("compute", ["exact", "int8"])
def test_models_compile_to_one_graph_for_all_rows(weight, random_weight, coded_layer, compiler, compute: str) -> None:
    model = nn.Sequential(coded_layer(weight, compute), nn.GELU(), coded_layer(random_weight(9, 40, 99), compute))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (5, 90, 7):
        x, _ = _draw(weight, rows)
        x.requires_grad_()
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-5, atol=1e-5)
        (gradient,) = torch.autograd.grad(compiled(x).sum(), x)
        torch.testing.assert_close(gradient, torch.autograd.grad(model(x).sum(), x)[0], rtol=1e-5, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1


def test_layers_of_one_shape_share_a_compiled_graph(random_weight, coded_layer, compiler) -> None:
    compiled = torch.compile(lambda layer, x: layer(x), fullgraph=True, backend="aot_eager")
    for windings in (256, 200, 35, 7):  # codebooks differ, and no codebook is a constant of the graph
        weight = random_weight(40, 51, windings, seed=windings)
        layer, (x, _) = coded_layer(weight), _draw(weight, 6)
        torch.testing.assert_close(compiled(layer, x), layer(x), rtol=0, atol=1e-6)
    assert counters["stats"]["unique_graphs"] == 1


def test_models_can_be_exported(weight, coded_layer) -> None:
    layer, (x, _) = coded_layer(weight), _draw(weight, 6)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("rows", min=2)},))
    assert [node.target for node in program.graph.nodes if node.op == "call_function"] == [
        torch.ops.bhk.hyper_linear.default
    ]
    more, _ = _draw(weight, 70)
    torch.testing.assert_close(program.module()(more), layer(more), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", _DTYPES)
def test_shapes_are_known_on_the_meta_device(weight, dtype: torch.dtype) -> None:
    x, bias = _draw(weight, 2, 3, dtype=dtype)
    operands = [tensor.to("meta") for tensor in weight.operands]
    y = torch.ops.bhk.hyper_linear(x.to("meta"), *operands, bias.to("meta"), "exact")
    assert (y.shape, y.dtype, y.device.type) == ((2, 3, 40), dtype, "meta")
    decoded = torch.ops.bhk.decode(*operands[:3], weight.width, dtype)
    assert (decoded.shape, decoded.dtype, decoded.device.type) == ((40, 51), dtype, "meta")
