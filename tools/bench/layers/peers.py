"""Other people's linear layers, made from a dense one on its device and in its dtype.

    found = peers(linear, x)        found.ready["GemLite W8A16"](x)        found.left_out["GemLite W4A16"]

Each is tried with `x` once, which also compiles and tunes it. It is left out, with a line that says why, when its package is
not installed or does not take this layer, this `x` or this device.

- GemLite: its Triton kernels; int8 with a scale for each output, or 4 bits in groups of 64 with zero points, rounded to nearest
- torchao: int8 weights, also with activations rounded to int8 row by row; compiled, as its documentation says
- bitsandbytes: "int8" rounds all activations. "LLM.int8" multiplies outlier features in 16 bits and reads from the GPU which
  these are, so no CUDA graph can capture it. nf4 in blocks of 64, scales float32
- torch.compile: the dense layer, with Triton's matrix products among the candidates
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from bhk.codec.codebook import Codebook
from bhk.codec.tensor import encode
from tools.bench.frame.benchmark import one_line

GROUP = 64  # weights that share a scale at 4 bits
# A larger relative error of the product is a fault, not quantisation.
MAX_ERROR = 0.25
# From where on an activation is an outlier: the default of bitsandbytes' paper and of transformers.
OUTLIER = 6.0
NOT_CAPTURABLE = frozenset({"bitsandbytes LLM.int8"})
# What torchao recommends to inductor, for one layer and not the process. Without autotuning, weights are converted first.
TUNED = {
    "max_autotune": True,
    "coordinate_descent_tuning": True,
    "coordinate_descent_check_all_directions": True,
    "force_fuse_int_mm_with_mul": True,
}


@dataclass(frozen=True, eq=False)
class Peers:
    """Layers by name, and for each one left out a line that says why."""

    ready: dict[str, nn.Module] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


class Compiled(nn.Module):
    """A linear layer compiled for the shapes it meets. Copies share the compiled code and have their own weights."""

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
        raise ValueError(f"{in_features} inputs do not split into groups of {GROUP}")
    groups = weight.float().view(out_features, -1, GROUP)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    scales = ((high - low) / 15).clamp(min=1e-8)
    codes = ((groups - low) / scales).round().clamp(0, 15).to(torch.uint8)
    return codes.view(out_features, in_features), scales.squeeze(-1), (-low / scales).squeeze(-1)


def _torchao(config: str, linear: nn.Linear) -> nn.Module:
    from torchao import quantization

    quantization.quantize_(linear, getattr(quantization, config)(set_inductor_config=False))
    return Compiled(linear)


def _bitsandbytes_int8(threshold: float, linear: nn.Linear) -> nn.Module:
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at each call that is not in float16
    weight = linear.weight
    layer = Linear8bitLt(linear.in_features, linear.out_features, False, False, threshold, device="meta")
    layer.weight = Int8Params(weight.data.cpu(), requires_grad=False, has_fp16_weights=False)
    layer.bias = linear.bias
    return layer.to(weight.device)  # rounds what it moves from the CPU


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
    "torchao W8A16": partial(_torchao, "Int8WeightOnlyConfig"),
    "torchao W8A8": partial(_torchao, "Int8DynamicActivationInt8WeightConfig"),
    "bitsandbytes int8": partial(_bitsandbytes_int8, 0.0),
    "bitsandbytes LLM.int8": partial(_bitsandbytes_int8, OUTLIER),
    "bitsandbytes nf4": _bitsandbytes_nf4,
    "torch.compile": Compiled,
}


@torch.no_grad()
def peers(linear: nn.Linear, x: Tensor, names: Collection[str] = tuple(MAKERS)) -> Peers:
    """Return the peers of `linear`, tried with x (rows, in), and why others are left out.

    What was compiled before is dropped, because all layers count against torch's limit of recompilations, beyond which it
    silently stops compiling. Layers of an earlier call stay valid, and are compiled again when they are called.
    """
    torch.compiler.reset()
    found = Peers()
    exact = linear(x).float()
    for name in names:
        try:
            layer = MAKERS[name](copy.deepcopy(linear).requires_grad_(False)).eval()
            error = float((layer(x).float() - exact).norm() / exact.norm())
        except Exception as fault:  # whatever another package raises, the others are measured
            found.left_out[name] = one_line(fault)
            continue
        if error <= MAX_ERROR:
            found.ready[name] = layer
        else:
            found.left_out[name] = f"its product is off by {error:.2g} of it"
    return found


def others_of(dense: nn.Linear, x: Tensor) -> tuple[dict[str, nn.Module], dict[str, Tensor]]:
    """Return the layers to measure beside HyperLinear on a GPU, and the float64 weights of those that code `dense` anew.

    Beside the peers that a CUDA graph can capture, these are the published scheme, and weights resident at 6 bits beside 8.
    What is left out is printed, with the reason.
    """
    from tools.bench.layers.published import PublishedLinear
    from tools.bench.layers.six_bits import MAX_WINDINGS, EightBitLinear, SixBitLinear

    found = peers(dense, x, [name for name in MAKERS if name not in NOT_CAPTURABLE])
    for name, reason in found.left_out.items():
        print(f"{name}: left out: {reason}", flush=True)
    shape, weight = (dense.out_features, dense.in_features), dense.weight.float()
    published = encode(weight.cpu(), "birkhoff")
    assert published.codebook is not None
    assert published.planes is not None
    book = Codebook((0.0, 0.0), 2.0 * float(weight.abs().max()), MAX_WINDINGS, 0, 0.0, True)
    codes, _ = book.encode_square(weight.reshape(-1, 2))
    layers = {
        "published scheme": PublishedLinear(published.codebook, published.planes, *shape, dense.bias),
        "6 bits": SixBitLinear(book, codes, *shape, dense.bias),
        "8 bits": EightBitLinear(book, codes, *shape, dense.bias),
    }
    lattice = book.decode(codes).view(shape).double()
    weights = {"published scheme": published.decode().to(x.device, torch.float64), "6 bits": lattice, "8 bits": lattice}
    return found.ready | {name: layer.to(x.device) for name, layer in layers.items()}, weights
