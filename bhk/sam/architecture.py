"""Reading the sizes of a model, the arguments of its constructor, off the shapes in its state dict.

Each architecture is a struct. It is read from shapes, written to a file's header as the model's arguments, and checked when
it is read back, because the sizes in a file cannot be trusted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 14)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 8)]
Index = Annotated[int, msgspec.Meta(ge=0, lt=1 << 8)]
Sizes = Annotated[tuple[Size, ...], msgspec.Meta(max_length=1 << 8)]
Counts = Annotated[tuple[Count, ...], msgspec.Meta(max_length=1 << 8)]
Indexes = Annotated[tuple[Index, ...], msgspec.Meta(max_length=1 << 8)]


class UnreadableShapesError(Exception):
    """Shapes do not fit the architecture; `bhk.sam.recognise` catches this."""


class Shapes:
    """The shapes of a state dict.

    Attributes:
        by_name: tensor name -> shape.
    """

    def __init__(self, by_name: Mapping[str, tuple[int, ...]]) -> None:
        self.by_name = by_name

    def size(self, name: str, dim: int = 0) -> int:
        """Return one dimension of a tensor."""
        shape = self.by_name.get(name, ())
        if dim >= len(shape) or shape[dim] < 1:
            raise UnreadableShapesError(name)
        return shape[dim]

    def count(self, module: str) -> int:
        """Return the number of numbered children of `module`: one more than the highest number."""
        numbered = re.compile(re.escape(module) + r"\.(\d{1,4})\.")
        return 1 + max((int(found[1]) for name in self.by_name if (found := numbered.match(name))), default=-1)

    def has(self, start: str) -> bool:
        """Return whether the name of any tensor starts with `start`."""
        return any(name.startswith(start) for name in self.by_name)


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base class of all architectures."""


class Published(Architecture, frozen=True):
    """A model that is only built as it was published: the name of a variant, which all names and shapes together tell."""

    name: str


class Configured(Architecture, frozen=True):
    """A model that a configuration describes: `config` holds its settings (see `bhk.sam.configuration`)."""

    config: dict[str, Any]


class VitEncoder(Architecture, frozen=True):
    """SAM's image encoder, a plain vision transformer, with all sizes that `segment_anything`'s class takes.

    Sizes are in pixels, patches or channels and named as there. The output has `prompt_embed_dim` channels.
    """

    embed_dim: Size
    depth: Count
    num_heads: Size
    global_attn_indexes: Indexes
    image_size: Size = 1024
    patch_size: Size = 16
    window_size: Size = 14
    mlp_ratio: Annotated[float, msgspec.Meta(gt=0, le=64)] = 4.0
    prompt_embed_dim: Size = 256


class VitSam(VitEncoder, frozen=True):
    """SAM or SAM-HQ with a plain vision transformer.

    Shapes do not tell the number of heads of the mask decoder; it is 8 in every published model.
    """

    mask_in_chans: Size = 16
    decoder_depth: Count = 2
    decoder_mlp_dim: Size = 2048
    attention_downsample_rate: Size = 2
    num_multimask_outputs: Count = 3
    iou_head_depth: Count = 3
    iou_head_hidden_dim: Size = 256


class TinyVitSam(Architecture, frozen=True):
    """SAM with a TinyViT: channels and blocks of its four stages."""

    embed_dims: Sizes = (64, 128, 160, 320)
    depths: Counts = (2, 2, 6, 2)


class RepVitSam(Architecture, frozen=True):
    """EdgeSAM: channels of the RepViT's stem, number of its blocks, and whether it has a head for region proposals."""

    width: Size = 48
    blocks: Count = 27
    proposals: bool = False


class EfficientSam(Architecture, frozen=True):
    """EfficientSAM: channels and blocks of its vision transformer, whose heads have 64 channels."""

    embed_dim: Size
    depth: Count = 12


