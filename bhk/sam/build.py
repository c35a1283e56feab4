"""Building the module that a header describes, without weights, with the package that the model comes from."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import msgspec
from torch import nn

from bhk.base.errors import BhkError, listed
from bhk.base.packages import MissingPackageError, import_package
from bhk.container.header import ModelEntry
from bhk.sam.architecture import Architecture, EfficientSam, Hiera, Sam2, VitEncoder, VitSam
from bhk.sam.packages import SEGMENT_ANYTHING, SEGMENT_ANYTHING_HQ
from bhk.sam.variants import FAMILIES, Family, find_variant

DECODER_HEADS = 8  # of attention in the mask decoder, which no shape tells
PIXEL_MEAN, PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


class UnknownModelError(BhkError):
    """A file does not say which model it holds, or bhk cannot build that model."""


def build_model(entry: ModelEntry, *, video: bool = False) -> nn.Module:
    """Build the module that a header's model entry describes, in eval mode; its tensors have the names in the file.

    With `video`, it is the package's class for videos. Build it within `bhk.nn.weights_on_meta` to have no weights instead of
    initialised ones.

    Raises:
        UnknownModelError: there is no such family, nothing builds these sizes, or the model is not for videos.
        MissingPackageError: the model's package is missing; the message says how to install it.
    """
    family = _family(entry)
    builders = _VIDEO_BUILDERS if video else _BUILDERS
    if family.name not in builders:
        raise UnknownModelError(
            f"a model of {family.name} has no memory of earlier frames; for a clip, use one of {listed(_VIDEO_BUILDERS)}"
        )
    architecture = architecture_of(entry)
    package = import_package(family.packages)
    try:
        return builders[family.name](package, architecture).eval()
    except (ImportError, AttributeError) as error:
        raise MissingPackageError(
            f"the installed version of {package.__name__} cannot build this model ({error}); update it"
        ) from error
    except (AssertionError, ArithmeticError, RuntimeError, ValueError) as error:
        raise UnknownModelError(
            f"{package.__name__} cannot build a model of the file's sizes {entry.arguments}: {error}"
        ) from error


def _family(entry: ModelEntry) -> Family:
    if entry.family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UnknownModelError(
            f"the file holds a model of family {entry.family[:80]!r}, but this version of bhk builds {known}; update bhk"
        )
    return FAMILIES[entry.family]


def architecture_of(entry: ModelEntry) -> Architecture:
    """Return the architecture of an entry, after checking its sizes.

    Raises:
        UnknownModelError: there is no such family, the sizes are missing or out of bounds, or nothing builds them.
    """
    family = _family(entry)
    if not entry.arguments:
        raise UnknownModelError(
            f"the file's tensors do not make up a whole {family.name} model that bhk can build; "
            "load them into a module of your own with bhk.load_into"
        )
    try:
        architecture = msgspec.convert(entry.arguments, family.type)
    except msgspec.ValidationError as error:
        raise UnknownModelError(
            f"the file's model has arguments that no {family.name} model has: {str(error)[:200]}"
        ) from None
    if not family.any_size and find_variant(family.name, architecture) is None:
        raise UnknownModelError(
            f"the file holds a {family.name} model of unpublished sizes, {entry.arguments}; "
            "build the module yourself and load it with bhk.load_into"
        )
    return architecture


def _build_vit_encoder(package: ModuleType, sizes: VitEncoder) -> nn.Module:
    parts: Any = importlib.import_module(f"{package.__name__}.modeling")
    encoder: nn.Module = parts.ImageEncoderViT(
        img_size=sizes.image_size,
        patch_size=sizes.patch_size,
        embed_dim=sizes.embed_dim,
        depth=sizes.depth,
        num_heads=sizes.num_heads,
        mlp_ratio=sizes.mlp_ratio,
        out_chans=sizes.prompt_embed_dim,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=sizes.window_size,
        global_attn_indexes=sizes.global_attn_indexes,
    )
    return encoder


def _build_vit_sam(package: ModuleType, sizes: VitSam, *, hq: bool) -> nn.Module:
    """Build with the classes of `segment_anything`, or of `segment_anything_hq` if `hq`."""
    parts: Any = importlib.import_module(f"{package.__name__}.modeling")
    decoder = partial(parts.MaskDecoderHQ, vit_dim=sizes.embed_dim) if hq else parts.MaskDecoder
    model: nn.Module = parts.Sam(
        _build_vit_encoder(package, sizes),
        _prompt_encoder(parts, sizes),
        _mask_decoder(parts, decoder, sizes),
        PIXEL_MEAN,
        PIXEL_STD,
    )
    return model


def _prompt_encoder(parts: Any, sizes: VitSam) -> nn.Module:
    grid = sizes.image_size // sizes.patch_size
    encoder: nn.Module = parts.PromptEncoder(
        embed_dim=sizes.prompt_embed_dim,
        image_embedding_size=(grid, grid),
        input_image_size=(sizes.image_size, sizes.image_size),
        mask_in_chans=sizes.mask_in_chans,
    )
    return encoder


def _mask_decoder(parts: Any, build: Callable[..., nn.Module], sizes: VitSam) -> nn.Module:
    transformer = parts.TwoWayTransformer(
        depth=sizes.decoder_depth,
        embedding_dim=sizes.prompt_embed_dim,
        num_heads=DECODER_HEADS,
        mlp_dim=sizes.decoder_mlp_dim,
        attention_downsample_rate=sizes.attention_downsample_rate,
    )
    return build(
        transformer_dim=sizes.prompt_embed_dim,
        transformer=transformer,
        num_multimask_outputs=sizes.num_multimask_outputs,
        iou_head_depth=sizes.iou_head_depth,
        iou_head_hidden_dim=sizes.iou_head_hidden_dim,
    )


def registered(package: Any, key: str) -> Callable[..., Any]:
    """Return the builder under `key` in a package's registry.

    `segment_anything_hq` has MobileSAM too, in the registry of the models that it is compared with.
    """
    if package.__name__ == SEGMENT_ANYTHING_HQ.name and key == "vit_t":
        builder: Callable[..., Any] = package.sam_model_registry_baseline["vit_tiny"]
    else:
        builder = package.sam_model_registry[key]
    return builder


def _build_registered(package: ModuleType, _: Architecture, *, key: str) -> nn.Module:
    model: nn.Module = registered(package, key)()
    return model


def _build_mobile_sam_v2(package: ModuleType, _: Architecture) -> nn.Module:
    """Build the two modules that one file of MobileSAMv2 holds, under its names; `segment_anything` has the same two."""
    if package.__name__ != SEGMENT_ANYTHING.name:
        return nn.ModuleDict(registered(package, "PromptGuidedDecoder")())
    parts: Any = importlib.import_module(f"{package.__name__}.modeling")
    sizes = VitSam(embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=())  # the encoder's sizes do not matter
    decoder = _mask_decoder(parts, parts.MaskDecoder, sizes)
    return nn.ModuleDict({"PromtEncoder": _prompt_encoder(parts, sizes), "MaskDecoder": decoder})


def _build_efficient_sam(package: ModuleType, sizes: EfficientSam) -> nn.Module:
    """Build with the function behind `build_efficient_sam_vitt` and `..._vits`; those always read a checkpoint."""
    inner: Any = importlib.import_module(f"{package.__name__}.efficient_sam")
    model: nn.Module = inner.build_efficient_sam(
        encoder_patch_embed_dim=sizes.embed_dim, encoder_num_heads=sizes.embed_dim // 64
    )
    return model


@dataclass(frozen=True)
class _HieraSize:
    """The numbers of a published size of SAM 2's image encoder that shapes do not tell.

    Attributes:
        letter: the size's letters in the name of its configuration.
        num_heads: heads of the first stage; each further stage doubles them.
        global_blocks: blocks whose attention sees the whole image.
        windows: window size of the other blocks, for each stage.
        background: side of the position table that is stretched over the image.
    """

    letter: str
    num_heads: int
    global_blocks: tuple[int, ...]
    windows: tuple[int, ...]
    background: int


_HIERA_SIZES = {
    Hiera(96, (1, 2, 7, 2)): _HieraSize("t", 1, (5, 7, 9), (8, 4, 14, 7), 7),
    Hiera(96, (1, 2, 11, 2)): _HieraSize("s", 1, (7, 10, 13), (8, 4, 14, 7), 7),
    Hiera(112, (2, 3, 16, 3)): _HieraSize("b+", 2, (12, 16, 20), (8, 4, 14, 7), 14),
    Hiera(144, (2, 6, 36, 4)): _HieraSize("l", 2, (23, 33, 43), (8, 4, 16, 8), 7),
}


def sam2_config(sizes: Sam2) -> str:
    """Return the name of the configuration in the package `sam2`, as `build_sam2` takes it."""
    release = "sam2.1" if sizes.release == "2.1" else "sam2"
    return f"configs/{release}/{release}_hiera_{_hiera_size(sizes).letter}.yaml"


def _hiera_size(sizes: Hiera) -> _HieraSize:
    size = _HIERA_SIZES.get(Hiera(sizes.embed_dim, sizes.stages))
    if size is None:
        raise ValueError("expected the sizes of a published SAM 2")
    return size


def _build_sam2(package: ModuleType, sizes: Sam2, *, builder: str) -> nn.Module:
    builders: Any = importlib.import_module(f"{package.__name__}.build_sam")
    model: nn.Module = getattr(builders, builder)(sam2_config(sizes), device="cpu")
    return model


def _build_transformers_sam(package: Any, sizes: VitSam, *, hq: bool) -> nn.Module:
    """Build a `SamModel`, or a `SamHQModel` if `hq`."""
    config_type, model_type = (package.SamHQConfig, package.SamHQModel) if hq else (package.SamConfig, package.SamModel)
    image = {"image_size": sizes.image_size, "patch_size": sizes.patch_size}
    config = config_type(
        vision_config={
            **image,
            "hidden_size": sizes.embed_dim,
            "num_hidden_layers": sizes.depth,
            "num_attention_heads": sizes.num_heads,
            "output_channels": sizes.prompt_embed_dim,
            "num_pos_feats": sizes.prompt_embed_dim // 2,
            "mlp_dim": round(sizes.embed_dim * sizes.mlp_ratio),
            "window_size": sizes.window_size,
            "global_attn_indexes": list(sizes.global_attn_indexes),
        },
        prompt_encoder_config={
            **image,
            "hidden_size": sizes.prompt_embed_dim,
            "mask_input_channels": sizes.mask_in_chans,
        },
        mask_decoder_config={
            "hidden_size": sizes.prompt_embed_dim,
            "mlp_dim": sizes.decoder_mlp_dim,
            "num_hidden_layers": sizes.decoder_depth,
            "num_attention_heads": DECODER_HEADS,
            "attention_downsample_rate": sizes.attention_downsample_rate,
            "num_multimask_outputs": sizes.num_multimask_outputs,
            "iou_head_depth": sizes.iou_head_depth,
            "iou_head_hidden_dim": sizes.iou_head_hidden_dim,
            **({"vit_dim": sizes.embed_dim} if hq else {}),
        },
    )
    model: nn.Module = model_type(config)
    return model


def _build_transformers_sam2(package: Any, sizes: Hiera) -> nn.Module:
    size = _hiera_size(sizes)
    channels = [sizes.embed_dim << stage for stage in range(len(sizes.stages))]
    backbone = package.Sam2HieraDetConfig(
        hidden_size=sizes.embed_dim,
        num_attention_heads=size.num_heads,
        blocks_per_stage=list(sizes.stages),
        embed_dim_per_stage=channels,
        num_attention_heads_per_stage=[size.num_heads << stage for stage in range(len(sizes.stages))],
        window_size_per_stage=list(size.windows),
        global_attention_blocks=list(size.global_blocks),
        window_positional_embedding_background_size=[size.background, size.background],
    )
    vision = package.Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=channels[::-1])
    model: nn.Module = package.Sam2Model(package.Sam2Config(vision_config=vision))
    return model


_BUILDERS: dict[str, Callable[[ModuleType, Any], nn.Module]] = {
    "sam_encoder": _build_vit_encoder,
    "sam": partial(_build_vit_sam, hq=False),
    "sam_hq": partial(_build_vit_sam, hq=True),
    "sam_hq_tiny": partial(_build_registered, key="vit_tiny"),
    "mobile_sam": partial(_build_registered, key="vit_t"),
    "mobile_sam_v2": _build_mobile_sam_v2,
    "edge_sam": partial(_build_registered, key="edge_sam"),
    "efficient_sam": _build_efficient_sam,
    "sam2": partial(_build_sam2, builder="build_sam2"),
    "transformers_sam": partial(_build_transformers_sam, hq=False),
    "transformers_sam_hq": partial(_build_transformers_sam, hq=True),
    "transformers_sam2": _build_transformers_sam2,
}
_VIDEO_BUILDERS: dict[str, Callable[[ModuleType, Any], nn.Module]] = {
    "sam2": partial(_build_sam2, builder="build_sam2_video_predictor"),
}
