from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import bhk
from bhk.codec.codebook import Codebook, Codes
from bhk.codec.tensor import encode
from bhk.kernels import reference
from bhk.nn.coded import HyperLinearError
from bhk.nn.errors import LoadOptionError
from bhk.nn.hyperlinear import HyperLinear

_DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 5e-3, torch.bfloat16: 5e-2}


def _linear(width: int = 51, out: int = 40, bias: bool = True, outliers: int = 2) -> nn.Linear:
    torch.manual_seed(0)
    linear = nn.Linear(width, out, bias)
    nn.init.normal_(linear.weight, std=0.03)
    with torch.no_grad():
        linear.weight.view(-1)[: 7 * outliers : 7] = 1.5
    return linear


@pytest.fixture(params=["lattice", "narrow", "wide"])
def layer(request: pytest.FixtureRequest) -> HyperLinear:
    """A layer of each class; the lattice has outliers."""
    if request.param == "lattice":
        return HyperLinear.from_linear(_linear(), "fine")
    if request.param == "narrow":
        return HyperLinear.from_linear(_linear(), "birkhoff")
    return _wide()


def _wide() -> HyperLinear:
    """Return a layer on the published lattice with more codes than fit 16 bits."""
    generator = torch.Generator().manual_seed(0)
    planes = (torch.randint(0, limit, (40 * 26,), generator=generator, dtype=torch.uint8) for limit in (256, 256, 2))
    codebook = Codebook((0.0, 0.0), 0.25, 256, 1, 0.125, lattice="corner")
    return HyperLinear.from_codes(codebook, Codes(*planes), 51, 40, _linear().bias)


def _x(layer: HyperLinear, *leading: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*leading, layer.in_features, generator=torch.Generator().manual_seed(1)).to(dtype)


def _state(layer: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in layer.state_dict().items()}


def _same(a: HyperLinear, b: HyperLinear) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_three_layers_are_of_three_classes() -> None:
    kinds = [HyperLinear.from_linear(_linear(), preset).codes.dtype for preset in ("fine", "birkhoff")]
    assert [*kinds, _wide().codes.dtype] == [torch.int8, torch.int16, torch.int32]
    assert len(HyperLinear.from_linear(_linear(), "fine").outliers) > 0


@pytest.mark.parametrize("leading", [(), (0,), (7,), (2, 3), (100,)])
@pytest.mark.parametrize("dtype", _DTYPES)
def test_it_computes_like_a_linear_layer_with_the_same_weight(
    layer: HyperLinear, leading: tuple[int, ...], dtype: torch.dtype
) -> None:
    layer = layer.to(dtype)
    x, linear = _x(layer, *leading, dtype=dtype), layer.to_linear()
    torch.testing.assert_close(layer(x), linear(x), rtol=_TOLERANCE[dtype], atol=_TOLERANCE[dtype])
    assert layer(x).dtype == dtype


@pytest.mark.parametrize("preset", ["fine", "balanced", "small", "birkhoff"])
@pytest.mark.parametrize("bias", [True, False])
def test_from_linear_encodes_the_weight_like_encode(preset: str, bias: bool) -> None:
    linear = _linear(bias=bias).eval()
    layer = HyperLinear.from_linear(linear, preset)
    assert torch.equal(layer.dense_weight(), encode(linear.weight, preset).decode())
    assert (layer.in_features, layer.out_features, layer.training) == (51, 40, False)
    assert (layer.bias is None) == (not bias)
    if bias:
        assert torch.equal(layer.bias, linear.bias)
        assert layer.bias.data_ptr() != linear.bias.data_ptr()
        assert layer.bias.requires_grad
        linear.bias.requires_grad_(False)
        assert not HyperLinear.from_linear(linear, preset).bias.requires_grad


def test_from_linear_takes_quality_and_compute() -> None:
    linear = _linear()
    fine, coarse = (
        HyperLinear.from_linear(linear, snr_db=40),
        HyperLinear.from_linear(linear, step=0.02, compute="int8"),
    )
    errors = [float((layer.weight - linear.weight.detach()).norm()) for layer in (fine, coarse)]
    assert errors[0] < errors[1]
    assert coarse.compute == "int8"
    assert HyperLinear.from_linear(linear.half()).weight.dtype == torch.float16


