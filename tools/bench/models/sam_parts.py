"""The parts of SAM and SAM 2 under one set of names."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn

Features = tuple[Tensor, ...]


class Parts(nn.Module):
    """Image encoder, prompt encoder and mask decoder of a model.

    Attributes:
        blocks: of the image encoder.
        size: pixels of the side of what the image encoder sees.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        is_sam2 = hasattr(model, "sam_mask_decoder")
        self.encoder = model.image_encoder
        self.prompts = model.sam_prompt_encoder if is_sam2 else model.prompt_encoder
        self.decoder = model.sam_mask_decoder if is_sam2 else model.mask_decoder
        self.size: int = model.image_size if is_sam2 else model.image_encoder.img_size
        self.eval()

    @property
    def blocks(self) -> nn.ModuleList:
        return (self.encoder.trunk if hasattr(self.encoder, "trunk") else self.encoder).blocks  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        """Of the image encoder and the mask decoder."""
        return next(self.decoder.parameters()).dtype

    def encode(self, image: Tensor) -> Features:
        """Return the features of images (batch, 3, size, size): those of finer grids, if any, and last the embedding."""
        found = self.encoder(image.to(self.dtype))
        if isinstance(found, dict):
            return tuple(found["backbone_fpn"])
        return found[:1] if isinstance(found, tuple) else (found,)  # segment_anything_hq adds features of early layers

    def ask(self, features: Features, points: Tensor) -> dict[str, Any]:
        """Return the arguments of `decode` for one image's features and points (prompts, 1, 2), in pixels, a prompt each.

        Three masks are asked for. Asked for one, SAM 2 may choose among them, and small errors would tip the choice.
        """
        # The packages multiply float32 coordinates with the prompt encoder's weights.
        prompts = self.prompts if self.dtype == torch.float32 else copy.deepcopy(self.prompts).float()
        labels = torch.ones(points.shape[:2], dtype=torch.int32, device=points.device)
        sparse, dense = prompts(points=(points, labels), boxes=None, masks=None)
        *finer, embedding = (feature.to(self.dtype) for feature in features)
        asked = {
            "image_embeddings": embedding,
            "image_pe": prompts.get_dense_pe().to(self.dtype),
            "sparse_prompt_embeddings": sparse.to(self.dtype),
            "dense_prompt_embeddings": dense.to(self.dtype),
            "multimask_output": True,
        }
        if finer:
            convolutions = (self.decoder.conv_s0, self.decoder.conv_s1)
            found = [convolve(feature) for convolve, feature in zip(convolutions, finer, strict=True)]
            asked |= {"repeat_image": True, "high_res_features": found}
        if "hq_token_only" in inspect.signature(self.decoder.forward).parameters:  # MobileSAM's in segment_anything_hq
            asked |= {"hq_token_only": False, "interm_embeddings": None}
        return asked

    def decode(self, asked: dict[str, Any]) -> tuple[Tensor, ...]:
        """Return mask logits (prompts, 3, height, width) and scores (prompts, 3)."""
        masks, scores, *_ = self.decoder(**asked)
        return masks, scores


def random_image(size: int, seed: int = 0) -> Tensor:
    """Return an image of normal numbers, float32 (1, 3, size, size)."""
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def random_points(count: int, size: int, device: str) -> Tensor:
    """Return points (count, 1, 2) in an image of `size` by `size` pixels."""
    return torch.rand(count, 1, 2, device=device) * size


def relative_error(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """Return the norm of the difference of two outputs over the norm of the second, their tensors as one vector."""
    differences = [(one - other).double().square().sum() for one, other in zip(found, expected, strict=True)]
    return float((sum(differences) / sum(other.double().square().sum() for other in expected)) ** 0.5)
