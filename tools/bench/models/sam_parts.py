"""The parts of SAM and SAM 2 under one set of names, dense and with coded linear layers."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from bhk.base.parallel import ordered_map, worker_count
from bhk.container.header import ModelEntry
from bhk.conversion.selection import MIN_NUMEL
from bhk.nn import HyperLinear
from bhk.nn.model_tensors import model_tensors, plain_linears
from bhk.sam.build import build_model
from bhk.sam.variants import Variant

SIDES = ("dense", "exact", "int8")
DEGREES, SCALE = 6.0, 0.03  # of the weights, which follow Student's t


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

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the features of images (batch, 3, size, size): those of finer grids, if any, then the embedding."""
        found = self.encoder(image)
        return tuple(found["backbone_fpn"]) if isinstance(found, dict) else (found,)

    def ask(self, features: tuple[Tensor, ...], points: Tensor, *, multimask: bool = True) -> dict[str, Any]:
        """Return the arguments of `decode` for one image's features and points (prompts, 1, 2), in pixels, a prompt each.

        Args:
            multimask: ask for three masks. SAM 2 may choose among them otherwise, and small errors would tip the choice.
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
            "multimask_output": multimask,
        }
        if finer:
            convolutions = (self.decoder.conv_s0, self.decoder.conv_s1)
            found = [convolve(feature) for convolve, feature in zip(convolutions, finer, strict=True)]
            asked |= {"repeat_image": True, "high_res_features": found}
        return asked

    def decode(self, asked: dict[str, Any]) -> tuple[Tensor, ...]:
        """Return mask logits (prompts, 3, height, width) and scores (prompts, 3)."""
        masks, scores, *_ = self.decoder(**asked)
        return masks, scores

    def segment(self, features: tuple[Tensor, ...], points: Tensor) -> Tensor:
        """Return mask logits (prompts, 1, height, width) for one image's features and points (prompts, 1, 2) in pixels."""
        return self.decode(self.ask(features, points, multimask=False))[0]


def random_points(count: int, size: int, device: str) -> Tensor:
    """Return points (count, 1, 2) in an image of `size` by `size` pixels."""
    return torch.rand(count, 1, 2, device=device) * size


@torch.no_grad()
def coded_parts(variant: Variant, device: str) -> Parts:
    """Build a model of the variant with random weights, its linear layers coded, in float32 on the device.

    The weights of linear layers follow Student's t. Tensors that the packages set to zero, such as position tables, become
    random, because zeros would hide errors. As in `bhk.convert`, small layers stay as they are.
    """
    torch.manual_seed(0)
    entry = ModelEntry(variant.family, variant.name, msgspec.to_builtins(variant.architecture))
    with torch.device(device):
        parts = Parts(build_model(entry)).to(device)
    student = torch.distributions.StudentT(torch.tensor(DEGREES, device=device))
    targets = model_tensors(parts)
    places = [(place, linear) for place, linear in plain_linears(parts, targets).values()]
    for _, linear in places:
        linear.weight.copy_(student.sample(linear.weight.shape) * SCALE)
    for target in targets:
        if isinstance(target.tensor, nn.Parameter) and not target.tensor.any():
            target.tensor.normal_(std=0.02)
    large = [(place, linear) for place, linear in places if linear.weight.numel() >= MIN_NUMEL]
    layers = ordered_map(HyperLinear.from_linear, [linear for _, linear in large], worker_count(None))
    for (place, _), layer in zip(large, layers, strict=True):
        setattr(place.module, place.attribute, layer)
    return parts


@torch.no_grad()
def sides_of(coded: Parts, dtype: torch.dtype) -> dict[str, Parts]:
    """Return copies of the model in `dtype`, one for each of `SIDES`, with equal values."""
    exact = copy.deepcopy(coded).to(dtype)
    int8, dense = copy.deepcopy(exact), copy.deepcopy(exact)
    for module in int8.modules():
        if isinstance(module, HyperLinear):
            module.compute = "int8"
    for parent in list(dense.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, HyperLinear):
                setattr(parent, name, child.to_linear())
    return {"dense": dense, "exact": exact, "int8": int8}
