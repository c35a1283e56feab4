"""How finely each part of a Segment Anything model is coded if nothing is measured on the model itself: the shipped table.

An error in a weight matters as much as it moves the masks. Let kappa be the expected squared change of the outputs per weight
and unit of squared error. For a given file size the total change is smallest if step^2 is proportional to 1 / kappa (reverse
water-filling), so a part should be finer than the model by 10 log10 kappa decibels plus a constant.

`tools/bench/allocation.py` measures kappa on the demo SAM, and also how much the masks change when only one part is coded. The
two results differ slightly; the table, in whole decibels, lies between them. Compared with two offsets (one for the encoder's
blocks, one for the rest) it makes files of the demo SAM 5 % smaller at equal masks, and 8 % smaller for another SAM that it
was not made for. The depth of a block is ignored: making the first MLPs 6 dB finer than the last would save another 0.7 %.
The constant is chosen so that preset `balanced` keeps the demo's masks as close to the original's as preset `birkhoff` does.
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
        title: what people call it.
        pattern: found in the names of its tensors, in every layout that has the part.
        finer_db: how many dB the level of its tensors is above the model's (see `bhk.conversion.steps`).
    """

    title: str
    pattern: re.Pattern[str]
    finer_db: float


def _part(title: str, pattern: str, finer_db: float) -> Part:
    return Part(title, re.compile(pattern), finer_db)


_ENCODERS = ("image_encoder", "vision_encoder", "ImageEncoder")
_HYPERNETWORK = r"\b(output_hypernetworks_mlps\.\d+|hf_mlp|hq_mask_mlp)"

# A tensor belongs to the first part whose pattern is found in its name. Parts that the demo SAM lacks were not measured:
# convolutions in the blocks of small image encoders, memory, object scores, the high-quality branch.
_ENCODER = (
    _part(
        "encoder: position embedding", r"^(\w+\.)?pos_embed$", -12
    ),  # not Hiera's, which is stretched over many positions
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

# SAM 3 finds objects by a text: between the encoders of picture and text, which hold 95 % of the weights, and the masks
# stands a DETR; for points, boxes and clips, the decoder and the memory of SAM 2. Names are those of Meta's package or of
# transformers, of a whole model or of a part that was saved alone.
#
# No trained weights of SAM 3 were at hand. The encoder of pictures, a transformer with windows as SAM's, and the decoder of
# SAM 2 have the offsets measured above. In a trained text encoder (all-MiniLM-L6-v2), kappa of attention and of both layers of
# the MLPs differs by 0.3 dB only, so the text encoder has nearly one offset. In a small SAM 3 with random weights of unit gain,
# kappa of its text encoder is 5 dB above that of its picture encoder, and kappa of its DETR 2 to 5 dB below that of its text
# encoder in attention, and lower in MLPs. The DETR is finer than that asks for: it holds 3 % of the weights.
_TEXT, _TRUNK = r"\b(text_encoder|language_backbone)\.", r"\b(vision_encoder\.backbone|vision_backbone\.trunk)\."
_DETR = (
    r"(\bdetr_(en|de)coder\.layers|\bgeometry_encoder\.(layers|encode)"
    r"|(^|\bdetector\.)transformer\.(en|de)coder\.layers)\.\d+\."
)
SAM3_PARTS = (
    _part("text: vocabulary", rf"{_TEXT}.*\btoken_embedding\.", 0),
    _part("text: attention", rf"{_TEXT}.*\.(self_attn|attn)\.", -8),
    _part("text: MLP", rf"{_TEXT}.*\.(mlp|pre_mixer|post_mixer)\.", -9),
    _part("text: other", _TEXT, 0),
    _part("encoder: position embedding", rf"{_TRUNK}.*\bpos(ition)?_embed(dings)?$", 0),
    _part("encoder: patch embedding", rf"{_TRUNK}.*\bpatch_embed(dings)?\.", 3),
    _part("encoder: attention", rf"{_TRUNK}.*\.(attn|attention)\.", -7),
    _part("encoder: MLP, first layer", rf"{_TRUNK}.*\.mlp\.fc1\.", -9),
    _part("encoder: MLP, second layer", rf"{_TRUNK}.*\.mlp\.fc2\.", -13),
    _part("encoder: other", _TRUNK, 3),
    _part(
        "encoder: neck", r"(^|\.)(neck|tracker_neck)\.|\bvision_backbone\.(sam2_|interactive_|propagation_)?convs\.", -1
    ),
    _part("DETR: attention", rf"{_DETR}\w*(attn|ca_text)\w*\.", -2),
    _part("DETR: MLP", rf"{_DETR}(mlp\.fc|linear)\d\.", -4),
    *_DECODER,
)


def part_of(family: Family, name: str) -> Part:
    """Return the part of a model to which tensor `name` belongs. The name has no prefix of a wrapper."""
    parts: tuple[Part, ...] = SAM3_PARTS
    if "sam3" not in family.name:
        in_encoder = family.type is VitEncoder or name.partition(".")[0] in _ENCODERS
        parts = _ENCODER if in_encoder else _DECODER
    return next(part for part in parts if part.pattern.search(name))


def finer_db(family: Family, name: str) -> float:
    """Return how many dB the level of tensor `name`, without a prefix, is above the model's."""
    return part_of(family, name).finer_db
