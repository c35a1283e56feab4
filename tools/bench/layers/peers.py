"""Other people's linear layers, made from a dense one on the device and in the dtype that it has.

    found = peers(linear, x)        found.ready["GemLite W8A16"](x)        found.left_out["GemLite W4A16"]

Each is tried with `x` once, which also compiles and tunes it, and left out, with the reason in a line, when its package is not
installed or does not take this layer, this `x` or this device.

- GemLite: its Triton kernels; int8 with a scale an output, or 4 bits in groups of 64 with zero points, rounded to nearest
- torchao: int8 weights, also with activations rounded to int8 row by row; compiled, as it documents
- bitsandbytes: "int8" rounds all activations; "LLM.int8" multiplies features of outliers in 16 bits, reads from the card which
  these are and cannot be captured in a CUDA graph; nf4 in blocks of 64, scales float32
- torch.compile: the dense layer, with Triton's matrix products among the candidates
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUP = 64  # weights that share a scale at 4 bits
# Products that are further off than this are no quantised weight's.
MAX_ERROR = 0.25
# bitsandbytes' own default for activations that count as outliers, in its paper and in transformers.
OUTLIER = 6.0
NOT_CAPTURABLE = frozenset({"bitsandbytes LLM.int8"})
# What torchao recommends to inductor, here for one layer and not for the process; without autotuning it converts weights first.
TUNED = {
    "max_autotune": True,
    "coordinate_descent_tuning": True,
    "coordinate_descent_check_all_directions": True,
    "force_fuse_int_mm_with_mul": True,
}


@dataclass(frozen=True, eq=False)
class Peers:
    """What `peers` found: layers by their names, and one line for each that is not among them."""

    ready: dict[str, nn.Module] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


class Compiled(nn.Module):
    """A linear layer compiled for the shapes it meets; copies share the compiled code and have weights of their own."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.product = torch.compile(functional.linear, fullgraph=True, dynamic=False, options=TUNED)

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.linear.weight, self.linear.bias)


def _gemlite_int8(linear: nn.Linear) -> nn.Module:
    from gemlite.helper import A16W8_INT8

    return A16W8_INT8(str(linear.weight.device), linear.weight.dtype).from_linear(linear, del_orig=False)


def _gemlite_int4(linear: nn.Linear) -> nn.Module:
    from gemlite.helper import A16W4_HQQ_INT

    weight = linear.weight
    codes, scales, zeros = round_to_int4(weight)
    processor = A16W4_HQQ_INT(str(weight.device), weight.dtype)
    return processor.from_weights(codes, scales.to(weight.dtype), zeros.to(weight.dtype), linear.bias)


def round_to_int4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Round a weight (out, in) to 4 bits in groups of 64 along `in`: weight = (codes - zeros) * scales.

    Returns:
        codes, uint8 (out, in) in 0 ... 15, and scales and zeros, float32 (out, in / 64).
    """
    out_features, in_features = weight.shape
    if in_features % GROUP:
        raise ValueError(f"{in_features} inputs are no groups of {GROUP}")
    groups = weight.float().view(out_features, -1, GROUP)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    scales = ((high - low) / 15).clamp(min=1e-8)
    codes = ((groups - low) / scales).round().clamp(0, 15).to(torch.uint8)
    return codes.view(out_features, in_features), scales.squeeze(-1), (-low / scales).squeeze(-1)


def _torchao_int8(linear: nn.Linear) -> nn.Module:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(linear, Int8WeightOnlyConfig(set_inductor_config=False))
    return Compiled(linear)


def _torchao_dynamic(linear: nn.Linear) -> nn.Module:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(linear, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False))
    return Compiled(linear)


def _bitsandbytes_int8(linear: nn.Linear, threshold: float = 0.0) -> nn.Module:
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at each call that is not in float16
    weight = linear.weight
    layer = Linear8bitLt(linear.in_features, linear.out_features, False, False, threshold, device="meta")
    layer.weight = Int8Params(weight.data.cpu(), requires_grad=False, has_fp16_weights=False)
    layer.bias = linear.bias
    return layer.to(weight.device)  # rounds what it moves from the CPU


def _bitsandbytes_outliers(linear: nn.Linear) -> nn.Module:
    return _bitsandbytes_int8(linear, OUTLIER)


def _bitsandbytes_nf4(linear: nn.Linear) -> nn.Module:
    from bitsandbytes.nn import LinearNF4, Params4bit

    weight = linear.weight
    layer = LinearNF4(linear.in_features, linear.out_features, False, weight.dtype, False, device="meta")
    layer.weight = Params4bit(
        weight.data.cpu(), requires_grad=False, blocksize=GROUP, compress_statistics=False, quant_type="nf4"
    )
    layer.bias = linear.bias
    return layer.to(weight.device)


MAKERS: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "GemLite W8A16": _gemlite_int8,
    "GemLite W4A16": _gemlite_int4,
    "torchao W8A16": _torchao_int8,
    "torchao W8A8": _torchao_dynamic,
    "bitsandbytes int8": _bitsandbytes_int8,
    "bitsandbytes LLM.int8": _bitsandbytes_outliers,
    "bitsandbytes nf4": _bitsandbytes_nf4,
    "torch.compile": Compiled,
}


@torch.no_grad()
def peers(linear: nn.Linear, x: Tensor, names: Collection[str] = tuple(MAKERS)) -> Peers:
    """Return the peers of `linear`, tried with x (rows, in), and why others are left out.

    What was compiled before is dropped: all layers count against torch's limit of recompilations, beyond which it does not
    compile and does not say so. Layers of an earlier call stay valid, and are compiled anew when they are called.
    """
    torch.compiler.reset()
    found = Peers()
    exact = linear(x).float()
    for name in names:
        try:
            layer = MAKERS[name](copy.deepcopy(linear).requires_grad_(False)).eval()
            error = float((layer(x).float() - exact).norm() / exact.norm())
        except Exception as fault:  # whatever another package raises, the others are to be measured
            found.left_out[name] = _in_a_line(fault)
            continue
        if error <= MAX_ERROR:
            found.ready[name] = layer
        else:
            found.left_out[name] = f"its product is off by {error:.2g} of it"
    return found


def _in_a_line(fault: Exception) -> str:
    lines = str(fault).strip().splitlines()
    return f"{type(fault).__name__}: {lines[0][:200]}" if lines else type(fault).__name__


def held_bytes(layer: nn.Module) -> int:
    """Return how many bytes the tensors of a layer take, those inside tensors of torchao's counted."""
    return sum(_nbytes(tensor) for tensor in layer.state_dict().values())


def _nbytes(tensor: Tensor) -> int:
    if not hasattr(tensor, "__tensor_flatten__"):
        return tensor.nbytes
    names, _ = tensor.__tensor_flatten__()
    return sum(_nbytes(getattr(tensor, name)) for name in names)