def test_weights_equal_the_decoded_tensors_of_the_file(tmp_path: Path) -> None:
    state = {"a.weight": _linear().weight.detach(), "b.weight": _linear(64, 48).weight.detach().half()}
    torch.save(state, tmp_path / "model.pth")
    for preset in ("fine", "birkhoff"):
        path = bhk.convert(tmp_path / "model.pth", quality=preset, force=True, threads=1).path
        with bhk.open(path) as file:
            for name, tensor in state.items():
                out, width = tensor.shape
                layer = HyperLinear.from_codes(file.codebook(name), file.planes(name), width, out)
                assert torch.equal(layer.dense_weight(tensor.dtype), file.tensor(name))


def test_from_codes_converts_the_bias_to_the_given_dtype() -> None:
    codes = Codes(torch.arange(6, dtype=torch.uint8), torch.arange(6, dtype=torch.uint8))
    bias = torch.tensor([1.0, 2.0], requires_grad=True)
    layer = HyperLinear.from_codes(Codebook((0.0, 0.0), 1.0, 8), codes, 5, 2, bias, dtype=torch.bfloat16)
    assert (layer.weight.shape, layer.weight.dtype) == ((2, 5), torch.bfloat16)
    assert isinstance(layer.bias, nn.Parameter)
    assert layer.bias.dtype == torch.bfloat16
    assert layer.bias.requires_grad
    assert HyperLinear.from_codes(Codebook((0.0, 0.0), 1.0, 8), codes, 5, 2).bias is None


@pytest.mark.parametrize(
    ("change", "weight"),
    [
        (lambda layer: layer.half(), torch.float16),
        (lambda layer: layer.double(), torch.float64),
        (lambda layer: layer.bfloat16(), torch.bfloat16),
        (lambda layer: layer.to(torch.float16), torch.float16),
        (lambda layer: layer.half().float(), torch.float32),
        (lambda layer: nn.Sequential(layer).half()[0], torch.float16),
        (lambda layer: layer.to("cpu", torch.float16), torch.float16),
    ],
)
def test_casts_reach_bias_and_products_and_leave_the_codes(
    layer: HyperLinear, change: Callable[[HyperLinear], HyperLinear], weight: torch.dtype
) -> None:
    before, dense = _state(layer), layer.dense_weight()
    changed = change(layer)
    assert changed is layer
    for name, tensor in layer.state_dict().items():
        if name == "bias":
            assert tensor.dtype == weight
        else:
            assert tensor.dtype == before[name].dtype
            assert torch.equal(tensor, before[name])
    assert torch.equal(layer.dense_weight(), dense)
    assert layer.weight.dtype == layer.to_linear().weight.dtype == weight
    assert layer(_x(layer, 3, dtype=weight)).dtype == weight


def test_a_state_dict_can_be_saved_and_loaded(layer: HyperLinear) -> None:
    fresh = HyperLinear(51, 40)
    assert fresh(_x(layer, 3)).shape == (3, 40)
    assert not fresh.load_state_dict(layer.state_dict()).missing_keys
    assert _same(fresh, layer)
    assert torch.equal(fresh(_x(layer, 9)), layer(_x(layer, 9)))
    assert fresh.codes.data_ptr() != layer.codes.data_ptr()
    file = io.BytesIO()
    torch.save(nn.Sequential(layer).state_dict(), file)
    again = nn.Sequential(HyperLinear(51, 40))
    again.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert _same(again[0], layer)


@pytest.mark.parametrize("outliers", [0, 2, 9])
@pytest.mark.parametrize("preset", ["fine", "birkhoff"])
def test_a_state_dict_replaces_that_of_another_class(layer: HyperLinear, outliers: int, preset: str) -> None:
    other = HyperLinear.from_linear(_linear(outliers=outliers), preset)
    other.load_state_dict(layer.state_dict())
    assert _same(other, layer)
    assert torch.equal(other(_x(layer, 9)), layer(_x(layer, 9)))
    assert other.is_lattice == layer.is_lattice


