"""SAM 2 and the models that grew from it: which classes they are made of, and the settings of those that were published.

The settings are those of the YAML files in their packages, with the three that `build_sam2` adds.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from bhk.sam.tree import Settings, Tree

_BACKBONES = "modeling.backbones"
_POSITIONS = ("modeling.position_encoding.PositionEmbeddingSine",)
_ATTENTION = ("modeling.sam.transformer.RoPEAttention",)
_CLASSES = {
    "": ("modeling.sam2_base.SAM2Base",),
    "image_encoder": (f"{_BACKBONES}.image_encoder.ImageEncoder",),
    "image_encoder.trunk": (f"{_BACKBONES}.hieradet.Hiera",),
    "image_encoder.neck": (f"{_BACKBONES}.image_encoder.FpnNeck",),
    "image_encoder.neck.position_encoding": _POSITIONS,
    "memory_attention": ("modeling.memory_attention.MemoryAttention",),
    "memory_attention.layer": ("modeling.memory_attention.MemoryAttentionLayer",),
    "memory_attention.layer.self_attention": _ATTENTION,
    "memory_attention.layer.cross_attention": _ATTENTION,
    "memory_encoder": ("modeling.memory_encoder.MemoryEncoder",),
    "memory_encoder.position_encoding": _POSITIONS,
    "memory_encoder.mask_downsampler": ("modeling.memory_encoder.MaskDownSampler",),
    "memory_encoder.fuser": ("modeling.memory_encoder.Fuser",),
    "memory_encoder.fuser.layer": ("modeling.memory_encoder.CXBlock",),
}

# What RoPE and the memory of SAM 2.1 have in every size; `sam_mask_decoder_extra_args` is what `build_sam2` adds.
_SINE = {"normalize": True, "scale": None, "temperature": 10000}
_ROPE = {"rope_theta": 10000.0, "embedding_dim": 256, "num_heads": 1, "downsample_rate": 1, "dropout": 0.1}
_RELEASE_2_1: dict[str, Any] = {
    "image_encoder": {
        "scalp": 1,
        "neck": {
            "position_encoding": {"num_pos_feats": 256, **_SINE},
            "d_model": 256,
            "fpn_top_down_levels": [2, 3],
            "fpn_interp_model": "nearest",
        },
    },
    "memory_attention": {
        "d_model": 256,
        "pos_enc_at_input": True,
        "num_layers": 4,
        "layer": {
            "activation": "relu",
            "dim_feedforward": 2048,
            "dropout": 0.1,
            "pos_enc_at_attn": False,
            "d_model": 256,
            "pos_enc_at_cross_attn_keys": True,
            "pos_enc_at_cross_attn_queries": False,
            "self_attention": {**_ROPE, "feat_sizes": [64, 64]},
            "cross_attention": {**_ROPE, "feat_sizes": [64, 64], "rope_k_repeat": True, "kv_in_dim": 64},
        },
    },
    "memory_encoder": {
        "out_dim": 64,
        "position_encoding": {"num_pos_feats": 64, **_SINE},
        "mask_downsampler": {"kernel_size": 3, "stride": 2, "padding": 1},
        "fuser": {
            "num_layers": 2,
            "layer": {
                "dim": 256,
                "kernel_size": 7,
                "padding": 3,
                "layer_scale_init_value": 1e-6,
                "use_dwconv": True,
            },
        },
    },
    "num_maskmem": 7,
    "image_size": 1024,
    "sigmoid_scale_for_mem_enc": 20.0,
    "sigmoid_bias_for_mem_enc": -10.0,
    "use_mask_input_as_output_without_sam": True,
    "directly_add_no_mem_embed": True,
    "no_obj_embed_spatial": True,
    "use_high_res_features_in_sam": True,
    "multimask_output_in_sam": True,
    "iou_prediction_use_sigmoid": True,
    "use_obj_ptrs_in_encoder": True,
    "add_tpos_enc_to_obj_ptrs": True,
    "proj_tpos_enc_in_obj_ptrs": True,
    "use_signed_tpos_enc_to_obj_ptrs": True,
    "only_obj_ptrs_in_the_past_for_eval": True,
    "pred_obj_scores": True,
    "pred_obj_scores_mlp": True,
    "fixed_no_obj_ptr": True,
    "multimask_output_for_tracking": True,
    "use_multimask_token_for_obj_ptr": True,
    "multimask_min_pt_num": 0,
    "multimask_max_pt_num": 1,
    "use_mlp_for_obj_ptr_proj": True,
}
STABILITY = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}
_SINCE_2_1 = ("no_obj_embed_spatial", "proj_tpos_enc_in_obj_ptrs", "use_signed_tpos_enc_to_obj_ptrs")
_OTHERS = {  # settings that a YAML file of a model may have, though none of the published ones does
    "backbone_stride",
    "binarize_mask_from_pts_for_mem_enc",
    "max_cond_frames_in_attn",
    "max_obj_ptrs_in_encoder",
    "memory_temporal_stride_for_eval",
    "non_overlap_masks_for_mem_enc",
    "sam_mask_decoder_extra_args",
    "soft_no_obj_ptr",
}
_OF_MODEL = frozenset(_RELEASE_2_1) | _OTHERS

# What `build_sam2_video_predictor` adds besides.
_FOR_VIDEO = {"binarize_mask_from_pts_for_mem_enc": True, "fill_hole_area": 8}

_KEPT_AS = {
    "self_attention": ("self_attn",),
    "cross_attention": ("cross_attn_image",),
    "rope_theta": ("compute_cis.theta",),
    "dropout": ("dropout_value", "dropout_p"),
    "num_heads": ("blocks.0.attn.num_heads",),  # of the trunk
}

SAM2_TREE = Tree(_CLASSES, _OF_MODEL, "sam2_video_predictor.SAM2VideoPredictor", _FOR_VIDEO, _KEPT_AS)


_BACKGROUND = {"window_pos_embed_bkg_spatial_size": [7, 7]}
_TRUNKS: dict[str, dict[str, Any]] = {
    "tiny": {
        "embed_dim": 96,
        "num_heads": 1,
        "stages": [1, 2, 7, 2],
        "global_att_blocks": [5, 7, 9],
        **_BACKGROUND,
    },
    "small": {
        "embed_dim": 96,
        "num_heads": 1,
        "stages": [1, 2, 11, 2],
        "global_att_blocks": [7, 10, 13],
        **_BACKGROUND,
    },
    "base_plus": {"embed_dim": 112, "num_heads": 2},  # the class's own values for the rest
    "large": {
        "embed_dim": 144,
        "num_heads": 2,
        "stages": [2, 6, 36, 4],
        "global_att_blocks": [23, 33, 43],
        "window_spec": [8, 4, 16, 8],
        **_BACKGROUND,
    },
}


def trunk_sizes(settings: Settings) -> tuple[int, tuple[int, ...]]:
    """Return the channels of a Hiera's first stage and the blocks of each stage, as settings of its model have them."""
    encoder = settings.get("image_encoder", {})
    trunk = encoder.get("trunk", {}) if isinstance(encoder, Mapping) else {}
    return trunk.get("embed_dim", 96), tuple(trunk.get("stages", (2, 3, 16, 3)))


def sam2_settings(release: str, size: str) -> Settings:
    """Return the settings of a published SAM 2: release "2" or "2.1", size "tiny", "small", "base_plus" or "large"."""
    settings = copy.deepcopy(_RELEASE_2_1)
    if release == "2":
        for name in _SINCE_2_1:
            del settings[name]
        settings["add_tpos_enc_to_obj_ptrs"] = False
    encoder, trunk = settings["image_encoder"], _TRUNKS[size]
    encoder["trunk"] = dict(trunk)
    encoder["neck"]["backbone_channel_list"] = [trunk["embed_dim"] << stage for stage in (3, 2, 1, 0)]
    return with_stability(settings)


def with_stability(settings: Settings) -> dict[str, Any]:
    """Return settings with those that `build_sam2` adds to every YAML file."""
    return {**settings, "sam_mask_decoder_extra_args": {**settings.get("sam_mask_decoder_extra_args", {}), **STABILITY}}
