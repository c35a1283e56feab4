"""Small models of every kind, with random weights that depend on the seed alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

SIZE = 128  # pixels of the side of what the image encoders see


def _seeded(build: Any, seed: int = 0) -> Any:
    """Return what `build` builds with the generator of torch at `seed`, in eval mode; the generator is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
        for parameter in model.parameters():  # zero at first, or nearly, which hides what they do
            if parameter.abs().max() < 1e-3:
                nn.init.normal_(parameter, std=0.02)
    return model.eval()


def _encoder(modeling: Any, size: int, depth: int, width: int) -> nn.Module:
    return modeling.ImageEncoderViT(  # type: ignore[no-any-return]
        depth=depth,
        embed_dim=width,
        img_size=size,
        mlp_ratio=4,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_heads=2,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=(depth - 1,),
        window_size=4,
        out_chans=256,
    )


def _sam(modeling: Any, decoder: Any, size: int, depth: int, width: int) -> nn.Module:
    grid = (size // 16, size // 16)
    return modeling.Sam(  # type: ignore[no-any-return]
        image_encoder=_encoder(modeling, size, depth, width),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=256, image_embedding_size=grid, input_image_size=(size, size), mask_in_chans=16
        ),
        mask_decoder=decoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=128, num_heads=8),
            transformer_dim=256,
            iou_head_depth=3,
            iou_head_hidden_dim=64,
        ),
    )


def small_sam(*, size: int = SIZE, depth: int = 2, width: int = 64) -> nn.Module:
    """Return a `segment_anything` model."""
    from segment_anything import modeling

    return _seeded(lambda: _sam(modeling, modeling.MaskDecoder, size, depth, width))  # type: ignore[no-any-return]


def small_sam_hq(*, size: int = SIZE, depth: int = 2, width: int = 64) -> nn.Module:
    """Return a `segment_anything_hq` model."""
    from segment_anything_hq import modeling

    decoder = partial(modeling.MaskDecoderHQ, vit_dim=width)
    return _seeded(lambda: _sam(modeling, decoder, size, depth, width))  # type: ignore[no-any-return]


def small_sam2_video(*, size: int = SIZE, width: int = 16) -> nn.Module:
    """Return a `SAM2VideoPredictor` of `sam2`, with the settings that the package's builder gives it."""
    return watchful(small_sam2(size=size, width=width, video=True))


def small_sam2(*, size: int = SIZE, width: int = 16, video: bool = False) -> nn.Module:
    """Return a `sam2` model: the configuration of the tiny one, narrower and shallower."""
    import sam2
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    config = OmegaConf.load(Path(sam2.__file__).parent / "configs" / "sam2.1" / "sam2.1_hiera_t.yaml").model
    config.image_size = size
    trunk = config.image_encoder.trunk
    trunk.update(embed_dim=width, stages=[1, 1, 2, 1], global_att_blocks=[3])
    config.image_encoder.neck.backbone_channel_list = [8 * width, 4 * width, 2 * width, width]
    config.memory_attention.num_layers = 1
    if video:
        config.update(_target_="sam2.sam2_video_predictor.SAM2VideoPredictor", binarize_mask_from_pts_for_mem_enc=True)
    config.update(num_maskmem=3, max_obj_ptrs_in_encoder=4)  # frames that it looks back at
    return _seeded(lambda: instantiate(config, _recursive_=True))  # type: ignore[no-any-return]


_PROMPTS = {"image_size": SIZE}
_DECODER = {"mlp_dim": 128, "iou_head_hidden_dim": 64}
_VIT = {
    "image_size": SIZE,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "window_size": 4,
    "global_attn_indexes": [1],
}


def small_hf_sam() -> nn.Module:
    """Return transformers' `SamModel`."""
    from transformers import SamConfig, SamModel

    config = SamConfig(vision_config=_VIT, prompt_encoder_config=_PROMPTS, mask_decoder_config=_DECODER)
    return _seeded(lambda: SamModel(config))  # type: ignore[no-any-return]


def small_hf_sam_hq() -> nn.Module:
    """Return transformers' `SamHQModel`."""
    from transformers import SamHQConfig, SamHQModel

    decoder = {**_DECODER, "vit_dim": 64}
    config = SamHQConfig(vision_config=_VIT, prompt_encoder_config=_PROMPTS, mask_decoder_config=decoder)
    return _seeded(lambda: SamHQModel(config))  # type: ignore[no-any-return]


