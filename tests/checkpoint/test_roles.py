from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bhk.checkpoint.roles import is_mask, is_sinusoidal, natural_key, role_of

_LISTS = sorted((Path(__file__).parent.parent / "data" / "state_dicts").glob("*.json"))


def _role(name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> str:
    return role_of(name, torch.empty(shape, dtype=dtype, device="meta"))


@pytest.mark.parametrize("path", _LISTS, ids=lambda path: path.stem)
def test_linear_weights_and_buffers_of_the_family_are_known(path: Path) -> None:
    """They are compared with torch: the weights of nn.Linear, and the buffers."""
    expected, found = {}, {}
    for name, shape, dtype, role in json.loads(path.read_text())["tensors"]:
        expected[name] = role
        guess = _role(name, tuple(shape), getattr(torch, dtype))
        found[name] = guess if guess in ("linear", "buffer") else "other"
    assert expected
    assert found == expected


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        # BERT and its like
        ("bert.embeddings.word_embeddings.weight", (30522, 768), "embedding"),
        ("bert.embeddings.token_type_embeddings.weight", (2, 768), "embedding"),
        ("embeddings.LayerNorm.weight", (768,), "norm"),
        ("bert.embeddings.LayerNorm.gamma", (768,), "norm"),
        ("bert.embeddings.LayerNorm.beta", (768,), "bias"),
        ("encoder.layer.11.attention.self.query.weight", (768, 768), "linear"),
        ("encoder.layer.11.attention.self.query.bias", (768,), "bias"),
        ("cls.predictions.bias", (30522,), "bias"),
        # ViT and CLIP
        ("vit.embeddings.cls_token", (1, 1, 768), "embedding"),
        ("vit.embeddings.position_embeddings", (1, 197, 768), "embedding"),
        ("vit.embeddings.patch_embeddings.projection.weight", (768, 3, 16, 16), "conv"),
        ("pos_embed", (1, 197, 768), "embedding"),
        ("visual.positional_embedding", (50, 768), "embedding"),
        ("transformer.resblocks.0.attn.in_proj_weight", (1536, 512), "linear"),
        ("transformer.resblocks.0.attn.in_proj_bias", (1536,), "bias"),
        ("logit_scale", (), "other"),
        # GPT, Llama, OPT, T5
        ("transformer.wte.weight", (50257, 768), "embedding"),
        ("transformer.wpe.weight", (1024, 768), "embedding"),
        ("transformer.h.0.attn.c_attn.weight", (768, 2304), "linear"),
        ("lm_head.weight", (50257, 768), "linear"),
        ("model.embed_tokens.weight", (32000, 4096), "embedding"),
        ("model.layers.0.input_layernorm.weight", (4096,), "norm"),
        ("model.layers.0.block_sparse_moe.experts.7.w1.weight", (14336, 4096), "linear"),
        ("model.decoder.embed_positions.weight", (2050, 512), "embedding"),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (32, 8), "embedding"),
        # LoRA
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", (8, 4096), "linear"),
        ("model.layers.0.self_attn.q_proj.lora_B.default.weight", (4096, 8), "linear"),
        # SAM in transformers
        ("shared_image_embedding.positional_embedding", (2, 128), "buffer"),
        ("prompt_encoder.shared_embedding.positional_embedding", (2, 128), "buffer"),
        ("prompt_encoder.point_embed.0.weight", (1, 256), "embedding"),
        ("prompt_encoder.not_a_point_embed.weight", (1, 256), "embedding"),
        ("vision_encoder.layers.0.attn.rel_pos_h", (27, 64), "embedding"),
        ("mask_decoder.iou_token.weight", (1, 256), "embedding"),
        ("mask_decoder.upscale_conv1.weight", (256, 64, 2, 2), "conv"),
        # torch's own modules
        ("layer4.0.bn1.weight", (512,), "norm"),
        ("layer4.0.bn1.running_mean", (512,), "buffer"),
        ("layer4.0.bn1.running_var", (512,), "buffer"),
        ("layer4.0.downsample.0.weight", (512, 256, 1, 1), "conv"),
        ("stem.weight", (64, 3, 7), "conv"),
        ("video.weight", (64, 3, 3, 7, 7), "conv"),
        ("0.weight", (5, 3), "linear"),
        ("weight", (5, 3), "linear"),
        ("rnn.weight_ih_l0", (512, 128), "other"),
        # Tables that are computed or counted
        ("rope.freqs_cos", (1024, 64), "buffer"),
        ("rope.freqs_sin", (1024, 64), "buffer"),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", (64,), "buffer"),
        ("model.layers.0.self_attn.rotary_emb.cos_cached", (1, 1, 2048, 128), "buffer"),
        ("blocks.1.rope_cache", (64, 64, 2), "buffer"),
        ("layers.0.blocks.1.attn_mask", (64, 49, 49), "buffer"),
        ("decoder.causal_mask", (64, 64), "buffer"),
        ("layers.0.blocks.0.attn.relative_coords_table", (1, 31, 31, 2), "buffer"),
        ("attn.relative_position_index", (49, 49), "buffer"),
        ("head.anchors", (8400, 2), "buffer"),
        ("model.24.anchor_grid", (3, 1, 3, 1, 1, 2), "buffer"),
        ("head.priors", (8732, 4), "buffer"),
        ("mel_scale.fb", (201, 80), "buffer"),
        ("feature_extractor.mel_filters", (80, 201), "buffer"),
        ("alibi_slopes", (12, 1, 1), "buffer"),
        ("neck.pos_grid", (1, 64, 64, 2), "buffer"),
        ("pos_encoder.pe", (5000, 1, 512), "buffer"),
        ("vae.latents_mean", (1, 128, 1, 1), "buffer"),
        ("pixel_std", (3, 1, 1), "buffer"),
        ("quantize.embed_avg", (1024, 256), "buffer"),
        ("queue", (128, 65536), "buffer"),
        ("alphas_cumprod", (1000,), "buffer"),
        # Learned tables of similar names
        ("attn.relative_position_bias_table", (169, 32), "embedding"),
        ("pos_embed_window", (1, 96, 8, 8), "embedding"),
        ("mask_token", (1, 1, 768), "embedding"),
        ("decoder.mask_embed", (1, 256), "embedding"),
        ("density.grid", (1, 1, 160, 160, 160), "other"),
        ("coord_proj.weight", (256, 2), "linear"),
        ("index_embedding.weight", (16, 768), "embedding"),
        ("experts.gate_up_proj", (8, 10, 20), "other"),
    ],
)
def test_names_of_other_models(name: str, shape: tuple[int, ...], role: str) -> None:
    assert _role(name, shape) == role


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_integers_and_booleans_are_buffers(dtype: torch.dtype) -> None:
    assert _role("layers.0.attn.relative_position_index.weight", (49, 49), dtype) == "buffer"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.complex64])