class Sam3(Architecture, frozen=True):
    """SAM 3 with detector and tracker, which has one size; the tracker of release 3.1 follows many objects at once."""

    release: Literal["3", "3.1"] = "3"


class Sam3Image(Architecture, frozen=True):
    """SAM 3's class for pictures, which has one size: the detector, and the tracker as its predictor, if it is there."""

    tracker: bool


class PromptGuidedDecoder(Architecture, frozen=True):
    """MobileSAMv2 without its image encoder, which is published in another file."""

    prompt_embed_dim: Size = 256


class Hiera(Architecture, frozen=True):
    """SAM 2's image encoder: channels of the first stage, and blocks of each stage."""

    embed_dim: Size
    stages: Counts


class Sam2(Hiera, frozen=True):
    """SAM 2. Release 2.1 has three more tensors: positions of object pointers, and an embedding for missing objects."""

    release: Literal["2", "2.1"]


@dataclass(frozen=True)
class _EncoderNames:
    """Names, in one layout, of the tensors that tell the sizes of an image encoder."""

    positions: str
    blocks: str
    patches: str
    neck: str


@dataclass(frozen=True)
class _DecoderNames:
    """Names, in one layout, of the tensors that tell the sizes of prompt encoder and mask decoder, where layouts differ.

    Attributes:
        iou_layers_aside: number of layers of the head for mask quality that are not numbered.
    """

    mask: str
    iou_first: str
    iou_layers_aside: int


def _original_encoder(before: str) -> _EncoderNames:
    return _EncoderNames(
        f"{before}pos_embed", f"{before}blocks", f"{before}patch_embed.proj.weight", f"{before}neck.0.weight"
    )


_ORIGINAL = _DecoderNames(
    "prompt_encoder.mask_downscaling.3.weight", "mask_decoder.iou_prediction_head.layers.0.weight", 0
)
_TRANSFORMERS_ENCODER = _EncoderNames(
    "vision_encoder.pos_embed",
    "vision_encoder.layers",
    "vision_encoder.patch_embed.projection.weight",
    "vision_encoder.neck.conv1.weight",
)
_TRANSFORMERS = _DecoderNames(
    "prompt_encoder.mask_embed.conv2.weight", "mask_decoder.iou_prediction_head.proj_in.weight", 2
)


def read_vit_encoder(shapes: Shapes) -> VitEncoder:
    """Read the sizes of an image encoder whose names have no prefix."""
    return _read_encoder(shapes, _original_encoder(""))


def read_vit_sam(shapes: Shapes) -> VitSam:
    """Read the sizes of a SAM or SAM-HQ in the original layout."""
    return _read_vit_sam(shapes, _original_encoder("image_encoder."), _ORIGINAL)


def read_transformers_sam(shapes: Shapes) -> VitSam:
    """Read the sizes of a `SamModel` or `SamHQModel` of transformers."""
    return _read_vit_sam(shapes, _TRANSFORMERS_ENCODER, _TRANSFORMERS)


def _read_encoder(shapes: Shapes, names: _EncoderNames) -> VitEncoder:
    embed_dim, patch_size = shapes.size(names.patches), shapes.size(names.patches, 2)
    grid, depth = shapes.size(names.positions, 1), shapes.count(names.blocks)
    reach = [shapes.size(f"{names.blocks}.{block}.attn.rel_pos_h") for block in range(depth)]  # 2 × window - 1
    local = [length for length in reach if length != 2 * grid - 1]
    return VitEncoder(
        embed_dim=embed_dim,
        depth=depth,
        num_heads=embed_dim // shapes.size(f"{names.blocks}.0.attn.rel_pos_h", 1),
        global_attn_indexes=tuple(block for block in range(depth) if reach[block] == 2 * grid - 1),
        image_size=grid * patch_size,
        patch_size=patch_size,
        window_size=(local[0] + 1) // 2 if local else grid,
        mlp_ratio=shapes.size(f"{names.blocks}.0.mlp.lin1.weight") / embed_dim,
        prompt_embed_dim=shapes.size(names.neck),
    )


