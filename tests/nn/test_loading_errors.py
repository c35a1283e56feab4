"""Whatever is wrong, the error says so and the model is as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import bhk
from bhk.base.files import ReadError
from bhk.base.parallel import ThreadsError
from bhk.container.errors import FormatError, StreamHashError
from bhk.nn import weights_on_meta
from bhk.nn.errors import LoadOptionError, MismatchError, ModelMemoryError, NoDataError


class _Net(nn.Module):
    def __init__(self, width: int = 48, depth: int = 3) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))
        self.norm = nn.BatchNorm1d(width)
        self.register_buffer("table", torch.arange(width) / width, persistent=False)


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Check that the block changes no module, tensor, value or attribute of `model`."""

    def everything() -> dict[str, object]:
        return {
            f"{path}.{key}": (id(value) if isinstance(value, nn.Module | torch.Tensor) else value)
            for path, module in model.named_modules()
            for store in (vars(module), module._parameters, module._buffers, module._modules)
            for key, value in store.items()
            if not isinstance(value, dict)
        }

    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if not tensor.is_meta]
    before, values = everything(), [tensor.clone() for tensor in tensors]
    yield
    assert everything() == before
    assert all(map(torch.equal, tensors, values))


@pytest.fixture
def path(write) -> Path:
    torch.manual_seed(0)
    return write(_Net())


@pytest.mark.parametrize("mode", ["dense", "hyper"])
def test_a_model_of_another_depth(path: Path, mode: str) -> None:
    model = _Net(depth=5).train()
    with (
        unchanged(model),
        pytest.raises(MismatchError, match=r"4 tensors \(blocks.3.weight, .*and 1 more\) of the model not") as caught,
    ):
        bhk.load_into(model, path, mode=mode)
    assert caught.value.missing == ("blocks.3.weight", "blocks.3.bias", "blocks.4.weight", "blocks.4.bias")
    model = _Net(depth=2)
    with unchanged(model), pytest.raises(MismatchError, match=r"2 tensors \(blocks.2.*\) of the file not") as caught:
        bhk.load_into(model, path, mode=mode)
    assert set(caught.value.unexpected) == {"blocks.2.weight", "blocks.2.bias"}


@pytest.mark.parametrize("strict", [True, False])
def test_a_model_of_another_width(path: Path, strict: bool) -> None:
    model = _Net(width=32)
    message = r"10 tensors .*blocks.0.weight is \[48, 48\] float32 in the file, \[32, 32\] float32 in the model"
    with unchanged(model), pytest.raises(MismatchError, match=message) as caught:
        bhk.load_into(model, path, strict=strict)
    assert len(caught.value.differing) == 10


def test_floating_weights_for_an_integer_tensor(path: Path) -> None:
    model = _Net()
    model.blocks[1].weight = nn.Parameter(torch.zeros(48, 48, dtype=torch.int32), requires_grad=False)
    with unchanged(model), pytest.raises(MismatchError, match=r"float32 in the file, \[48, 48\] int32 in the model"):
        bhk.load_into(model, path)


@pytest.mark.parametrize("strict", [True, False])
def test_a_model_of_another_architecture(path: Path, strict: bool) -> None:
    model = nn.Conv2d(3, 8, 3)
    with unchanged(model), pytest.raises(MismatchError, match="does not fit Conv2d: 2 tensors") as caught:
        bhk.load_into(model, path, strict=strict)
    assert caught.value.missing == ("weight", "bias")


def test_the_message_names_the_family_in_the_file(write) -> None:
    model = nn.ModuleDict({"mask_decoder": nn.ModuleDict({"iou_token": nn.Embedding(1, 48)})})
    path = write(model)
    other = nn.ModuleDict({"decoder": nn.Linear(48, 48)})
    with unchanged(other), pytest.raises(MismatchError, match="the file holds the model sam"):
        bhk.load_into(other, path)


def test_a_prefix_in_the_file(write) -> None:
    path, model = write(_Net(), "net."), _Net()
    with (
        unchanged(model),
        pytest.raises(MismatchError, match=r"names in the file start with 'net\.'; pass prefix='net\.'"),
    ):
        bhk.load_into(model, path)
    bhk.load_into(model, path, prefix="net.")


def test_a_prefix_that_the_file_does_not_have(path: Path) -> None:
    model = _Net()
    with unchanged(model), pytest.raises(MismatchError, match=r"11 tensors .* of the model not .*; pass prefix=''"):
        bhk.load_into(model, path, prefix="net.")


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapper_around_the_model(path: Path, wrap) -> None:
    model = wrap(_Net())
    name = "_orig_mod" if wrap is torch.compile else "module"
    with unchanged(model), pytest.raises(MismatchError, match=rf"load into model\.get_submodule\('{name}'\)"):
        bhk.load_into(model, path)
    bhk.load_into(model.get_submodule(name), path, mode="dense")


def test_a_file_of_weights_that_torch_computes(write) -> None:
    normal = _Net()
    nn.utils.parametrizations.weight_norm(normal.blocks[0])
    path = write(normal)
    call = r"call torch\.nn\.utils\.parametrize\.remove_parametrizations\(layer, 'weight'\) for each layer"
    with pytest.raises(MismatchError, match=f"instead of 1 weight, what torch computes them from; {call}"):
        bhk.load_into(_Net(), path)
    bhk.load_into(normal, path)


