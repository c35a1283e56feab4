from __future__ import annotations

import json

import pytest

from bhk.sam.architecture import Published, VitSam
from bhk.sam.configuration import Configuration
from bhk.sam.recognise import Recognised, recognise
from bhk.sam.variants import VARIANTS, title_of
from sam.state_dicts import NAMES, shapes_of

# These have the same names and shapes as another variant.
_TWINS = {"tinysam": "mobile_sam"}


@pytest.mark.parametrize("prefix", ["", "sam.", "model."])
@pytest.mark.parametrize("name", NAMES)
def test_published_checkpoints_are_recognised_behind_any_known_prefix(name: str, prefix: str) -> None:
    found = recognise({prefix + key: shape for key, shape in shapes_of(name).items()})
    assert found is not None
    assert found.variant is not None
    assert found.variant.name == _TWINS.get(name, name)
    assert found.family.name == found.variant.family
    assert found.prefix == prefix


def _only(*names: str) -> Recognised:
    found = recognise(dict.fromkeys(names, (1,)))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["vision_encoder.layers.0.w", "prompt_encoder.point_embed.0.weight", "mask_decoder.w"], "transformers_sam"),
        (["vision_encoder.layers.0.w", "mask_decoder.hq_token.weight"], "transformers_sam_hq"),
        (["vision_encoder.backbone.blocks.0.x.weight", "mask_decoder.w", "memory_encoder.w"], "transformers_sam2"),
        (
            ["PromtEncoder.no_mask_embed.weight", "MaskDecoder.iou_token.weight"],
            "mobile_sam_v2",
        ),  # spelling included
        (["image_encoder.trunk.blocks.1.norm1.weight", "sam_mask_decoder.iou_token.weight"], "sam2"),
    ],
)
def test_parts_and_other_layouts_are_recognised_by_their_names(names: list[str], family: str) -> None:
    found = _only(*names)
    assert (found.family.name, found.prefix) == (family, "")


def test_a_mask_decoder_is_coded_more_finely_than_an_image_encoder() -> None:
    encoder, decoder = "vision_encoder.layers.0.mlp.lin1.weight", "mask_decoder.upscale_conv1.weight"
    found = _only(encoder, decoder)
    assert found.finer_db(encoder) < 0 < found.finer_db(decoder)


def test_a_part_of_a_model_has_a_family_but_nothing_to_build() -> None:
    entry = _only("mask_decoder.iou_token.weight").entry
    assert (entry.family, entry.variant, entry.arguments) == ("sam", None, {})


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["weight"],
        ["embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight", "pooler.dense.weight"],
        # A part of an image encoder, names that only contain the words, and prefixes that not every name has.
        ["image_encoder.pos_embed", "image_encoder.neck.0.weight"],
        ["pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "norm.weight", "head.weight"],  # timm's
        ["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"],
        ["head.mask_decoder.weight", "my_mask_decoder.weight", "mask_decoders.0.weight"],
        ["sam.mask_decoder.weight", "other.weight"],
        ["other.mask_decoder.weight", "other.image_encoder.weight"],
    ],
)
def test_other_checkpoints_are_not_recognised(names: list[str]) -> None:
    assert recognise(dict.fromkeys(names, (1,))) is None


def test_arguments_follow_from_the_shapes() -> None:
    shapes = shapes_of("sam_vit_b")
    found = recognise(shapes)
    assert found is not None
    assert found.architecture == VitSam(768, 12, 12, (2, 5, 8, 11))
    assert found.entry.arguments == json.loads(json.dumps(found.entry.arguments))
    assert found.entry.arguments["global_attn_indexes"] == [2, 5, 8, 11]


def test_a_size_that_was_never_published_is_read_too() -> None:
    shapes = {name: shape for name, shape in shapes_of("sam_vit_b").items() if ".blocks.7." not in name}
    shapes["image_encoder.pos_embed"] = (1, 16, 16, 768)
    for block in (2, 5, 8, 11):
        for axis in "hw":
            shapes[f"image_encoder.blocks.{block}.attn.rel_pos_{axis}"] = (31, 64)
    del shapes["image_encoder.blocks.11.attn.rel_pos_h"]
    shapes.update({f"image_encoder.blocks.{i}.attn.rel_pos_h": (27, 64) for i in (7, 11)})
    found = recognise(shapes)
    assert found is not None
    assert found.variant is None
    assert found.architecture == VitSam(768, 12, 12, (2, 5, 8), image_size=256)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("image_encoder.pos_embed", ()),
        ("image_encoder.pos_embed", (1, 0, 0, 768)),
        ("image_encoder.pos_embed", (1, 1 << 20, 1 << 20, 768)),
        ("image_encoder.patch_embed.proj.weight", (1 << 30, 3, 16, 16)),
        ("image_encoder.blocks.0.attn.rel_pos_h", (27, 769)),
        ("image_encoder.blocks.9999.attn.rel_pos_h", (27, 64)),
        ("mask_decoder.mask_tokens.weight", (1, 256)),
    ],
)
def test_absurd_sizes_are_not_an_architecture(name: str, shape: tuple[int, ...]) -> None:
    found = recognise({**shapes_of("sam_vit_b"), name: shape})
    assert found is not None
    assert found.architecture is None


_RELATIVES = [name for name in NAMES if isinstance(VARIANTS[name].architecture, Published)]


@pytest.mark.parametrize("name", _RELATIVES)
def test_models_that_grew_from_others_are_not_taken_for_them(name: str) -> None:
    shapes = shapes_of(name)
    found = recognise(shapes, Configuration("its name", variant=name))
    assert found is not None
    assert title_of(found.entry) == VARIANTS[name].title
    assert found.fault is None
    more = recognise({**shapes, "mask_decoder.new.weight": (4, 4)})
    assert more is not None
    assert title_of(more.entry).startswith(f"based on {VARIANTS[name].title}")
    assert title_of(more.entry).endswith(", with 1 further tensor")
    altered = {**shapes, next(iter(shapes)): (1, 2, 3)}
    other = recognise(altered)
    assert other is not None
    assert other.fault is not None
