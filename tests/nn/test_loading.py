from __future__ import annotations

import copy
from dataclasses import replace
from unittest import mock

import pytest
import torch
from hub.fake_hub import FakeHub
from torch import nn

import bhk
from bhk.nn import plan, weights_on_meta
from bhk.nn.attention import PROJECTIONS, HyperMultiheadAttention
from bhk.nn.hyperlinear import HyperLinear
from bhk.nn.loading import load_options
from bhk.nn.plan import SMALL_ON_CPU


class _Zoo(nn.Module):
    """A module with everything that makes loading hard: odd sizes, ties, subclasses, tensors other than weights."""

    def __init__(self) -> None:
        super().__init__()
        self.odd = nn.Linear(37, 48)
        self.mlp = nn.Sequential(nn.Linear(48, 40, bias=False), nn.GELU(), nn.Linear(40, 48))
        self.norm = nn.BatchNorm1d(48)
        self.attention = nn.MultiheadAttention(48, 2, batch_first=True)
        self.embedding = nn.Embedding(64, 48)
        self.head = nn.Linear(48, 64, bias=False)
        self.head.weight = self.embedding.weight
        self.shared = self.also_shared = nn.Linear(48, 48)
        self.hooked = nn.Linear(48, 48)
        self.hooked.register_forward_hook(lambda _module, _args, out: out * 2)
        self.own_forward = nn.Linear(48, 48)
        self.own_forward.forward = torch.relu
        self.adapted = nn.Linear(48, 48)
        self.adapted.lora = nn.Parameter(torch.zeros(48))
        self.tied_bias = nn.Linear(48, 48)
        self.tied_bias.bias = self.hooked.bias
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(48, 48))
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("mask", torch.tensor([True, False]).repeat(24))
        self.register_buffer("scale", torch.linspace(0, 1, 48), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.mlp(self.odd(x))) * self.scale * self.mask + self.steps
        x, _ = self.attention(x[None], x[None], x[None])
        x = self.also_shared(self.normed(self.hooked(self.shared(x[0]))))
        return self.head(self.tied_bias(self.adapted(self.own_forward(x))))


ATTENTION = ("attention.in_proj_weight", "attention.in_proj_bias", "attention.out_proj.weight")
PLAIN = ("odd", "mlp.0", "mlp.2")  # the linear layers of _Zoo that can be replaced


def _zoo() -> nn.Module:
    torch.manual_seed(0)
    return _Zoo()


def _run(model: nn.Module) -> torch.Tensor:
    weight = model.head.weight
    with torch.no_grad():
        x = torch.linspace(-1, 1, 5 * 37).view(5, 37)
        return model(x.to(weight.device, weight.dtype))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("zoo")
    model = _zoo()
    model.norm(torch.randn(8, 48))
    torch.save(model.state_dict(), folder / "zoo.pth")
    return bhk.convert(folder / "zoo.pth", threads=1).path


@pytest.fixture(scope="module")
def decoded(path) -> dict[str, torch.Tensor]:
    return bhk.load_state_dict(path)


@pytest.fixture
def expected(decoded) -> nn.Module:
    """The model, with the decoded weights loaded by torch."""
    model = _zoo()
    model.load_state_dict(decoded)
    return model.eval()


def _identities(model: nn.Module) -> dict[str, int]:
    return {name: id(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}


@pytest.mark.parametrize("build", ["materialised", "weights_on_meta"])
def test_dense_mode_loads_the_same_as_torch(path, expected: nn.Module, build: str) -> None:
    if build == "materialised":
        model = _zoo().train()
    else:
        with weights_on_meta():
            model = _zoo()
    report = bhk.load_into(model, path, mode="dense")
    assert not any(module.training for module in model.modules())
    ours, theirs = model.state_dict(), expected.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in theirs)
    assert torch.equal(_run(model), _run(expected))
    assert (report.missing, report.unexpected, report.replaced) == ((), (), 0)
    assert report.bytes == sum(tensor.nbytes for tensor in (*expected.parameters(), *expected.buffers()))


def test_hyper_mode_replaces_only_layers_that_it_knows(path, expected: nn.Module) -> None:
    model = _zoo()
    report = bhk.load_into(model, path)
    replaced = {name: module for name, module in model.named_modules() if isinstance(module, HyperLinear)}
    assert {*replaced} == {*PLAIN, *(f"attention.{name}" for name in (*PROJECTIONS, "out_proj"))}
    assert isinstance(model.attention, HyperMultiheadAttention)
    assert report.replaced == len(PLAIN) + 2  # and the two weights of attention
    for name in PLAIN:
        module = replaced[name]
        linear = expected.get_submodule(name)
        assert torch.equal(module.dense_weight(), linear.weight)
        assert (module.bias is None) == (linear.bias is None)
        assert module.bias is None or torch.equal(module.bias, linear.bias)
        assert not module.training
    assert report.bytes < sum(tensor.nbytes for tensor in (*expected.parameters(), *expected.buffers()))
    torch.testing.assert_close(_run(model), _run(expected))