def test_other_numbers_have_their_usual_roles(dtype: torch.dtype) -> None:
    assert _role("proj.weight", (5, 3), dtype) == "linear"


def _sines(positions: int, width: int, *, split: bool = False) -> torch.Tensor:
    angle = torch.arange(positions)[:, None] / 10000 ** (torch.arange(width // 2) * 2 / width)
    parts = [angle.sin(), angle.cos()]
    return torch.cat(parts, 1) if split else torch.stack(parts, 2).flatten(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("split", [False, True])
def test_fixed_tables_of_positions_are_known_by_their_values(split: bool, dtype: torch.dtype) -> None:
    table = _sines(577, 192, split=split).to(dtype)
    assert is_sinusoidal(table)
    assert is_sinusoidal(table[None])
    assert is_sinusoidal(torch.cat([torch.zeros_like(table[:1]), table]))  # a row for padding, or for the class token
    grid = torch.cat([table[:24].repeat(24, 1), table[:24].repeat_interleave(24, 0)], 1)
    assert is_sinusoidal(grid)


def test_learned_tables_are_not_taken_for_fixed_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    for scale in (0.02, 0.5**0.5, 1.0):
        assert not is_sinusoidal(scale * torch.randn(577, 192, generator=generator))
    assert not is_sinusoidal(torch.nn.functional.normalize(torch.randn(577, 192, generator=generator), dim=1))
    moved = _sines(577, 192)
    assert not is_sinusoidal(moved + 0.01 * torch.randn(577, 192, generator=generator))
    assert not is_sinusoidal(torch.zeros(577, 192))
    assert not is_sinusoidal(moved[:3])
    assert not is_sinusoidal(torch.ones(5))


def test_numbers_in_names_sort_by_value() -> None:
    names = ["b.10.w", "b.9.w", "b.w", "b2", "a", "10", "9", "b.9.bias", "b.9.10", "b.9.9", "", "²"]
    ordered = ["", "9", "10", "a", "b2", "b.9.9", "b.9.10", "b.9.bias", "b.9.w", "b.10.w", "b.w", "²"]
    assert sorted(names, key=natural_key) == ordered


def test_masks_are_told_by_their_values() -> None:
    mask = (torch.arange(9000) % 3 == 0).float().reshape(90, 100)
    assert is_mask(mask)
    assert not is_mask(mask * 0.5)
    assert not is_mask(torch.ones(40, 40))
    mask[89, 99] = 2
    assert not is_mask(mask)
