"""How finely each part of a Segment Anything model is coded when nothing is measured: the shipped table.

An error matters as much as it moves the masks. With kappa the expected squared change of the outputs for each weight and unit
of squared error, the total is least for a size where step^2 is proportional to 1 / kappa (reverse water-filling): where a part
is finer than the model by 10 log10 kappa decibels and a constant. `tools/bench/allocation.py` measures kappa on the demo SAM,
and what each part costs its masks when it alone is coded. The two differ a little; the table, in whole decibels, lies between
them. Beside two offsets, for the encoder's blocks and for all else, it makes files of the demo SAM 5 % smaller at equal masks,
and 8 % of another one that it was not made for. The depth of a block is left out: with the first MLPs 6 dB finer than the last,
0.7 % more. The constant is such that preset `balanced` keeps the demo's masks as close to the original's as preset `birkhoff`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bhk.sam.architecture import VitEncoder
from bhk.sam.variants import Family


@dataclass(frozen=True)
class Part:
    """A part of a model.

    Attributes:
        title: what it is.
        pattern: found in the names of its tensors, in every layout that has it.
        finer_db: by how many dB the signal-to-noise ratio of its tensors is above the model's.
    """

    title: str
    pattern: re.Pattern[str]
    finer_db: float


def _part(title: str, pattern: str, finer_db: float) -> Part:
    return Part(title, re.compile(pattern), finer_db)


_ENCODERS = ("image_encoder", "vision_encoder", "ImageEncoder")
_HYPERNETWORK = r"\b(output_hypernetworks_mlps\.\d+|hf_mlp|hq_mask_mlp)"

# A tensor belongs to the first part whose pattern is found in its name. Nothing was measured of what the demo SAM lacks:
# convolutions in the blocks of small image encoders, memory, object scores, the high-quality branch.
_ENCODER = (
    _part("encoder: position embedding", r"^(\w+\.)?pos_embed$", -12),  # not Hiera's, stretched over many positions
    _part("encoder: patch embedding", r"(^|\.)patch_embed\.", 3),
    _part("encoder: relative positions", r"\.rel_pos_[hw]$", 6),
    _part("encoder: attention", r"\.attn\.(qkv|proj)\.weight$", -7),
    _part("encoder: MLP, first layer", r"\.mlp\.(lin1|fc1|layers\.0|proj_in)\.weight$", -9),
    _part("encoder: MLP, second layer", r"\.mlp\.(lin2|fc2|layers\.1|proj_out)\.weight$", -13),
    _part("encoder: other weights of blocks", r"(^|\.)(blocks|layers|features)\..*\.weight$", -9),
    _part("encoder: neck", r"(^|\.)neck\.", -1),
    _part("encoder: other", r"", 3),
)
_DECODER = (
    _part("decoder: self-attention", r"\btransformer\.layers\.\d+\.self_attn\.", 2),
    _part("decoder: attention, tokens to image", r"\.(cross|final)_attn_token_to_image\.", 2),
    _part("decoder: attention, image to tokens", r"\.cross_attn_image_to_token\.", 11),
    _part("decoder: MLP", r"\btransformer\.layers\.\d+\.mlp\.", -7),
    _part("decoder: upscaling", r"\b(output_upscaling|upscale_conv\d|final_output_upscaling_layers)\.", 14),
    _part("decoder: hypernetworks, last layer", rf"{_HYPERNETWORK}\.(layers\.2|fc|proj_out)\.", 10),
    _part("decoder: hypernetworks", rf"{_HYPERNETWORK}\.", -6),
    _part("decoder: IoU head", r"\biou_prediction_head\.", 0),
    _part("other", r"", 3),
)
PARTS = (*_ENCODER, *_DECODER)


def part_of(family: Family, name: str) -> Part:
    """Return the part of a model that tensor `name`, without the prefix of a wrapper, belongs to."""
    in_encoder = family.type is VitEncoder or name.partition(".")[0] in _ENCODERS
    return next(part for part in (_ENCODER if in_encoder else _DECODER) if part.pattern.search(name))


def finer_db(family: Family, name: str) -> float:
    """Return by how many dB the signal-to-noise ratio of tensor `name` (without the prefix) is above the model's."""
    return part_of(family, name).finer_db
