"""Writes to the weight of a layer on codes: each has the effect that it has on an nn.Linear."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bhk.nn import HyperLinear, HyperLinearError, to_dense


def _layer(bias: bool = True) -> HyperLinear:
    torch.manual_seed(0)
    return HyperLinear.from_linear(nn.Linear(64, 48, bias))


_X = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
_DELTA = torch.randn(48, 64, generator=torch.Generator().manual_seed(2))


def _set_data(linear: nn.Linear) -> None:
    linear.weight.data = linear.weight.data + _DELTA


def _add_to_data(linear: nn.Linear) -> None:
    linear.weight.data += _DELTA


def _add(linear: nn.Linear) -> None:
    linear.weight += _DELTA


def _assign_item(linear: nn.Linear) -> None:
    linear.weight[3, 5:9] = 7.0


def _through_views(linear: nn.Linear) -> None:
    rows = linear.weight.t().view(8, 8, 48)[2].unbind(0)
    rows[1].copy_(_DELTA[:, 0])


def _twice(linear: nn.Linear) -> None:
    weight = linear.weight
    weight.mul_(2)
    weight.data.sub_(_DELTA)
    weight.data = weight.data.clone()
    weight.data.add_(1)


def _with_lists(linear: nn.Linear) -> None:
    torch._foreach_mul_([linear.weight, torch.ones(2)], 3.0)


def _out(linear: nn.Linear) -> None:
    torch.mul(_DELTA, 2, out=linear.weight)


def _keyword(linear: nn.Linear) -> None:
    functional.relu(input=linear.weight, inplace=True)


def _parameter(linear: nn.Linear) -> None:
    linear.weight = nn.Parameter(_DELTA.clone())


WRITES: list[Callable[[nn.Linear], Any]] = [
    _set_data,
    _add_to_data,
    _add,
    _assign_item,
    _through_views,
    _twice,
    _with_lists,
    _out,
    _keyword,
    _parameter,
    lambda linear: linear.weight.data.add_(_DELTA),
    lambda linear: linear.weight.detach()[0].zero_(),
    lambda linear: linear.weight.clamp_(-0.01, 0.01),
    lambda linear: nn.init.zeros_(linear.weight),
    lambda linear: nn.init.eye_(linear.weight),
    lambda linear: nn.utils.vector_to_parameters(torch.ones(48 * 64), [linear.weight]),
]


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_has_the_effect_that_it_has_on_a_linear_layer(
    write: Callable[[nn.Linear], Any], inference: bool
) -> None:
    layer = _layer()
    expected, weight = layer.to_linear(), weakref.ref(layer.codes)
    before = layer(_X).detach()
    for linear in (layer, expected):
        with torch.inference_mode(inference), torch.no_grad():
            write(linear)
    assert torch.equal(layer.weight, expected.weight)
    assert torch.equal(layer(_X), expected(_X))
    assert not torch.equal(layer(_X), before)
    assert type(layer) is nn.Linear
    assert list(layer.state_dict()) == list(expected.state_dict()) == ["weight", "bias"]
    gc.collect()
    assert weight() is None  # the memory of the codes is free


def test_a_layer_that_is_dense_behaves_like_any_other() -> None:
    layer = _layer().half()
    layer.register_forward_hook(lambda *_: None)
    with torch.no_grad():
        layer.weight *= 2
    assert (layer.weight.dtype, layer.weight.requires_grad, layer.bias.requires_grad) == (torch.float16, False, True)
    assert repr(layer) == "Linear(in_features=64, out_features=48, bias=True)"
    assert len(layer._forward_hooks) == 1
    other = copy.deepcopy(layer)
    torch.nn.init.ones_(other.weight)
    assert not torch.equal(other.weight, layer.weight)
    assert layer.float().weight.dtype == torch.float32
    layer.weight.requires_grad_()
    layer(_X).sum().backward()
    assert layer.weight.grad is not None
    without = _layer(bias=False)
    nn.init.ones_(without.weight)
    assert list(without.state_dict()) == ["weight"]
    torch.testing.assert_close(without(_X), _X.sum(1, keepdim=True).expand(3, 48))


@pytest.mark.parametrize(
    "read",
    [
        lambda weight: weight + 1,
        lambda weight: functional.linear(_X, weight),
        lambda weight: weight.norm(dim=1),
        lambda weight: weight.numpy().sum(),
        lambda weight: torch.linalg.svdvals(weight),
        lambda weight: weight.to(torch.float64).add_(1),
        lambda weight: weight.clone().zero_(),
        lambda weight: weight[0].t().tolist(),
        lambda weight: copy.deepcopy(weight).zero_(),
        lambda weight: repr(weight),
        lambda weight: weight.requires_grad_(False),
        lambda weight: weight.data_ptr(),
        lambda weight: torch.empty(48, 64).copy_(weight),
    ],
)
def test_reading_changes_nothing(read: Callable[[Tensor], object]) -> None:
    layer = _layer()
    before, dense = {name: tensor.clone() for name, tensor in layer.state_dict().items()}, layer.dense_weight()
    result = read(layer.weight)
    assert type(layer) is HyperLinear
    assert all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())
    assert torch.equal(layer.weight, dense)
    assert type(result) is not type(layer.weight) or result.data_ptr() != layer.weight.data_ptr()


def test_what_is_computed_or_saved_is_a_plain_tensor() -> None:
    layer, file = _layer(), io.BytesIO()
    for plain in (
        layer.weight * 2,
        copy.deepcopy(layer.weight),
        pickle.loads(pickle.dumps(layer.weight)),
        layer.weight.cpu() + 0,
    ):
        assert type(plain) is Tensor
    torch.save({"weight": layer.weight}, file)
    loaded = torch.load(io.BytesIO(file.getvalue()), weights_only=True)["weight"]
    assert torch.equal(loaded, layer.weight)
    x = _X.clone().requires_grad_()
    functional.linear(x, layer.weight).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(3, -1))


def test_a_decoded_weight_ends_when_it_is_no_longer_used() -> None:
    gc.disable()
    try:
        layer = _layer()
        weight = layer.weight
        ended = weakref.ref(weight)
        del weight
        assert ended() is None
    finally:
        gc.enable()


def test_numpy_cannot_write() -> None:
    with pytest.raises(ValueError, match="read-only"):
        _layer().weight.numpy()[0] = 1


def test_gradients_of_codes_are_refused() -> None:
    layer = _layer()
    for ask in (lambda: layer.weight.requires_grad_(), lambda: setattr(layer.weight, "requires_grad", True)):
        with pytest.raises(HyperLinearError, match=r"takes no gradients; call bhk\.nn\.to_dense\(model\) to train it"):
            ask()
    assert type(layer) is HyperLinear


def test_a_weight_that_was_read_before_another_took_its_place_cannot_be_written_to() -> None:
    layer = _layer()
    old, new = layer.weight, layer.weight
    new.zero_()
    with pytest.raises(HyperLinearError, match=r"another weight since this one was read; read layer\.weight again"):
        old.add_(1)
    assert not layer.weight.any()


def test_a_tensor_is_no_parameter() -> None:
    layer = _layer()
    with pytest.raises(
        HyperLinearError, match=r"only a torch\.nn\.Parameter can take the place of a weight held as codes, not Tensor"
    ):
        layer.weight = torch.zeros(48, 64)  # type: ignore[assignment]
    assert type(layer) is HyperLinear


def test_a_shared_layer_changes_everywhere() -> None:
    layer = _layer()
    model = nn.ModuleDict({"a": layer, "b": nn.Sequential(layer)})
    nn.init.zeros_(model["a"].weight)
    assert not model["b"](_X).detach().sub(layer.bias).any()


def test_every_layer_of_a_model_can_be_decoded() -> None:
    model = nn.Sequential(_layer(), nn.ReLU(), nn.Sequential(_layer(bias=False)), nn.Linear(2, 2)).eval()
    weights = [model[0].dense_weight(), model[2][0].dense_weight()]
    model.half()
    assert to_dense(model) == 2
    assert to_dense(model) == 0
    assert [type(module) for module in (model[0], model[2][0])] == [nn.Linear] * 2
    assert torch.equal(model[0].weight, weights[0].half())
    assert torch.equal(model[2][0].weight, weights[1].half())
    assert model[0].weight.requires_grad
    assert not model[0].training


def test_memory_is_not_shared_where_writes_are_not_seen() -> None:
    layer = HyperLinear.from_linear(nn.Linear(64, 64))
    with pytest.raises(HyperLinearError, match=r"cannot be shared by DLPack; share layer.dense_weight\(\)"):
        torch.from_dlpack(layer.weight)
    assert torch.equal(torch.from_dlpack(layer.dense_weight()), layer.weight)
