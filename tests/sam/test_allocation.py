from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping

import pytest
from torch import nn

from bhk.conversion.selection import MIN_NUMEL
from bhk.sam.allocation import PARTS, finer_db, part_of
from bhk.sam.architecture import Published
from bhk.sam.recognise import recognise
from bhk.sam.variants import FAMILIES, VARIANTS, Family
from sam.models import small_hf_sam, small_hf_sam2, small_hf_sam_hq, small_sam, small_sam2, small_sam_hq
from sam.state_dicts import NAMES, shapes_of

_OTHERS_OF = (
    "sam_encoder",
    "mobile_sam_v2",
    *(name for name, other in VARIANTS.items() if isinstance(other.architecture, Published)),
)
_WHOLE = [name for name in NAMES if name not in _OTHERS_OF]
_DECODER_LAYERS, _HYPERNETWORKS = 2, 4
# Tensors that SAM does not have, and those of other image encoders.
_OTHERS = re.compile(
    r"(image_encoder\.(fuse_stage|head)"
    r"|image_encoder\.trunk\.pos_embed(_window)?$"
    r"|(sam_)?prompt_encoder\.|memory_|maskmem_|obj_ptr_|no_mem_|no_obj_|mask_downsample\."
    r"|(sam_)?mask_decoder\.(mask_tokens|hf_token|conv_s\d|pred_obj_score_head|obj_score_token"
    r"|compress_vit_feat|embedding_encoder|embedding_maskfeature))"
)


def _codable(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the number of weights of each tensor that can be coded."""
    return {
        name: math.prod(shape) for name, shape in shapes.items() if len(shape) > 1 and math.prod(shape) >= MIN_NUMEL
    }


def _family(shapes: Mapping[str, tuple[int, ...]]) -> Family:
    found = recognise(shapes)
    assert found is not None
    return found.family


def _counts(shapes: Mapping[str, tuple[int, ...]]) -> Counter[str]:
    family = _family(shapes)
    return Counter(part_of(family, name).title for name, shape in shapes.items() if len(shape) > 1)


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("variant", [name for name in _WHOLE if "sam3" not in name])
def test_every_variant_has_the_parts_of_a_sam(variant: str) -> None:
    shapes = shapes_of(variant)
    counts = _counts(shapes)
    blocks = counts["encoder: MLP, first layer"]
    assert (blocks == 0) == variant.startswith("edge_sam")
    assert counts["encoder: MLP, second layer"] == blocks
    assert counts["encoder: attention"] == 2 * blocks
    assert counts["decoder: self-attention"] == 4 * _DECODER_LAYERS
    assert counts["decoder: attention, image to tokens"] == 4 * _DECODER_LAYERS
    assert counts["decoder: attention, tokens to image"] == 4 * (_DECODER_LAYERS + 1)
    assert counts["decoder: MLP"] == 2 * _DECODER_LAYERS
    assert counts["decoder: upscaling"] == 2
    high_quality = variant.startswith("sam_hq")
    assert counts["decoder: hypernetworks, last layer"] == _HYPERNETWORKS + high_quality
    assert counts["decoder: hypernetworks"] == 2 * (_HYPERNETWORKS + high_quality)
    assert counts["encoder: neck"] in (2, 4)


@pytest.mark.parametrize("variant", [name for name in _WHOLE if "sam3" not in name])
def test_nothing_else_is_left_over(variant: str) -> None:
    shapes = shapes_of(variant)
    family = _family(shapes)
    others = [name for name in _codable(shapes) if part_of(family, name).title in ("encoder: other", "other")]
    assert [name for name in others if not _OTHERS.match(name)] == []


@pytest.mark.parametrize("variant", _WHOLE)
def test_most_weights_of_every_variant_are_coarser_than_the_model(variant: str) -> None:
    shapes = shapes_of(variant)
    family, sizes = _family(shapes), _codable(shapes)
    mean = sum(size * finer_db(family, name) for name, size in sizes.items()) / sum(sizes.values())
    assert -12 < mean < -4


@pytest.mark.parametrize(
    ("original", "transformers"),
    [(small_sam, small_hf_sam), (small_sam_hq, small_hf_sam_hq), (small_sam2, small_hf_sam2)],
    ids=["sam", "sam_hq", "sam2"],
)
def test_transformers_has_the_same_parts_by_other_names(
    original: Callable[[], nn.Module], transformers: Callable[[], nn.Module]
) -> None:
    ours, theirs = _counts(_shapes(original())), _counts(_shapes(transformers()))
    del ours["other"], theirs["other"]  # with the memory of SAM 2, and one embedding of positions twice
    assert ours == theirs


@pytest.mark.parametrize(
    ("family", "name", "title"),
    [
        ("sam_encoder", "blocks.31.mlp.lin2.weight", "encoder: MLP, second layer"),
        ("sam_encoder", "neck.2.weight", "encoder: neck"),
        ("mobile_sam_v2", "MaskDecoder.transformer.layers.1.mlp.lin2.weight", "decoder: MLP"),
        ("mobile_sam_v2", "ImageEncoder.pos_embed", "encoder: position embedding"),
        ("mobile_sam_v2", "PromtEncoder.mask_downscaling.6.weight", "other"),
        ("sam2", "image_encoder.trunk.pos_embed", "encoder: other"),
        ("sam2", "image_encoder.trunk.blocks.1.proj.weight", "encoder: other weights of blocks"),
        ("sam2", "memory_attention.layers.0.self_attn.q_proj.weight", "other"),
        ("edge_sam", "image_encoder.features.3.channel_mixer.m.0.c.weight", "encoder: other weights of blocks"),
        ("efficient_sam", "mask_decoder.output_hypernetworks_mlps.2.fc.weight", "decoder: hypernetworks, last layer"),
    ],
)
def test_names_of_every_layout(family: str, name: str, title: str) -> None:
    assert part_of(FAMILIES[family], name).title == title


def test_titles_are_different() -> None:
    assert len({part.title for part in PARTS}) == len(PARTS)