@pytest.mark.parametrize(("mode", "replaced"), [("auto", ["large"]), ("hyper", ["small", "large"]), ("dense", [])])
def test_on_a_cpu_small_layers_are_held_dense(
    write, monkeypatch: pytest.MonkeyPatch, mode: str, replaced: list[str]
) -> None:
    monkeypatch.setattr(plan, "SMALL_ON_CPU", 32 * 64)
    model = nn.ModuleDict({"small": nn.Linear(32, 64), "large": nn.Linear(32, 65)})
    path = write(model)
    with weights_on_meta():
        model = nn.ModuleDict({"small": nn.Linear(32, 64), "large": nn.Linear(32, 65)})
    assert bhk.load_into(model, path, mode=mode).replaced == len(replaced)
    assert [name for name, module in model.items() if isinstance(module, HyperLinear)] == replaced


@pytest.mark.parametrize(
    ("device", "weights", "is_held"), [("cpu", 2**19, False), ("cpu", 2**19 + 1, True), ("cuda", 1, True)]
)
def test_which_layers_are_small(device: str, weights: int, is_held: bool) -> None:
    options = replace(load_options(), device=torch.device(device))
    with mock.patch.object(plan, "SMALL_ON_CPU", SMALL_ON_CPU):
        assert options.holds_codes(torch.empty(weights, 1, device="meta"), ("a.weight",)) is is_held
        held = replace(options, held=("a.*",))
        assert held.holds_codes(torch.empty(1, device="meta"), ("a.weight",))


@pytest.mark.parametrize("mode", ["dense", "hyper"])
def test_shared_tensors_stay_shared(path, mode: str) -> None:
    with weights_on_meta():
        model = _zoo()
    bhk.load_into(model, path, mode=mode)
    assert model.head.weight is model.embedding.weight
    assert model.shared is model.also_shared


def test_a_tied_tensor_of_the_file_is_copied_for_an_untied_model(path, decoded) -> None:
    model = _zoo()
    model.head.weight = nn.Parameter(torch.zeros(64, 48))
    bhk.load_into(model, path, mode="dense")
    assert torch.equal(model.head.weight, decoded["embedding.weight"])
    assert model.head.weight.data_ptr() != model.embedding.weight.data_ptr()


def test_one_name_of_a_shared_tensor_is_enough(write) -> None:
    class Tied(nn.Module):
        def __init__(self, names: tuple[str, ...]) -> None:
            super().__init__()
            linear = nn.Linear(40, 40)
            for name in names:
                self.add_module(name, linear)

    model = Tied(("a", "b"))
    bhk.load_into(model, write(source := Tied(("b",))), mode="dense")
    assert model.a is model.b
    torch.testing.assert_close(model.a.weight, source.b.weight, atol=0.01, rtol=0)


@pytest.mark.parametrize("mode", ["dense", "hyper"])
def test_each_tensor_keeps_its_dtype_in_the_model(path, expected: nn.Module, mode: str) -> None:
    model = _zoo().half()
    model.norm.double()
    bhk.load_into(model, path, mode=mode)
    state = expected.state_dict()
    for name, tensor in model.state_dict().items():
        if name in state:
            assert torch.equal(tensor, state[name].to(tensor.dtype)), name
    assert model.embedding.weight.dtype == model.mlp[0].weight.dtype == torch.float16
    assert model.norm.weight.dtype == torch.float64
    assert (model.steps.dtype, model.mask.dtype) == (torch.int64, torch.bool)


@pytest.mark.parametrize("mode", ["dense", "hyper"])
def test_a_given_dtype_applies_to_all_floating_tensors(path, expected: nn.Module, mode: str) -> None:
    with weights_on_meta():
        model = _zoo()
    bhk.load_into(model, path, mode=mode, dtype=torch.bfloat16)
    floating = {tensor.dtype for tensor in model.state_dict().values() if tensor.is_floating_point()}
    assert floating == {torch.bfloat16} | ({torch.float32} if mode == "hyper" else set())  # codebooks
    assert model.scale.dtype == model.mlp[0].weight.dtype == torch.bfloat16
    assert (model.steps.dtype, model.mask.dtype) == (torch.int64, torch.bool)
    torch.testing.assert_close(_run(model).float(), _run(expected), atol=0.1, rtol=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("mode", ["dense", "hyper"])
@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_on_a_gpu(path, expected: nn.Module, mode: str, dtype: torch.dtype | None) -> None:
    with weights_on_meta():
        model = _zoo()
    bhk.load_into(model, path, mode=mode, device="cuda", dtype=dtype)
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"cuda"}
    tolerance = 1e-3 if dtype is None else 5e-2
    torch.testing.assert_close(_run(model).float().cpu(), _run(expected), atol=tolerance, rtol=tolerance)