def test_a_model_that_already_holds_codes(path: Path) -> None:
    model = _Net()
    bhk.load_into(model, path)
    with unchanged(model), pytest.raises(MismatchError, match="3 of the model's layers already hold codes"):
        bhk.load_into(model, path)


def test_a_model_with_lazy_layers(path: Path) -> None:
    model = _Net()
    model.blocks[1] = nn.LazyLinear(48)
    with pytest.raises(MismatchError, match=r"blocks.1.weight is .* of unknown shape in the model"):
        bhk.load_into(model, path)
    assert isinstance(model.blocks[1], nn.LazyLinear)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "lazy"}, "mode 'lazy' is unknown; choose 'auto', 'hyper' or 'dense'"),
        ({"compute": "int4"}, "compute 'int4' is unknown; choose 'exact' or 'int8'"),
        ({"dtype": torch.int8}, r"dtype 'torch\.int8' is not a floating-point dtype"),
        ({"dtype": "float99"}, "dtype 'float99' is not a floating-point dtype"),
        ({"device": "meta"}, "device 'meta' holds no data"),
        ({"device": "warp"}, "device 'warp' cannot be used"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
    ],
)
def test_impossible_options(path: Path, options: dict[str, object], message: str) -> None:
    model = _Net()
    with unchanged(model), pytest.raises(LoadOptionError, match=message):
        bhk.load_into(model, path, **options)


def test_zero_threads(path: Path) -> None:
    with pytest.raises(ThreadsError):
        bhk.load_into(_Net(), path, threads=0)


@pytest.mark.parametrize("mode", ["dense", "hyper"])
def test_a_damaged_stream(path: Path, mode: str) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    model = _Net()
    with unchanged(model), pytest.raises(StreamHashError):
        bhk.load_into(model, path, mode=mode)


def test_a_file_that_is_not_a_bhk_file(tmp_path: Path) -> None:
    model = _Net()
    torch.save(model.state_dict(), tmp_path / "a.pth")
    with unchanged(model), pytest.raises(FormatError):
        bhk.load_into(model, tmp_path / "a.pth")
    with unchanged(model), pytest.raises(ReadError):
        bhk.load_into(model, tmp_path / "none.bhk")


def test_a_computed_buffer_on_meta(path: Path) -> None:
    with torch.device("meta"):
        model = _Net()
    message = r"1 tensor \(table\) of the model on the meta device .* under bhk\.nn\.weights_on_meta\(\)"
    with unchanged(model), pytest.raises(NoDataError, match=message):
        bhk.load_into(model, path)


def test_a_plain_attribute_on_meta(path: Path) -> None:
    model = _Net()
    model.blocks.positions = torch.empty(3, device="meta")
    with unchanged(model), pytest.raises(NoDataError, match=r"blocks\.positions"):
        bhk.load_into(model, path)


def test_a_weight_on_meta_that_the_file_lacks(path: Path) -> None:
    with weights_on_meta():
        model = _Net(depth=4)
    with unchanged(model), pytest.raises(NoDataError, match=r"2 tensors \(blocks\.3\.weight, blocks\.3\.bias\)"):
        bhk.load_into(model, path, strict=False)


class _Cached(nn.Module):
    """Keeps a product of a weight and a table in eval mode, as the attention of TinyViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.plain = nn.Linear(48, 48), nn.Linear(48, 48)
        self.register_buffer("table", torch.arange(48.0))
        self.register_buffer("cached", torch.zeros(48), persistent=False)
        self.fails = False

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self.cached = self.linear.weight.sum(0) * self.table
        if self.fails:
            raise ArithmeticError
        return self


@pytest.mark.parametrize("build", [contextlib.nullcontext, weights_on_meta, lambda: torch.device("meta")])
def test_eval_recomputes_its_buffers_from_the_loaded_weights(write, build) -> None:
    path = write(_Cached())
    with build():
        model = _Cached()
    bhk.load_into(model, path)
    torch.testing.assert_close(model.cached, bhk.load_state_dict(path)["linear.weight"].sum(0) * torch.arange(48.0))


def test_an_error_during_the_change_is_rolled_back(write) -> None:
    path, model = write(_Cached()), _Cached()
    model.fails = True
    with unchanged(model), pytest.raises(ArithmeticError):
        bhk.load_into(model, path)


def test_an_interruption_changes_nothing(path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    model = _Net()
    with unchanged(model), pytest.raises(KeyboardInterrupt):
        bhk.load_into(model, path, progress=interrupt)


def _no_memory() -> None:
    raise MemoryError


def _no_gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@pytest.mark.parametrize("use_up", [_no_memory, _no_gpu_memory, lambda: torch.empty(1 << 50)])
def test_a_device_without_enough_memory(path: Path, use_up) -> None:
    model = _Net()
    with unchanged(model), pytest.raises(ModelMemoryError, match=r"no room on cpu for .*model\.bhk") as caught:
        bhk.load_into(model, path, device="cpu", progress=lambda *_: use_up())
    assert caught.value.__context__ is None  # its traceback would keep all decoded tensors alive


def test_other_errors_pass_through(path: Path) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("something else")

    model = _Net()
    with unchanged(model), pytest.raises(RuntimeError, match="something else"):
        bhk.load_into(model, path, progress=fail)
