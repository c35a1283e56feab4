"""Models that grew from SAM 2, which have other classes at some places: HQ-SAM 2, EdgeTAM, EfficientTAM."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bhk.sam.sam2_models import SAM2_TREE, sam2_settings
from bhk.sam.tree import Settings

_CROSS = "memory_attention.layer.cross_attention"
_ROPE = "modeling.sam.transformer"

HQ_SAM2_TREE = replace(
    SAM2_TREE,
    classes={**SAM2_TREE.classes, "": ("modeling.sam2_hq_base.SAM2HQBase",)},
    video=None,  # its class for clips has other steps
)
EDGE_TAM_TREE = replace(
    SAM2_TREE,
    classes={
        **SAM2_TREE.classes,
        "image_encoder.trunk": ("modeling.backbones.timm.TimmBackbone",),
        _CROSS: (f"{_ROPE}.RoPEAttentionv2",),
        "spatial_perceiver": ("modeling.perceiver.PerceiverResampler",),
        "spatial_perceiver.position_encoding": SAM2_TREE.classes["memory_encoder.position_encoding"],
    },
    of_model=SAM2_TREE.of_model | {"spatial_perceiver"},
)
EFFICIENT_TAM_TREE = replace(
    SAM2_TREE,
    classes={
        **SAM2_TREE.classes,
        "": ("modeling.efficienttam_base.EfficientTAMBase",),
        "image_encoder.trunk": ("modeling.backbones.vitdet.ViT",),
        "image_encoder.neck": ("modeling.backbones.image_encoder.ViTDetNeck",),
        _CROSS: tuple(
            f"{_ROPE}.{name}" for name in ("RoPEAttention", "EfficientRoPEAttention1", "EfficientRoPEAttention2")
        ),
    },
    video="efficienttam_video_predictor.EfficientTAMVideoPredictor",
)


def hq_sam2_settings() -> Settings:
    """Return the settings of HQ-SAM 2."""
    return _with_sizes(sam2_settings("2.1", "large"), 32)


def edge_tam_settings() -> Settings:
    """Return the settings of EdgeTAM."""
    settings: dict[str, Any] = dict(sam2_settings("2", "tiny"))
    positions = settings["memory_encoder"]["position_encoding"]
    settings["image_encoder"]["trunk"] = {
        "name": "repvit_m1.dist_in1k",
        "features": ["layer0", "layer1", "layer2", "layer3"],
    }
    settings["image_encoder"]["neck"]["backbone_channel_list"] = [384, 192, 96, 48]
    attention = settings["memory_attention"]
    attention["num_layers"] = 2
    attention["layer"]["self_attention"]["feat_sizes"] = [32, 32]
    cross = attention["layer"]["cross_attention"]
    del cross["feat_sizes"], cross["rope_k_repeat"]
    cross |= {"q_sizes": [64, 64], "k_sizes": [16, 16]}
    settings["spatial_perceiver"] = {
        "depth": 2,
        "dim": 64,
        "dim_head": 64,
        "heads": 1,
        "ff_mult": 4,
        "hidden_dropout_p": 0.0,
        "attention_dropout_p": 0.0,
        "pos_enc_at_key_value": True,
        "concat_kv_latents": False,
        "num_latents": 256,
        "num_latents_2d": 256,
        "position_encoding": dict(positions),
        "use_self_attn": True,
    }
    return settings


def efficient_tam_settings(width: int, side: int = 1024, pooling: int = 0) -> Settings:
    """Return the settings of an EfficientTAM.

    Args:
        width: channels of its encoder.
        side: of its pictures in pixels.
        pooling: which of the two ways of attending to fewer memories it has; 0 for neither.
    """
    settings: dict[str, Any] = dict(sam2_settings("2", "tiny"))
    encoder = settings["image_encoder"]
    encoder["scalp"] = 0
    encoder["trunk"] = {
        "patch_size": 16,
        "embed_dim": width,
        "depth": 12,
        "num_heads": width // 64,
        "mlp_ratio": 4.0,
        "qkv_bias": True,
        "drop_path_rate": 0.0,
        "use_rel_pos": False,
        "window_size": 14,
        "window_block_indexes": [0, 1, 3, 4, 6, 7, 9, 10],
    }
    neck = encoder["neck"]
    del neck["fpn_top_down_levels"], neck["fpn_interp_model"]
    neck |= {"backbone_channel_list": [width], "neck_norm": "LN"}
    settings["use_high_res_features_in_sam"] = False
    settings["image_size"] = side
    if pooling:
        settings["memory_attention"]["layer"]["cross_attention"]["class"] = f"EfficientRoPEAttention{pooling}"
    return _with_sizes(settings, side // 16)


def _with_sizes(settings: Settings, side: int) -> Settings:
    layer = settings["memory_attention"]["layer"]
    for attention in (layer["self_attention"], layer["cross_attention"]):
        attention["feat_sizes"] = [side, side]
    return settings
