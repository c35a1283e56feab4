"""Building the module that a header describes, without weights, with the package that the model comes from."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
from torch import nn

from bhk.base.errors import BhkError, listed
from bhk.base.packages import MissingPackageError, import_package
from bhk.container.header import ModelEntry
from bhk.sam.architecture import Architecture, Configured, EfficientSam, Published, VitEncoder, VitSam
from bhk.sam.hugging_face import build_configured
from bhk.sam.lite_med_sam import LiteMedSam
from bhk.sam.original_sam3 import build_sam3, build_sam3_multiplex, build_sam3_video
from bhk.sam.packages import MOBILE_SAM_V2, SEGMENT_ANYTHING, SEGMENT_ANYTHING_HQ
from bhk.sam.tree import build_tree
from bhk.sam.variants import (
    CONFIG,
    FAMILIES,
    FURTHER,
    PREPARED_AS,
    WITHIN,
    Family,
    packages_of,
    prepares_of,
    title_of,
    variants_of,
)

DECODER_HEADS = 8  # of attention in the mask decoder, which no shape tells
# The parts besides the encoder in a model whose encoder is no VitEncoder: sizes of that do not matter.
_PARTS = VitSam(embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=())
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
    if video and not family.has_clips:
        able = [other.title for other in FAMILIES.values() if other.follows]
        raise UnknownModelError(
            f"{family.title} has no memory of earlier frames; for a clip, use one of {listed(able)}"
        )
    architecture = architecture_of(entry)
    packages = packages_of(entry)
    package = import_package(packages)
    try:
        model = _build(package, family, architecture, video=video).eval()
    except (ImportError, AttributeError) as error:
        other = f"update it, or {packages[0].install}"
        raise MissingPackageError(
            f"the installed version of {package.__name__} cannot build this model ({error}); {other}"
        ) from error
    except (AssertionError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        sizes = "settings" if isinstance(architecture, Configured) else f"sizes {entry.arguments}"
        raise UnknownModelError(f"{package.__name__} cannot build a model of the file's {sizes}: {error}") from error
    if prepares_of(entry):
        setattr(model, PREPARED_AS, entry.variant)
    return model


def _build(package: ModuleType, family: Family, architecture: Architecture, *, video: bool) -> nn.Module:
    if not isinstance(architecture, Configured):
        return (_VIDEO_BUILDERS if video else _BUILDERS)[family.name](package, architecture)
    if family.tree is not None:
        return build_tree(package, family.tree, architecture.config, video=video)
    return build_configured(package, family, architecture.config, video=video)


def _family(entry: ModelEntry) -> Family:
    if entry.family not in FAMILIES:
        known = ", ".join(family.title for family in FAMILIES.values())
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
    arguments = {name: value for name, value in entry.arguments.items() if name != WITHIN}
    if not arguments or FURTHER in arguments:
        what = title_of(entry) if FURTHER in arguments else f"not a whole {family.title}"
        raise UnknownModelError(
            f"the file's tensors are {what}, which bhk cannot build; load them into a module of your own with bhk.load_into"
        )
    try:
        known = Configured if CONFIG in arguments or family.tree is not None else family.type
        architecture = msgspec.convert(arguments, known)
    except msgspec.ValidationError as error:
        raise UnknownModelError(
            f"the file's model has arguments that no {family.title} has: {str(error)[:200]}"
        ) from None
    if not isinstance(architecture, Configured) and not family.any_size and not variants_of(family.name, architecture):
        raise UnknownModelError(
            f"the file holds {family.title} of unpublished sizes, {entry.arguments}; "
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
    decoder = _mask_decoder(parts, parts.MaskDecoder, _PARTS)
    return nn.ModuleDict({"PromtEncoder": _prompt_encoder(parts, _PARTS), "MaskDecoder": decoder})


def _build_efficient_sam(package: ModuleType, sizes: EfficientSam) -> nn.Module:
    """Build with the function behind `build_efficient_sam_vitt` and `..._vits`; those always read a checkpoint."""
    inner: Any = importlib.import_module(f"{package.__name__}.efficient_sam")
    model: nn.Module = inner.build_efficient_sam(
        encoder_patch_embed_dim=sizes.embed_dim, encoder_num_heads=sizes.embed_dim // 64
    )
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


def _build_robust_sam(package: Any, published: Published) -> nn.Module:
    size = published.name.removeprefix("robust_sam_")
    model: nn.Module = package.sam_model_registry[size](opt=None)
    return model


def _build_efficientvit_sam(package: ModuleType, published: Published) -> nn.Module:
    if package.__name__ == MOBILE_SAM_V2.name:
        return _build_mobile_sam_v2_efficientvit(package)
    models: Any = importlib.import_module(f"{package.__name__}.sam_model_zoo")
    model: nn.Module = models.create_efficientvit_sam_model(published.name.replace("_", "-"), pretrained=False)
    return model


def _build_mobile_sam_v2_efficientvit(package: ModuleType) -> nn.Module:
    """Build MobileSAMv2 with an EfficientViT-L2, for which its registry has only a function that reads a checkpoint."""
    builders: Any = importlib.import_module(f"{package.__name__}.build_sam")
    backbone = builders.EfficientViTLargeBackbone([32, 64, 128, 256, 512], [1, 2, 2, 8, 8])
    neck = builders.SamNeck(["stage4", "stage3", "stage2"], [512, 256, 128], 256, 12, 1, "fmbconv")
    encoder = builders.EfficientViTSamImageEncoder(backbone, neck)
    builders.set_norm_eps(encoder, 1e-6)
    decoder = _mask_decoder(builders, builders.MaskDecoder, _PARTS)
    model: nn.Module = builders.Sam(encoder, _prompt_encoder(builders, _PARTS), decoder, PIXEL_MEAN, PIXEL_STD)
    return model


def _build_lite_medsam(package: Any, _: Published) -> nn.Module:
    encoder = package.TinyViT(
        img_size=256,
        embed_dims=[64, 128, 160, 320],
        depths=[2, 2, 6, 2],
        num_heads=[2, 4, 5, 10],
        window_sizes=[7, 7, 14, 7],
        drop_path_rate=0.0,
    )
    parts: Any = importlib.import_module(f"{SEGMENT_ANYTHING.name}.modeling")
    sizes = msgspec.structs.replace(_PARTS, image_size=256, patch_size=4)
    return LiteMedSam(encoder, _prompt_encoder(parts, sizes), _mask_decoder(parts, parts.MaskDecoder, sizes))


def _build_sam_med2d(package: Any, _: Published) -> nn.Module:
    """Build with the `segment_anything` of its repository, which takes options in place of a checkpoint."""
    options = SimpleNamespace(image_size=256, sam_checkpoint=None, encoder_adapter=True)
    model: nn.Module = package.sam_model_registry["vit_b"](options)
    return model


_BUILDERS: dict[str, Callable[[ModuleType, Any], nn.Module]] = {
    "sam_encoder": _build_vit_encoder,
    "sam": partial(_build_vit_sam, hq=False),
    "sam_hq": partial(_build_vit_sam, hq=True),
    "sam_hq_tiny": partial(_build_registered, key="vit_tiny"),
    "mobile_sam": partial(_build_registered, key="vit_t"),
    "sam3": build_sam3,
    "sam3_image": build_sam3,
    "sam3_detector": build_sam3,
    "sam3_multiplex": build_sam3_multiplex,
    "mobile_sam_v2": _build_mobile_sam_v2,
    "edge_sam": partial(_build_registered, key="edge_sam"),
    "efficient_sam": _build_efficient_sam,
    "repvit_sam": partial(_build_registered, key="repvit"),
    "robust_sam": _build_robust_sam,
    "efficientvit_sam": _build_efficientvit_sam,
    "sam_med2d": _build_sam_med2d,
    "lite_medsam": _build_lite_medsam,
    "transformers_sam": partial(_build_transformers_sam, hq=False),
    "transformers_sam_hq": partial(_build_transformers_sam, hq=True),
}
_VIDEO_BUILDERS: dict[str, Callable[[ModuleType, Any], nn.Module]] = {"sam3": build_sam3_video}