def _read_vit_sam(shapes: Shapes, encoder_names: _EncoderNames, names: _DecoderNames) -> VitSam:
    encoder = _read_encoder(shapes, encoder_names)
    layers = "mask_decoder.transformer.layers"
    attended = shapes.size(f"{layers}.0.cross_attn_token_to_image.q_proj.weight")
    return VitSam(
        **msgspec.structs.asdict(encoder),
        mask_in_chans=shapes.size(names.mask),
        decoder_depth=shapes.count(layers),
        decoder_mlp_dim=shapes.size(f"{layers}.0.mlp.lin1.weight"),
        attention_downsample_rate=encoder.prompt_embed_dim // attended,
        num_multimask_outputs=shapes.size("mask_decoder.mask_tokens.weight") - 1,
        iou_head_depth=shapes.count("mask_decoder.iou_prediction_head.layers") + names.iou_layers_aside,
        iou_head_hidden_dim=shapes.size(names.iou_first),
    )


def read_tiny_vit_sam(shapes: Shapes) -> TinyVitSam:
    """Read the sizes of MobileSAM, TinySAM or SAM-HQ Tiny."""
    stages = [f"image_encoder.layers.{stage}" for stage in range(shapes.count("image_encoder.layers"))]
    widths = [shapes.size(f"{stages[0]}.blocks.0.conv3.c.weight")] if stages else []
    widths += [shapes.size(f"{stage}.blocks.0.attn.norm.weight") for stage in stages[1:]]
    return TinyVitSam(tuple(widths), tuple(shapes.count(f"{stage}.blocks") for stage in stages))


def read_rep_vit_sam(shapes: Shapes) -> RepVitSam:
    """Read the sizes of EdgeSAM."""
    width = shapes.size("image_encoder.features.0.2.c.weight")
    return RepVitSam(width, shapes.count("image_encoder.features"), shapes.has("rpn_head."))


def read_efficient_sam(shapes: Shapes) -> EfficientSam:
    """Read the sizes of EfficientSAM."""
    return EfficientSam(shapes.size("image_encoder.patch_embed.proj.weight"), shapes.count("image_encoder.blocks"))


def read_prompt_guided_decoder(shapes: Shapes) -> PromptGuidedDecoder:
    """Read the size of MobileSAMv2's prompt encoder and mask decoder."""
    return PromptGuidedDecoder(shapes.size("MaskDecoder.mask_tokens.weight", 1))


def read_sam3(shapes: Shapes) -> Sam3:
    """Read the release of a SAM 3 in the original layout."""
    shapes.size("detector.backbone.vision_backbone.trunk.blocks.31.attn.qkv.weight")
    return Sam3("3.1" if shapes.has("tracker.model.") else "3")


def read_sam3_image(shapes: Shapes) -> Sam3Image:
    """Read whether a SAM 3 for pictures has the tracker."""
    return Sam3Image(shapes.has("inst_interactive_predictor."))


def read_sam2(shapes: Shapes) -> Sam2:
    """Read the sizes and the release of a SAM 2 in the original layout."""
    trunk = _read_hiera(shapes, "image_encoder.trunk", "patch_embed.proj.weight")
    return Sam2(trunk.embed_dim, trunk.stages, "2.1" if shapes.has("obj_ptr_tpos_proj.") else "2")


def _read_hiera(shapes: Shapes, trunk: str, patches: str) -> Hiera:
    """Read a trunk. Each stage except the first starts with a block that projects to more channels."""
    depth = shapes.count(f"{trunk}.blocks")
    starts = [block for block in range(depth) if f"{trunk}.blocks.{block}.proj.weight" in shapes.by_name]
    ends = [*starts, depth]
    return Hiera(shapes.size(f"{trunk}.{patches}"), tuple(b - a for a, b in zip([0, *starts], ends, strict=True)))