def test_a_state_dict_can_be_assigned(layer: HyperLinear) -> None:
    fresh = HyperLinear(51, 40, device="meta")
    fresh.load_state_dict(layer.state_dict(), assign=True)
    assert _same(fresh, layer)
    assert fresh.codes.data_ptr() == layer.codes.data_ptr()
    assert torch.equal(fresh(_x(layer, 9)), layer(_x(layer, 9)))


@pytest.mark.parametrize("shape", [(50, 40), (53, 40), (51, 39), (102, 40), (51, 80)])
def test_state_dicts_of_other_shapes_are_refused(layer: HyperLinear, shape: tuple[int, int]) -> None:
    with pytest.raises(RuntimeError, match=r"cannot hold codes of shape"):
        HyperLinear(*shape).load_state_dict(layer.state_dict())


def test_missing_and_unexpected_keys_are_named(layer: HyperLinear) -> None:
    state = layer.state_dict()
    del state["outlier_starts"]
    with pytest.raises(RuntimeError, match=r"Missing key.*outlier_starts"):
        HyperLinear(51, 40).load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*bias"):
        HyperLinear(51, 40, bias=False).load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key.*codes"):
        HyperLinear(51, 40).load_state_dict(_linear().state_dict())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_equal_and_independent(layer: HyperLinear, copied: Callable[[HyperLinear], HyperLinear]) -> None:
    layer.bfloat16()
    other = copied(layer)
    assert _same(other, layer)
    x = _x(layer, 4, dtype=torch.bfloat16)
    assert torch.equal(other(x), layer(x))
    other.codes.zero_()
    assert layer.codes.any()


def test_its_repr_describes_it(layer: HyperLinear) -> None:
    text = repr(layer)
    assert text.startswith("HyperLinear(in_features=51, out_features=40, bias=True, bits_per_weight=")
    assert text.endswith("compute=exact)" if layer.is_lattice else "compute=decoded)")
    held = sum(buffer.nbytes for buffer in layer.buffers())
    assert layer.bits_per_weight == 8 * held / (51 * 40)
    assert f"bits_per_weight={layer.bits_per_weight:.2f}" in text


def test_to_linear_gives_the_decoded_weight(layer: HyperLinear) -> None:
    layer.eval().bias.requires_grad_(False)
    linear = layer.to_linear()
    assert type(linear) is nn.Linear
    assert torch.equal(linear.weight, layer.dense_weight())
    assert torch.equal(linear.bias, layer.bias)
    assert linear.bias.data_ptr() != layer.bias.data_ptr()
    assert not linear.training
    assert (linear.weight.requires_grad, linear.bias.requires_grad) == (True, False)
    assert (linear.in_features, linear.out_features) == (51, 40)


def test_only_the_bias_is_a_parameter(layer: HyperLinear) -> None:
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    assert not layer.weight.requires_grad
    assert layer.weight.data_ptr() != layer.weight.data_ptr()
    x = _x(layer, 5).requires_grad_()
    layer(x).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((40,), 5.0))
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(5, -1))
    layer.requires_grad_(False)
    assert not layer(_x(layer, 5)).requires_grad


def test_the_bias_can_be_trained(layer: HyperLinear) -> None:
    x, dense = _x(layer, 30), layer.dense_weight()
    target = functional.linear(x, dense) + 3
    optimizer = torch.optim.SGD(layer.parameters(), lr=5.0)
    for _ in range(30):
        optimizer.zero_grad()
        functional.mse_loss(layer(x), target).backward()
        optimizer.step()
    torch.testing.assert_close(layer.bias.detach(), torch.full((40,), 3.0), rtol=0, atol=1e-2)
    assert torch.equal(layer.dense_weight(), dense)


def test_it_can_move_to_the_meta_device(layer: HyperLinear) -> None:
    layer.half().to("meta")
    assert all(tensor.is_meta for tensor in layer.state_dict().values())
    y = layer(torch.empty(2, 51, dtype=torch.float16, device="meta"))
    assert (y.shape, y.dtype, y.is_meta) == ((2, 40), torch.float16, True)
    empty = layer.to_empty(device="cpu")
    assert not any(tensor.is_meta for tensor in empty.state_dict().values())


