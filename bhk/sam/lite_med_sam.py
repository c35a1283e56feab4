"""LiteMedSAM. Its class is in scripts that run when they are imported; only its encoder, `tiny_vit_sam`, is a module."""

from __future__ import annotations

from torch import nn


class LiteMedSam(nn.Module):
    """The three parts of the model, with the names of the published file."""

    def __init__(self, image_encoder: nn.Module, prompt_encoder: nn.Module, mask_decoder: nn.Module) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