_MEMORY = {
    "image_size": SIZE,
    "num_maskmem": 3,
    "max_object_pointers_in_encoder": 4,
    "memory_attention_num_layers": 1,
    "memory_attention_rope_feat_sizes": [SIZE // 16] * 2,
}


def small_hf_sam2() -> nn.Module:
    """Return transformers' `Sam2Model`."""
    from transformers import Sam2Config, Sam2Model

    config = Sam2Config(vision_config=_hiera(), prompt_encoder_config=_PROMPTS, mask_decoder_config=_DECODER)
    return _seeded(lambda: Sam2Model(config))  # type: ignore[no-any-return]


def small_hf_sam2_video() -> nn.Module:
    """Return transformers' `Sam2VideoModel`."""
    from transformers import Sam2VideoConfig, Sam2VideoModel

    parts = {"vision_config": _hiera(), "prompt_encoder_config": _PROMPTS, "mask_decoder_config": _DECODER}
    return watchful(_seeded(lambda: Sam2VideoModel(Sam2VideoConfig(**parts, **_MEMORY))))


def _hiera() -> dict[str, Any]:
    """Return the configuration of an image encoder of SAM 2 in transformers."""
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "image_size": [SIZE, SIZE],
        "hidden_size": 16,
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128],
        "global_attention_blocks": [3],
    }
    return {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [128, 64, 32, 16],
        "backbone_feature_sizes": [[SIZE // stride] * 2 for stride in (4, 8, 16)],
    }


SAM3_SIZE = 112  # pixels of the side of what the encoders of the small SAM 3 see
_SAM3_WIDTH = 32
_SAM3_VISION = {
    "model_type": "sam3_vision_model",
    "fpn_hidden_size": _SAM3_WIDTH,
    "backbone_feature_sizes": [[SAM3_SIZE // 14 * scale] * 2 for scale in (4, 2, 1)],
    "backbone_config": {
        "model_type": "sam3_vit_model",
        "image_size": SAM3_SIZE,
        "pretrain_image_size": SAM3_SIZE // 2,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "window_size": 4,
        "global_attn_indexes": [1],
    },
}
_SAM3_PART = {"hidden_size": _SAM3_WIDTH, "num_attention_heads": 4, "intermediate_size": 64}
_SAM3_DETECTOR = {
    "vision_config": _SAM3_VISION,
    "text_config": {
        "model_type": "clip_text_model",
        "vocab_size": 5000,
        "bos_token_id": 4998,
        "eos_token_id": 4999,
        "hidden_size": 48,
        "intermediate_size": 64,
        "projection_dim": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 16,
        "hidden_act": "gelu",
    },
    "geometry_encoder_config": {**_SAM3_PART, "num_layers": 1},
    "detr_encoder_config": {**_SAM3_PART, "num_layers": 2},
    "detr_decoder_config": {**_SAM3_PART, "num_layers": 2, "num_queries": 20},
    "mask_decoder_config": {"hidden_size": _SAM3_WIDTH, "num_attention_heads": 4},
}
_SAM3_TRACKER = {
    "vision_config": _SAM3_VISION,
    "prompt_encoder_config": {"image_size": SAM3_SIZE, "hidden_size": _SAM3_WIDTH},
    "mask_decoder_config": {
        "hidden_size": _SAM3_WIDTH,
        "mlp_dim": 64,
        "num_attention_heads": 4,
        "iou_head_hidden_dim": 32,
    },
}
_SAM3_TRACKER_VIDEO = {
    **_SAM3_TRACKER,
    "model_type": "sam3_tracker_video",
    "image_size": SAM3_SIZE,
    "memory_attention_hidden_size": _SAM3_WIDTH,
    "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 64,
    "memory_attention_rope_feat_sizes": [SAM3_SIZE // 14] * 2,
    "memory_encoder_hidden_size": _SAM3_WIDTH,
    "mask_downsampler_embed_dim": _SAM3_WIDTH,
    "memory_fuser_embed_dim": _SAM3_WIDTH,
    "memory_fuser_intermediate_dim": 64,
}


def small_hf_sam3() -> nn.Module:
    """Return transformers' `Sam3Model`."""
    from transformers import Sam3Config, Sam3Model

    return _seeded(lambda: Sam3Model(Sam3Config(**_SAM3_DETECTOR)))  # type: ignore[no-any-return]


def small_hf_sam3_lite_text() -> nn.Module:
    """Return transformers' `Sam3LiteTextModel`, whose text encoder is MobileCLIP's."""
    from transformers import Sam3LiteTextConfig, Sam3LiteTextModel

    text = {**_SAM3_DETECTOR["text_config"], "model_type": "sam3_lite_text_text_model", "num_hidden_layers": 3}  # type: ignore[dict-item]
    del text["bos_token_id"], text["eos_token_id"]
    return _seeded(lambda: Sam3LiteTextModel(Sam3LiteTextConfig(**{**_SAM3_DETECTOR, "text_config": text})))  # type: ignore[no-any-return]


def small_hf_sam3_tracker() -> nn.Module:
    """Return transformers' `Sam3TrackerModel`."""
    from transformers import Sam3TrackerConfig, Sam3TrackerModel

    return _seeded(lambda: Sam3TrackerModel(Sam3TrackerConfig(**_SAM3_TRACKER)))  # type: ignore[no-any-return]


def small_hf_sam3_video() -> nn.Module:
    """Return transformers' `Sam3VideoModel`."""
    from transformers import Sam3VideoConfig, Sam3VideoModel

    detector = {**_SAM3_DETECTOR, "model_type": "sam3"}
    config = Sam3VideoConfig(detector_config=detector, tracker_config=_SAM3_TRACKER_VIDEO, low_res_mask_size=32)
    return _seeded(lambda: Sam3VideoModel(config))  # type: ignore[no-any-return]


def following_hf_sam3_video() -> nn.Module:
    """Return a `Sam3VideoModel` that can follow objects: transformers has fixed widths in its memory."""
    from transformers import Sam3VideoConfig, Sam3VideoModel

    vision, part = {**_SAM3_VISION, "fpn_hidden_size": 256}, {**_SAM3_PART, "hidden_size": 256}
    detector = {
        **_SAM3_DETECTOR,
        "model_type": "sam3",
        "vision_config": vision,
        "geometry_encoder_config": {**part, "num_layers": 1},
        "detr_encoder_config": {**part, "num_layers": 1},
        "detr_decoder_config": {**part, "num_layers": 2, "num_queries": 4},
        "mask_decoder_config": {"hidden_size": 256, "num_attention_heads": 4},
    }
    tracker = {**_following_tracker(), "model_type": "sam3_tracker_video"}
    config = Sam3VideoConfig(detector_config=detector, tracker_config=tracker, low_res_mask_size=32)
    model: Any = _seeded(lambda: Sam3VideoModel(config))
    watchful(model.tracker_model)
    return finding(model)


def finding(model: Any) -> nn.Module:
    """Make a small SAM 3 sure that some of its queries are what a text names, whatever it is."""
    detector = getattr(model, "detector_model", model)
    with torch.no_grad():
        detector.detr_decoder.presence_head.layer3.bias.fill_(12)
        detector.dot_product_scoring.text_proj.bias.fill_(1)
        detector.dot_product_scoring.query_proj.weight.mul_(20)
    return model  # type: ignore[no-any-return]


def small_hf_edgetam() -> nn.Module:
    """Return transformers' `EdgeTamModel`, with the smallest RepViT."""
    from transformers import EdgeTamConfig, EdgeTamModel

    config = EdgeTamConfig(vision_config=_rep_vit(), prompt_encoder_config=_PROMPTS, mask_decoder_config=_DECODER)
    return _seeded(lambda: EdgeTamModel(config))  # type: ignore[no-any-return]


def small_hf_sam3_tracker_video() -> nn.Module:
    """Return transformers' `Sam3TrackerVideoModel`."""
    from transformers import Sam3TrackerVideoConfig, Sam3TrackerVideoModel

    return watchful(_seeded(lambda: Sam3TrackerVideoModel(Sam3TrackerVideoConfig(**_following_tracker()))))


def _following_tracker() -> dict[str, Any]:
    return {
        **_MEMORY,
        "image_size": SAM3_SIZE,
        "vision_config": {**_SAM3_VISION, "fpn_hidden_size": 256},  # transformers has fixed widths in its memory
        "prompt_encoder_config": {"image_size": SAM3_SIZE},
        "mask_decoder_config": _DECODER,
        "memory_attention_rope_feat_sizes": [SAM3_SIZE // 14] * 2,
    }


def small_hf_edgetam_video() -> nn.Module:
    """Return transformers' `EdgeTamVideoModel`, with the smallest RepViT."""
    from transformers import EdgeTamVideoConfig, EdgeTamVideoModel

    settings = {
        **_MEMORY,
        "vision_config": _rep_vit(),
        "prompt_encoder_config": _PROMPTS,
        "mask_decoder_config": _DECODER,
        "memory_attention_rope_k_sizes": [4, 4],
        "perceiver_resampler_num_latents": 16,
        "perceiver_resampler_num_latents_2d": 16,
    }
    return watchful(_seeded(lambda: EdgeTamVideoModel(EdgeTamVideoConfig(**settings))))


def _rep_vit() -> dict[str, Any]:
    """Return the configuration of the image encoder of EdgeTAM in transformers."""
    from transformers import TimmWrapperConfig

    arguments = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    return {
        "model_type": "edgetam_vision_model",
        "backbone_config": TimmWrapperConfig(architecture="repvit_m1", model_args=arguments),
        "backbone_feature_sizes": [[SIZE // stride] * 2 for stride in (4, 8, 16)],
    }


def confident(model: nn.Module) -> nn.Module:
    """Make a small model predict high IoUs and clear masks, so that mask generators keep them."""
    decoder: Any = getattr(model, "mask_decoder", None) or model.sam_mask_decoder
    with torch.no_grad():
        _last(decoder.iou_prediction_head).bias.fill_(5)
        for head in decoder.output_hypernetworks_mlps:
            for parameter in _last(head).parameters():
                parameter.mul_(10_000)
    return model


def watchful(model: nn.Module) -> nn.Module:
    """Make a small model believe that objects are in sight, so that its masks in clips are not empty."""
    decoder: Any = getattr(model, "mask_decoder", None) or model.sam_mask_decoder
    with torch.no_grad():
        _last(decoder.pred_obj_score_head).bias.fill_(1)
    return model


def _last(head: Any) -> Any:
    return head.proj_out if hasattr(head, "proj_out") else head.layers[-1]