def test_its_memory_can_be_shared(layer: HyperLinear) -> None:
    layer.share_memory()
    assert all(tensor.is_shared() for tensor in layer.state_dict().values() if tensor.numel())
    assert layer(_x(layer, 3)).shape == (3, 40)


def test_autocast_works_as_for_a_linear_layer(layer: HyperLinear) -> None:
    linear = layer.to_linear()
    for dtype in (torch.float32, torch.float64):
        x = _x(layer, 70, dtype=dtype)
        layer, linear = layer.to(dtype), linear.to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, expected = layer(x), linear(x)
            assert y.dtype == expected.dtype
            torch.testing.assert_close(y, expected, rtol=5e-2, atol=5e-2)
        with torch.autocast("cpu", enabled=False):
            assert layer(x).dtype == dtype


def test_int8_is_close_to_the_exact_product() -> None:
    layer = HyperLinear.from_linear(_linear(511, 500), "balanced", compute="int8")
    x = _x(layer, 300)
    exact = functional.linear(x, layer.weight, layer.bias).detach()
    error = float((layer(x).detach() - exact).norm() / exact.norm())
    assert 1e-4 < error < 0.03
    assert torch.equal(layer(x[:2]), HyperLinear.from_linear(_linear(511, 500), "balanced")(x[:2]))  # few rows
    layer.compute = "exact"
    torch.testing.assert_close(layer(x), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(3, 50),
        torch.zeros(51, 3),
        torch.zeros(()),
        torch.zeros(3, 51, dtype=torch.float16),
        torch.zeros(3, 51, dtype=torch.int64),
    ],
)
def test_wrong_inputs_are_refused(layer: HyperLinear, x: Tensor) -> None:
    with pytest.raises(HyperLinearError, match=r"takes \(\.\.\., 51\) and torch.float32"):
        layer(x)