def test_requires_grad_is_kept(path) -> None:
    model = _zoo()
    model.embedding.requires_grad_(False)
    model.odd.bias.requires_grad_(False)
    bhk.load_into(model, path)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"embedding.weight", "odd.bias"}


@pytest.mark.parametrize("mode", ["hyper", "dense"])
@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_parameters_stay_the_same_objects_so_optimizers_go_on(path, mode: str, dtype: torch.dtype | None) -> None:
    model = _zoo()
    before = dict(model.named_parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    bhk.load_into(model, path, mode=mode, dtype=dtype)
    after = dict(model.named_parameters())
    lost = before.keys() - after.keys()
    assert lost == ({*(f"{name}.weight" for name in PLAIN), *ATTENTION} if mode == "hyper" else set())
    assert all(parameter is before[name] for name, parameter in after.items() if name in before)
    loaded = {name: parameter.detach().clone() for name, parameter in after.items()}
    model(torch.randn(5, 37, dtype=dtype)).square().sum().backward()
    optimizer.step()
    moved = [name for name, parameter in after.items() if not torch.equal(parameter, loaded[name])]
    held = [name for name in after if name in before]  # the biases of projections are new
    assert moved == [name for name in held if after[name].grad is not None and after[name].grad.any()]
    assert {"odd.bias", "norm.weight", "embedding.weight"} <= set(moved)


def test_tensors_that_the_file_lacks_are_unchanged(path, write) -> None:
    model = _zoo()
    model.extra = nn.Linear(3, 3)
    before, scale = model.extra.weight, model.scale
    report = bhk.load_into(model, path, strict=False)
    assert report.missing == ("extra.weight", "extra.bias")
    assert model.extra.weight is before
    assert model.scale is scale


def test_tensors_that_the_model_lacks_are_reported_or_ignored(path) -> None:
    model = _zoo()
    del model.mlp
    model.extra = nn.Parameter(torch.zeros(1))
    report = bhk.load_into(model, path, mode="dense", strict=False)
    assert set(report.unexpected) == {"mlp.0.weight", "mlp.2.weight", "mlp.2.bias"}
    report = bhk.load_into(model, path, mode="dense", ignore=["mlp.*", "ext?a"])
    assert (report.missing, report.unexpected) == ((), ())


def test_a_prefix_selects_part_of_the_file(path, expected: nn.Module) -> None:
    mlp = _zoo().mlp
    report = bhk.load_into(mlp, path, mode="dense", prefix="mlp.")
    assert report.unexpected == ()
    assert torch.equal(mlp[2].weight, expected.mlp[2].weight)


def test_a_model_that_is_a_linear_layer_itself_is_not_replaced(write) -> None:
    linear = nn.Linear(48, 48)
    path = write(linear)
    assert bhk.load_into(linear, path).replaced == 0
    assert torch.equal(linear.weight, bhk.load_state_dict(path)["weight"])


def test_recurrent_layers_compute_with_the_new_weights(write) -> None:
    source, model = nn.LSTM(40, 40), nn.LSTM(40, 40)
    path = write(source)
    bhk.load_into(model, path)
    source.load_state_dict(bhk.load_state_dict(path))
    x = torch.randn(3, 2, 40)
    assert torch.equal(model(x)[0], source(x)[0])


def test_a_dense_model_can_be_loaded_again(path, expected: nn.Module) -> None:
    model = _zoo()
    bhk.load_into(model, path, mode="dense")
    bhk.load_into(model, path)
    torch.testing.assert_close(_run(model), _run(expected))


def test_a_loaded_model_can_be_copied_and_saved(path, tmp_path) -> None:
    model = _zoo()
    bhk.load_into(model, path, mode="dense")
    again = _zoo()
    again.load_state_dict(copy.deepcopy(model).state_dict())
    assert torch.equal(_run(again.eval()), _run(model))


def test_progress_counts_the_dense_bytes_of_what_is_loaded(path, decoded) -> None:
    seen: list[tuple[str, int, int]] = []
    model = _zoo()
    bhk.load_into(model, path, threads=3, progress=lambda *step: seen.append(step))
    once = {tensor.data_ptr(): tensor.nbytes for tensor in decoded.values()}
    assert seen == sorted(seen)
    assert seen[-1] == ("Loading", sum(once.values()), sum(once.values()))


def test_a_file_on_the_hub(path, hub: FakeHub) -> None:
    hub.add("user/zoo", {"model.bhk": path})
    here, there = _zoo(), _zoo()
    bhk.load_into(here, path)
    bhk.load_into(there, "hf://user/zoo")
    assert torch.equal(_run(there), _run(here))
    assert list(bhk.load_state_dict("user/zoo")) == list(bhk.load_state_dict(path))


def test_the_number_of_threads_does_not_change_the_result(path) -> None:
    first, second = _zoo(), _zoo()
    bhk.load_into(first, path, mode="dense", threads=1)
    bhk.load_into(second, path, mode="dense", threads=4)
    state = second.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in first.state_dict().items())
