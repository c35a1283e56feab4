from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from bhk.nn import weights_on_meta
from bhk.nn.meta import ModuleTooLargeError, Most

segment_anything = pytest.importorskip("segment_anything")
tiny_vit = pytest.importorskip("segment_anything_hq.modeling.tiny_vit_sam")


def _on_meta(module: nn.Module) -> set[str]:
    return {name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta}


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Linear(5, 3),
        lambda: nn.Conv2d(3, 5, 3, bias=False),
        lambda: nn.ConvTranspose2d(3, 5, 3),
        lambda: nn.LayerNorm(7),
        lambda: nn.GroupNorm(2, 4),
        lambda: nn.Embedding(9, 4, padding_idx=0),
        lambda: nn.MultiheadAttention(8, 2),
        lambda: nn.LSTM(5, 3),
    ],
)
def test_parameters_take_no_memory_and_no_random_numbers(build) -> None:
    state = torch.get_rng_state()
    with weights_on_meta():
        module = build()
    assert _on_meta(module) == set(dict(module.named_parameters()))
    assert torch.equal(torch.get_rng_state(), state)
    assert not _on_meta(build())


def test_tensors_that_a_module_computes_are_real() -> None:
    with weights_on_meta():
        norm, vit = nn.BatchNorm2d(4), tiny_vit.TinyViT(img_size=64, depths=[1] * 4, num_heads=[2] * 4)
    assert _on_meta(norm) == {"weight", "bias"}
    assert {name for name, _ in vit.named_buffers()} & _on_meta(vit) == set()
    assert any(name.endswith("attention_bias_idxs") for name, _ in vit.named_buffers())


def test_weights_of_a_sam_are_on_meta_but_not_its_constants() -> None:
    with weights_on_meta():
        sam = segment_anything.sam_model_registry["vit_h"]()
    real = [tensor for tensor in sam.parameters() if not tensor.is_meta]
    assert sum(tensor.numel() for tensor in real) < 0.01 * sum(tensor.numel() for tensor in sam.parameters())
    assert sam.pixel_mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])


def test_an_explicit_device_is_kept() -> None:
    with weights_on_meta():
        linear = nn.Linear(5, 3, device="cpu")
        like = torch.empty(2, device=None), torch.empty(2, device=torch.device("cpu"))
    assert not _on_meta(linear)
    assert (like[0].is_meta, like[1].is_meta) == (True, False)


@pytest.mark.parametrize("where", [("cpu",), ("cpu", torch.float16), (torch.device("cpu"), torch.float16)])
def test_moving_a_module_inside_leaves_its_weights_on_meta(where: tuple[object, ...]) -> None:
    with weights_on_meta():
        norm = nn.BatchNorm2d(4).to(*where)
        norm.to(device="cpu")
    assert norm.weight.is_meta
    assert not norm.running_mean.is_meta
    assert norm.weight.dtype == norm.running_mean.dtype == (where[1] if len(where) > 1 else torch.float32)
    assert norm.num_batches_tracked.dtype == torch.int64


def test_modules_built_outside_are_real() -> None:
    with pytest.raises(ZeroDivisionError), weights_on_meta():
        raise ZeroDivisionError
    assert not torch.empty(1).is_meta


@pytest.mark.parametrize(
    "make", [torch.arange, torch.zeros, torch.rand, lambda size: torch.outer(*[torch.ones(2**20)] * 2)]
)
def test_what_is_too_large_is_refused_before_it_takes_memory(make) -> None:
    with weights_on_meta(Most(10, 2**22)), pytest.raises(ModuleTooLargeError):
        make(2**44)


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ((7,), {}),
        ((2, 7), {}),
        ((2, 7.5, 0.5), {}),
        ((7, 2, -2), {"dtype": torch.float32}),
        ((), {"end": 5}),
        ((2,), {"end": 5}),
        ((), {"start": 2, "end": 9, "step": 3}),
        ((2, 9), {"step": 4}),
    ],
)
def test_ranges_count_as_what_they_hold(args: tuple[float, ...], options: dict[str, float]) -> None:
    most = Most(10, 100)
    with weights_on_meta(most):
        made = torch.arange(*args, **options)
    assert most.elements == 100 - made.numel() < 100


def test_building_does_not_import_the_compiler_of_torch() -> None:
    program = (
        "import sys, torch; from bhk.nn.meta import Most, weights_on_meta\n"
        "with weights_on_meta(Most(99, 999)):\n"
        "    torch.outer(torch.arange(3.0), torch.arange(0, 5)); torch.nn.Embedding(3, 4); torch.nn.Linear(3, 4)\n"
        "    torch.nn.init.trunc_normal_(torch.empty(3)); torch.randn((2, 3)); torch.full(size=(2,), fill_value=3)\n"
        "sys.exit('torch._dynamo' in sys.modules or 'sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_may_be_made_is_made_once() -> None:
    most = Most(5, 100)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with weights_on_meta(most):
        found = torch.rand(3, generator=torch.default_generator, pin_memory=False)
        assert torch.arange(0, 9, 2).tolist() == [0, 2, 4, 6, 8]
        assert torch.outer(torch.ones(2), vec2=torch.ones(3)).tolist() == [[1.0] * 3] * 2
    assert torch.equal(found, expected)
    assert (most.tensors, most.elements) == (0, 100 - 3 - 5 - 2 - 3 - 6)