def test_an_unknown_compute_mode_is_refused() -> None:
    with pytest.raises(HyperLinearError, match=r"compute 'fast'; choose one of exact, int8"):
        HyperLinear(4, 4, compute="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_cannot_be_coded_are_refused(value: float) -> None:
    linear = _linear()
    with torch.no_grad():
        linear.weight[3, 4] = value
    with pytest.raises(HyperLinearError, match=r"holds NaN or infinity; keep it an nn.Linear"):
        HyperLinear.from_linear(linear)


def test_weights_that_encoding_would_not_shrink_are_refused() -> None:
    linear = nn.Linear(64, 64)
    nn.init.zeros_(linear.weight)
    with pytest.raises(HyperLinearError, match=r"keep it an nn.Linear"):
        HyperLinear.from_linear(linear)


def test_train_and_eval_set_the_flag(layer: HyperLinear) -> None:
    assert layer.training
    assert not layer.eval().training
    assert not layer.to_linear().training
    assert layer.train().to_linear().training


@pytest.mark.parametrize("default", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("preset", ["fine", "birkhoff"])
@pytest.mark.parametrize("compute", ["exact", "int8"])
def test_codes_do_not_depend_on_the_dtype_that_torch_defaults_to(
    monkeypatch: pytest.MonkeyPatch, default: torch.dtype, preset: str, compute: str
) -> None:
    monkeypatch.setattr(reference, "INTEGER_SIZE", 0)
    linear = _linear(outliers=2)
    layer = HyperLinear.from_linear(linear, preset, compute=compute)
    try:
        torch.set_default_dtype(default)
        same, fresh = HyperLinear.from_linear(linear, preset, compute=compute), HyperLinear(51, 40)
        assert fresh.weight.dtype == default
        fresh.load_state_dict(layer.state_dict())
        assert _same(same, layer)
        assert torch.equal(fresh.dense_weight(), layer.dense_weight())
        for rows in (3, 60):
            x = torch.linspace(-1, 1, rows * 51, dtype=torch.float32).view(rows, 51)
            assert torch.equal(same(x), layer(x))
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("compute", ["exact", "int8"])
def test_it_moves_to_a_gpu_and_back(layer: HyperLinear, compute: str) -> None:
    before, dense, exact = _state(layer), layer.dense_weight(), layer(_x(layer, 60))
    layer.compute = compute
    layer.cuda()
    assert all(tensor.is_cuda for tensor in layer.state_dict().values())
    assert torch.equal(layer.dense_weight().cpu(), dense)
    y = layer(_x(layer, 60).cuda()).cpu()
    assert float((y - exact).detach().norm() / exact.detach().norm()) < (1e-3 if compute == "exact" else 0.03)
    with torch.autocast("cuda", dtype=torch.float16):
        assert layer(_x(layer, 60).cuda()).dtype == torch.float16
    layer.half()
    assert layer(_x(layer, 60).cuda().half()).dtype == torch.float16
    layer.float().cpu()
    for name, tensor in layer.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=1e-3, atol=1e-3)  # the bias was rounded
    fresh = HyperLinear(51, 40, device="cuda")
    fresh.load_state_dict(layer.state_dict())
    assert all(tensor.is_cuda for tensor in fresh.state_dict().values())
    assert torch.equal(fresh.dense_weight().cpu(), dense)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("preset", ["fine", "balanced", "small", "birkhoff"])
def test_a_weight_on_a_gpu_is_coded_there(preset: str) -> None:
    linear = _linear(255, 64)
    here, there = HyperLinear.from_linear(linear, preset), HyperLinear.from_linear(linear.cuda(), preset)
    assert all(tensor.is_cuda for tensor in there.state_dict().values())
    # Pairs half-way between two points of the lattice may be rounded either way.
    differing = there.dense_weight().cpu() != here.dense_weight()
    assert float(differing.float().mean()) < 0.01


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("outliers", lambda held: held["outliers"].flip(0), "outliers out of order"),
        ("outliers", lambda held: held["outliers"] + 40 * 26, "out of bounds"),
        ("far", lambda held: held["far"].new_tensor([2]), "far outliers that do not exist"),
        ("outlier_starts", lambda held: held["outlier_starts"] + 1, "outlier_starts that do not fit"),
        ("codebook", lambda held: held["codebook"] * 0, "a codebook that the format does not allow"),
        ("codebook", lambda held: held["codebook"][:5], "a codebook or outliers of another shape"),
    ],
)
def test_loaded_buffers_are_checked_before_kernels_use_them(
    name: str, change: Callable[[dict[str, Tensor]], Tensor], fault: str
) -> None:
    layer = HyperLinear.from_linear(_linear(), "fine")
    state = _state(layer)
    assert len(state["outliers"]) == 2
    fresh = HyperLinear(51, 40)
    before = _state(fresh)
    with pytest.raises(RuntimeError, match=fault):
        fresh.load_state_dict({**state, name: change(state)})
    assert all(torch.equal(before[key], value) for key, value in fresh.state_dict().items() if key != "bias")


def test_the_buffers_of_the_weight_are_never_cast(layer: HyperLinear) -> None:
    weight, kinds = layer.dense_weight(), [buffer.dtype for buffer in layer.buffers()]
    layer.type(torch.float16)
    assert [buffer.dtype for buffer in layer.buffers()] == kinds
    assert torch.equal(layer.dense_weight(), weight)
    assert layer.weight.dtype == torch.float16


@pytest.mark.parametrize("leading", [(3,), (0,), (2, 2)])
@pytest.mark.parametrize(("width", "out"), [(0, 5), (4, 0), (0, 0)])
def test_layers_without_features_behave_like_those_of_torch(width: int, out: int, leading: tuple[int, ...]) -> None:
    layer, x = HyperLinear(width, out), torch.randn(*leading, width)
    assert layer.dense_weight().shape == (out, width)
    assert torch.equal(layer(x), functional.linear(x, torch.zeros(out, width), layer.bias))


def test_dtypes_and_devices_by_name() -> None:
    layer = HyperLinear(6, 4, device="cpu", dtype="bfloat16")
    assert layer.bias.dtype == layer(torch.zeros(1, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert layer.dense_weight("float64").dtype == torch.float64
    with pytest.raises(LoadOptionError, match="dtype 'int8' is not a floating-point dtype"):
        HyperLinear(6, 4, dtype="int8")
