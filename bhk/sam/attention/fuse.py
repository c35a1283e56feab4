"""Replacing the attention modules of the family's packages: `bhk.sam.fuse_attention`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import nn

from bhk.base.texts import choices
from bhk.nn.errors import LoadOptionError
from bhk.nn.hyperlinear import Compute
from bhk.nn.model_tensors import is_unaltered
from bhk.sam.attention.biased import BiasedAttention
from bhk.sam.attention.hiera import HieraBlock
from bhk.sam.attention.plain import DecoderAttention, EdgeAttention, EncoderAttention
from bhk.sam.attention.relative import HuggingFaceRelativeAttention, RelativeAttention, RelativeBlock

# "fused" puts bhk's attention modules in place of a package's, "package" keeps those.
Attention: TypeAlias = Literal["fused", "package"]

_Fused: TypeAlias = type[
    RelativeAttention | RelativeBlock | BiasedAttention | HieraBlock | EncoderAttention | DecoderAttention
]

# Packages with copies of the modules of segment_anything.
_COPIES = ("segment_anything", "segment_anything_hq", "mobile_sam", "mobilesamv2", "edge_sam", "tinysam", "repvit_sam")
_FUSED: dict[str, _Fused] = {
    **{f"{package}.modeling.image_encoder.Attention": RelativeAttention for package in _COPIES},
    **{f"{package}.modeling.image_encoder.Block": RelativeBlock for package in _COPIES},
    **{f"{package}.modeling.tiny_vit_sam.Attention": BiasedAttention for package in _COPIES},
    **{f"{package}.modeling.transformer.Attention": DecoderAttention for package in _COPIES},
    "robust_segment_anything.modeling.image_encoder.Attention": RelativeAttention,
    "robust_segment_anything.modeling.image_encoder.Block": RelativeBlock,
    "tiny_vit_sam.Attention": BiasedAttention,
    "sam2.modeling.backbones.hieradet.MultiScaleBlock": HieraBlock,
    "edge_sam.modeling.transformer.Attention": EdgeAttention,
    "efficient_sam.efficient_sam_encoder.Attention": EncoderAttention,
    "efficient_sam.two_way_transformer.AttentionForTwoWayAttentionBlock": DecoderAttention,
    "transformers.models.sam.modeling_sam.SamVisionSdpaAttention": HuggingFaceRelativeAttention,
    "transformers.models.sam_hq.modeling_sam_hq.SamHQVisionSdpaAttention": HuggingFaceRelativeAttention,
}


def check_attention(attention: str) -> None:
    """Check the option `attention`.

    Raises:
        LoadOptionError: it has an impossible value.
    """
    if attention not in get_args(Attention):
        raise LoadOptionError(f"attention {attention!r} is unknown; choose {choices(get_args(Attention))}")


def fuse_attention(model: nn.Module, *, compute: Compute = "exact") -> int:
    """Replace the attention modules of a Segment Anything model by modules of bhk that compute the same, faster.

    The packages write a matrix of all scores to memory. These modules do without, except where the biases of a TinyViT are
    trained, where EdgeSAM's training asks for the weights, and where gradients are taken in forward mode. Blocks of the image
    encoders of SAM and SAM 2 are replaced, too, because theirs write what all tokens need at once to memory. The modules take
    over the parameters, and nothing in the state dict changes. It does not matter whether you call this before or after
    `bhk.load_into`.

    Known are the modules of segment_anything, its copies (such as those of SAM-HQ, MobileSAM and RobustSAM), EfficientSAM, the
    image encoder of sam2, whose attention itself is fused already, and those of SamModel and SamHQModel of transformers.
    Modules of other classes, or with hooks or other additions, stay as they are; so does a block with a hook on any part of it.
    Set hooks before: later ones on a part of a block see some tokens at a time, (1, 1, tokens, channels) in SAM, and `attn.qkv`
    once more for padding.

    >>> from segment_anything import sam_model_registry
    >>> model = sam_model_registry["vit_b"]()
    >>> bhk.sam.fuse_attention(model)
    31

    Args:
        model: any module; its submodules are replaced, but not `model` itself.
        compute: "int8" lets a CPU round queries, keys and values of SAM's image encoder to bfloat16 where it multiplies that
            clearly faster, as it measures once. The error is smaller than that of int8 products, and `bhk.load` passes its own
            `compute` on.

    Returns:
        how many modules were replaced.
    """
    found: dict[nn.Module, nn.Module] = {}
    _fuse_children(model, found)
    for module in found.values():
        if isinstance(module, RelativeAttention):
            module.compute = compute
    return sum(new is not old for old, new in found.items())


def _fuse_children(parent: nn.Module, found: dict[nn.Module, nn.Module]) -> None:
    """Replace modules below `parent`, parts before what holds them; `found` says what became of each."""
    for name, child in parent._modules.items():
        if child is None or isinstance(child, torch.jit.ScriptModule):  # SAM 3 has one, which resizes pictures
            continue
        if child not in found:
            found[child] = child
            _fuse_children(child, found)
            found[child] = _replacement(child) or child
        parent._modules[name] = found[child]


def _replacement(module: nn.Module) -> nn.Module | None:
    """Return the module that computes the same, or None if there is none."""
    kind = _FUSED.get(f"{type(module).__module__}.{type(module).__qualname__}")
    # "ab" are TinyViT's biases between all tokens, which only some modes have.
    parts = {*module._parameters, *module._buffers, *module._modules} - {"ab"}
    if kind is None or parts - getattr(kind, "further", set()) != kind.parts or not is_unaltered(module):
        return None
    if kind in _KNOWN_PARTS and not (_KNOWN_PARTS[kind](module) and all(map(is_unaltered, module.modules()))):
        return None
    fused = kind(module)
    fused.training = module.training
    fused._modules = dict(module._modules)  # in the package's order, which is that of the state dict
    return fused


# Blocks -> whether the parts of one may be called with some of its tokens. They must not watch their calls, either.
_KNOWN_PARTS: dict[_Fused, Callable[[Any], bool]] = {
    RelativeBlock: lambda block: isinstance(block.attn, RelativeAttention) and type(block.mlp).__name__ == "MLPBlock",
    HieraBlock: lambda block: (
        type(block.attn).__name__ == "MultiScaleAttention"
        and type(block.mlp).__name__ == "MLP"
        and type(block.drop_path) is nn.Identity
    ),
}
