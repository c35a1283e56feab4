"""What the tests of all attention modules do: random weights, and comparing with the package's module."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import profile

import bhk.sam

DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def randomised(module: nn.Module) -> Any:
    """Give all parameters random values, also those that start as zeros, and put the module in eval mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    module.eval()
    return module  # TinyViT's `eval` returns None


def fused(module: nn.Module, replaced: int = 1) -> Any:
    """Return the module of bhk that takes the place of a copy of a package's module, as one of `replaced`."""
    parent = nn.ModuleList([copy.deepcopy(module)])
    assert bhk.sam.fuse_attention(parent) == replaced
    return parent[0]


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@torch.no_grad()
def assert_equals_package(theirs: nn.Module, *inputs: Tensor, replaced: int = 1) -> None:
    """Compare with the package's module: in double and single precision with its output, in bfloat16 with its accuracy."""
    found, expected = fused(theirs, replaced)(*inputs), theirs(*inputs)
    assert found.dtype == expected.dtype
    if found.dtype == torch.bfloat16:
        exact = copy.deepcopy(theirs).double()
        exact.eval()
        truth = exact(*(tensor.double() for tensor in inputs))
        assert (found - truth).norm() <= 1.1 * (expected - truth).norm()
    else:
        tolerance = 1e-5 if found.dtype == torch.float32 else 1e-11
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def gradients(module: nn.Module, *inputs: Tensor) -> list[Tensor | None]:
    """Return the gradients of inputs and parameters for a fixed slope of the output."""
    inputs = tuple(tensor.clone().requires_grad_() for tensor in inputs)
    output = module(*inputs)
    output = output[0] if isinstance(output, tuple) else output
    output.backward(draw(*output.shape, dtype=output.dtype))
    found = [*(tensor.grad for tensor in inputs), *(parameter.grad for parameter in module.parameters())]
    module.zero_grad()
    return found


def assert_forward_mode_equals_package(theirs: nn.Module, *inputs: Tensor) -> None:
    """Compare gradients in forward mode with those of the package's module."""
    ours = fused(theirs)
    with torch.no_grad():
        found, expected = (
            torch.func.jvp(module, inputs, tuple(x.flip(1) for x in inputs)) for module in (ours, theirs)
        )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def assert_compiles_under_autocast(theirs: nn.Module, *inputs: Tensor, replaced: int = 1) -> None:
    ours = fused(theirs, replaced)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = torch.compile(ours, fullgraph=True, backend="aot_eager")(*inputs), theirs(*inputs)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=5e-2, atol=5e-2)


@torch.no_grad()
def assert_exports(theirs: nn.Module, *inputs: Tensor, replaced: int = 1) -> None:
    """Check that graphs for other programs hold no operator of bhk."""
    ours, expected = fused(theirs, replaced), theirs(*inputs)
    traced, exported = torch.jit.trace(ours, inputs), torch.export.export(ours, inputs)
    assert "bhk::" not in str(traced.inlined_graph)
    assert "bhk" not in str(exported.graph)
    for found in (traced(*inputs), exported.module()(*inputs)):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def largest_allocation(module: nn.Module, *inputs: Tensor) -> int:
    """Return the bytes of the largest tensor that any operator makes, inside operators, too."""
    with torch.no_grad(), profile(profile_memory=True) as profiled:
        module(*inputs)
    return max(event.self_cpu_memory_usage for event in profiled.events())


def named(module: nn.Module, name: str) -> Any:
    """Return the module as one of a class of this full name, such as that of a package that no index has."""
    place, _, kind = name.rpartition(".")
    module.__class__ = type(kind, (type(module),), {"__module__": place})
    return module
