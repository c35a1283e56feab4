from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bhk.checkpoint.quantised import find_quantised

_CODES, _PACKED = torch.zeros(64, 64, dtype=torch.uint8), torch.zeros(32, 64, dtype=torch.int32)
_SCALES = torch.rand(64, 32).half()
_FP8 = torch.zeros(64, 64).to(torch.float8_e4m3fn)

# Method, the names and tensors of a layer that it has quantised, and what is beside it.
LAYOUTS: list[tuple[str, dict[str, Tensor]]] = [
    ("quanto", {"weight._data": _CODES.to(torch.int8), "weight._scale": _SCALES, "input_scale": torch.ones(())}),
    ("quanto", {"weight._data._data": _CODES, "weight._scale": _SCALES, "weight._shift": _SCALES}),
    ("GPTQ", {"qweight": _PACKED, "qzeros": _PACKED, "scales": _SCALES, "g_idx": torch.zeros(64, dtype=torch.int32)}),
    ("AWQ or GPTQ", {"qweight": _PACKED, "qzeros": _PACKED, "scales": _SCALES}),
    (
        "HQQ",
        {"W_q": _CODES, "scale": _SCALES, "zero": _SCALES, "nbits": torch.tensor(4), "shape": torch.tensor([64, 64])},
    ),
    ("HQQ", {"W_q": _CODES.view(torch.float16), "scale": _SCALES, "zero": _SCALES}),  # view_as_float
    ("bitsandbytes", {"weight": _CODES.to(torch.int8), "SCB": torch.rand(64), "weight_format": torch.tensor(0)}),
    (
        "bitsandbytes",
        {
            "weight": _CODES.view(4096, 1),
            "weight.absmax": torch.rand(64, 32),
            "weight.quant_map": torch.rand(16),
            "weight.nested_absmax": torch.rand(2),
            "weight.nested_quant_map": torch.rand(256),
            "weight.quant_state.bitsandbytes__nf4": torch.zeros(80, dtype=torch.uint8),
        },
    ),
    # bnb_4bit_quant_storage=bfloat16, for FSDP
    (
        "bitsandbytes",
        {"weight": _CODES.view(torch.bfloat16), "weight.absmax": torch.rand(64), "weight.quant_map": torch.rand(16)},
    ),
    ("torchao", {"_weight_qdata": _CODES.to(torch.int8), "_weight_scale": _SCALES, "_weight_zero_point": _SCALES}),
    (
        "compressed-tensors",
        {"weight_packed": _PACKED, "weight_scale": _SCALES, "weight_shape": torch.tensor([64, 256])},
    ),
    (
        "8-bit floats with scales",
        {"weight": _FP8, "weight_scale_inv": torch.rand(64, 32), "input_scale": torch.rand(1)},
    ),
    ("8-bit floats with scales", {"gate_proj.weight": _FP8, "gate_proj.weight_scale": _SCALES}),
    ("MXFP4", {"gate_up_proj_blocks": _CODES, "gate_up_proj_scales": _CODES, "gate_up_proj_bias": _SCALES}),
    ("NVFP4", {"weight": _CODES, "weight_scale": _FP8, "weight_scale_2": torch.rand(()), "pre_quant_scale": _SCALES}),
    ("NVFP4", {"weight_packed": _CODES, "weight_scale": _FP8, "weight_global_scale": torch.rand(1)}),
    ("AQLM", {"codes": _CODES.to(torch.int8), "codebooks": torch.rand(2, 256, 1, 8), "scales": _SCALES}),
    ("VPTQ", {"indices": _PACKED, "centroids.weight": torch.rand(1, 4096), "weight_scale": _SCALES}),
    ("integers with scales", {"kernel": _CODES, "lut": torch.rand(64, 32)}),
]


@pytest.mark.parametrize(("method", "layer"), LAYOUTS)
def test_every_tensor_of_a_quantised_layer_is_found(method: str, layer: dict[str, Tensor]) -> None:
    theirs = {f"model.layers.{number}.proj.{name}": tensor for number in range(2) for name, tensor in layer.items()}
    own = {
        "model.embed.weight": torch.rand(64, 64),
        "model.layers.0.norm.weight": torch.rand(64),
        "model.proj.bias": torch.rand(9),
    }
    found = find_quantised({**theirs, **own})
    assert found.names == theirs.keys()
    assert found.methods == (method,)
    assert found.share == pytest.approx(
        sum(t.nbytes for t in theirs.values()) / sum(t.nbytes for t in (theirs | own).values())
    )


def test_it_is_said_which_methods_were_met_and_what_that_means() -> None:
    layer = {"a.qweight": _PACKED, "a.qzeros": _PACKED, "a.scales": _SCALES, "b.W_q": _CODES, "b.scale": _SCALES}
    (line,) = find_quantised(layer).lines()
    assert line == (
        "the weights of 2 layers are quantised already (AWQ or GPTQ, HQQ); they and their scales stay exact, 100% of the "
        "bytes; little is left to gain, so convert the original weights instead"
    )
    (line,) = find_quantised({**layer, "c": torch.zeros(1 << 18)}).lines()
    assert line.endswith("they and their scales stay exact, 3% of the bytes")


@pytest.mark.parametrize(
    "tensors",
    [
        {
            "attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64),
            "attn.bias_table": torch.rand(169, 32),
        },
        {"attn.bias": torch.ones(1, 1, 64, 64, dtype=torch.uint8), "attn.masked_bias": torch.tensor(-1e4)},
        {"attn.mask": torch.ones(64, 64, dtype=torch.bool), "attn.pos": torch.rand(64, 64)},
        {"bn.running_mean": torch.rand(2048), "bn.num_batches_tracked": torch.tensor(3), "bn.weight": torch.rand(2048)},
        {"embed.weight": torch.rand(64, 64), "embed.ids": torch.zeros(9, dtype=torch.int32)},
        {"a.weight": _FP8, "a.bias": torch.rand(64)},  # cast, not scaled
        {"cis": torch.zeros(64, 64, dtype=torch.complex64), "scale": torch.rand(64, 64)},
        {},
    ],
)
def test_indices_masks_and_counters_are_no_weights(tensors: dict[str, Tensor]) -> None:
    found = find_quantised(tensors)
    assert (found.names, found.layers, found.methods, found.lines()) == (frozenset(), 0, (), ())
