"""Layers on codes in programs that look into models: accelerate, counters, transforms, tracers and exporters."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, vmap
from torch.utils.flop_counter import FlopCounterMode

from bhk.nn import HyperLinear, HyperLinearError, to_dense

_X = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        HyperLinear.from_linear(nn.Linear(64, 48)), nn.GELU(), HyperLinear.from_linear(nn.Linear(48, 64))
    )


def _with_outliers() -> nn.Sequential:
    model = _model()
    linear = nn.Linear(64, 48)
    with torch.no_grad():
        linear.weight[0, 0] = 9.0
    model[0] = HyperLinear.from_linear(linear)
    return model


def _dense() -> nn.Sequential:
    model = _model()
    to_dense(model)
    return model


def test_empty_lists_are_not_in_a_state_dict() -> None:
    model = _model()
    state = model.state_dict()
    kept = {"bias", "codes", "codebook", "outlier_starts"}
    assert set(state) == {f"{layer}.{name}" for layer in (0, 2) for name in kept}
    for other in (nn.Sequential(HyperLinear(64, 48), nn.GELU(), HyperLinear(48, 64)), _with_outliers()):
        other.load_state_dict(state)
        assert torch.equal(other(_X), model(_X))
    model.load_state_dict(_with_outliers().state_dict())
    assert torch.equal(model(_X), _with_outliers()(_X))
    assert _with_outliers().state_dict().keys() - state.keys() == {"0.outliers", "0.far"}


def test_accelerate_saves_and_loads_a_model(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = accelerator.prepare(_model())
    expected = model(_X)
    accelerator.save_state(tmp_path / "state")
    with torch.no_grad():
        model[0].bias.zero_()
    accelerator.load_state(tmp_path / "state")
    assert torch.equal(model(_X), expected)
    accelerator.save_model(model, tmp_path / "model")
    again = _model()
    accelerate.load_checkpoint_in_model(again, tmp_path / "model")
    assert torch.equal(again(_X), expected)


def test_products_count_as_those_of_a_dense_layer() -> None:
    counts = []
    for model in (_model(), _dense()):
        with FlopCounterMode(display=False) as counter:
            model(_X.view(1, 5, 64))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 2 * 2 * 5 * 64 * 48


@pytest.mark.parametrize("call", ["jacrev", "jvp", "vmap", "vmap of two", "per sample", "functional_call"])
def test_transforms_of_functions_give_the_same_as_for_dense_layers(call: str) -> None:
    results = []
    for model in (_model(), _dense()):
        biases = {name: tensor.detach() for name, tensor in model.named_parameters() if name.endswith("bias")}

        def loss(values: dict[str, Tensor], x: Tensor, model: nn.Module = model) -> Tensor:
            return functional_call(model, values, (x,)).square().sum()

        if call == "jacrev":
            found: object = jacrev(model)(_X[0])
        elif call == "jvp":
            found = jvp(model, (_X,), (torch.ones_like(_X),))
        elif call == "vmap":
            found = vmap(model, in_dims=1, out_dims=1)(_X.view(5, 1, 64))
        elif call == "vmap of two":
            doubled = {name: torch.stack([value, 2 * value]) for name, value in biases.items()}
            found = vmap(loss, in_dims=(0, None))(doubled, _X)
        elif call == "per sample":
            found = vmap(grad(loss), in_dims=(None, 0))(biases, _X)
        else:
            found = functional_call(model, {name: value + 1 for name, value in biases.items()}, (_X,))
        results.append(found)
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


def test_gradients_in_forward_mode() -> None:
    x, tangent, found = _X.double(), torch.ones(5, 64, dtype=torch.float64), []
    for model in (_model().double(), _dense().double()):
        with torch.autograd.forward_ad.dual_level():
            y = model(torch.autograd.forward_ad.make_dual(x, tangent))
            found.append(torch.autograd.forward_ad.unpack_dual(y).tangent)
    torch.testing.assert_close(*found)


def test_a_model_is_traced_by_fx_and_by_jit() -> None:
    model = _model().eval()
    graph = torch.fx.symbolic_trace(model)
    assert torch.equal(graph(_X), model(_X))
    assert torch.equal(copy.deepcopy(graph)(_X[:2]), model(_X[:2]))
    traced = torch.jit.trace(model, (_X,))
    assert torch.equal(traced(_X[:3]), model(_X[:3]))


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_onnx_says_how_to_export(dynamo: bool, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript" if dynamo else "onnx")
    with pytest.raises(Exception, match=r"bhk\.load\(…, mode='dense'\), or call bhk\.nn\.to_dense\(model\) first"):
        torch.onnx.export(_model().eval(), (_X,), io.BytesIO(), dynamo=dynamo)
    file = io.BytesIO()
    torch.onnx.export(_dense().eval(), (_X,), file, dynamo=dynamo)
    assert len(file.getvalue()) > 4 * 2 * 64 * 48


def test_onnx_export_is_refused_before_it_writes() -> None:
    file = io.BytesIO()
    with pytest.raises(HyperLinearError, match="ONNX has no layers on codes"):
        torch.onnx.export(_model().eval(), (_X,), file, dynamo=False)
    assert not file.getvalue()
