"""What the ONNX files of a model compute, under the names that samexporter and the demos in browsers use.

SAM, SAM-HQ, MobileSAM:

    encoder     input_image (height, width, 3)  ->  image_embeddings (1, c, g, g); SAM-HQ also interm_embeddings (1, 1, g, g, w)
    decoder     image_embeddings, interm_embeddings of SAM-HQ, point_coords (n, p, 2), point_labels (n, p),
                mask_input (n or 1, 1, 4g, 4g), has_mask_input (n or 1,), orig_im_size (2,)
                ->  masks (n, m, height, width), iou_predictions (n, m), low_res_masks (n, m, 4g, 4g)

SAM 2:

    encoder     image (1, 3, size, size)  ->  high_res_feats_0, high_res_feats_1, image_embed
    decoder     image_embed, high_res_feats_0, high_res_feats_1, point_coords, point_labels, mask_input, has_mask_input
                ->  masks (n, m, 4g, 4g), iou_predictions (n, m)

n prompts, of p points each, are answered at a time. Everything is float32. Points are in pixels of the encoder's picture. A
label is 1 on the object, 0 outside, 2 and 3 for the corners of a box, -1 for no point. Masks are logits: the first answers a
clear prompt, the others (three, or SAM-HQ's best) an ambiguous one. SAM takes a point of label -1 more where there is no box.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bhk.base.errors import BhkError

Axes = Mapping[str, Mapping[int, str]]  # name of an input or output -> its axes of any length

_PROMPTS: Axes = {
    "point_coords": {0: "prompts", 1: "points"},
    "point_labels": {0: "prompts", 1: "points"},
    "mask_input": {0: "mask_inputs"},
    "has_mask_input": {0: "mask_inputs"},
}


# How a graph holds the weights that a file has as codes.
Weights = Literal["int8", "float32", "float16"]


class OnnxError(BhkError):
    """A model cannot be written as ONNX."""


@dataclass(frozen=True)
class Part:
    """A part of a model that becomes an ONNX file of its own.

    Attributes:
        name: name of the file, without its suffix.
        module: what it computes; the model is its attribute `model`.
        example: inputs, in order.
        inputs, outputs: their names.
        dynamic: which of their axes may have any length.
        size: pixels of the long side of what the encoder sees.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dynamic: Axes
    size: int


def parts_of(model: nn.Module) -> tuple[Part, Part]:
    """Return the encoder and the decoder of a model.

    Raises:
        OnnxError: the model is of another family.
    """
    package, kind = type(model).__module__.partition(".")[0], type(model).__name__
    make = _PARTS.get(f"{package}.{kind}")
    if make is None:
        raise OnnxError(
            f"bhk writes no ONNX files of {package}.{kind}; "
            "it does of SAM, SAM-HQ, MobileSAM and SAM 2, as modules of their own packages"
        )
    return make(model)


def _sam(model: Any) -> tuple[Part, Part]:
    """Return the parts of SAM and of the models with its classes."""
    size, (grid, _) = model.image_encoder.img_size, model.prompt_encoder.image_embedding_size
    is_hq = hasattr(model.mask_decoder, "hf_token")
    features = ("image_embeddings", "interm_embeddings") if is_hq else ("image_embeddings",)
    examples = [torch.zeros(1, model.prompt_encoder.embed_dim, grid, grid)]
    if is_hq:
        early = model.mask_decoder.compress_vit_feat[0].in_channels
        examples.append(torch.zeros(1, 1, grid, grid, early))
    encoder = Part(
        "encoder",
        SamEncoder(model, size, is_hq),
        (torch.zeros(size * 3 // 4, size, 3),),
        ("input_image",),
        features,
        {"input_image": {0: "height", 1: "width"}},
        size,
    )
    decoder = Part(
        "decoder",
        HqDecoder(model, size) if is_hq else SamDecoder(model, size),
        (*examples, *_prompts(size, 4 * grid), torch.tensor([size // 2, size // 3], dtype=torch.float32)),
        (*features, *_PROMPTS, "orig_im_size"),
        ("masks", "iou_predictions", "low_res_masks"),
        {
            **_PROMPTS,
            **({"interm_embeddings": {0: "layers"}} if is_hq else {}),
            "masks": {0: "prompts", 2: "orig_height", 3: "orig_width"},
            "iou_predictions": {0: "prompts"},
            "low_res_masks": {0: "prompts"},
        },
        size,
    )
    return encoder, decoder


def _sam2(model: Any) -> tuple[Part, Part]:
    """Return the parts of SAM 2, as it segments pictures."""
    size, (grid, _) = model.image_size, model.sam_prompt_encoder.image_embedding_size
    width = model.sam_prompt_encoder.embed_dim
    finer = ("high_res_feats_0", "high_res_feats_1")
    encoder = Part(
        "encoder", Sam2Encoder(model), (torch.zeros(1, 3, size, size),), ("image",), (*finer, "image_embed"), {}, size
    )
    features = (
        torch.zeros(1, width, grid, grid),
        torch.zeros(1, width // 8, 4 * grid, 4 * grid),
        torch.zeros(1, width // 4, 2 * grid, 2 * grid),
    )
    decoder = Part(
        "decoder",
        Sam2Decoder(model),
        (*features, *_prompts(size, 4 * grid)),
        ("image_embed", *finer, *_PROMPTS),
        ("masks", "iou_predictions"),
        {**_PROMPTS, "masks": {0: "prompts"}, "iou_predictions": {0: "prompts"}},
        size,
    )
    return encoder, decoder


_PARTS: dict[str, Callable[[Any], tuple[Part, Part]]] = {
    "segment_anything.Sam": _sam,
    "segment_anything_hq.Sam": _sam,
    "mobile_sam.Sam": _sam,
    "sam2.SAM2Base": _sam2,
}


def _prompts(size: int, side: int) -> tuple[Tensor, ...]:
    """Return two prompts of three points each, with masks of `side` by `side` pixels."""
    points = torch.linspace(0, size, 12).reshape(2, 3, 2)
    labels = torch.tensor([[1.0, 0.0, -1.0], [2.0, 3.0, -1.0]])
    return points, labels, torch.zeros(2, 1, side, side), torch.zeros(2)


class SamEncoder(nn.Module):
    """Takes a picture, RGB from 0 to 255, whose long side has the encoder's size."""

    def __init__(self, model: Any, size: int, is_hq: bool) -> None:
        super().__init__()
        self.model, self._size, self._is_hq = model, size, is_hq

    def forward(self, input_image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the embeddings, and of SAM-HQ also the features behind the first global layer."""
        image = input_image.permute(2, 0, 1)
        image = (image - self.model.pixel_mean) / self.model.pixel_std
        height, width = image.shape[1:]
        padded = functional.pad(image, (0, self._size - width, 0, self._size - height))
        found: Any = self.model.image_encoder(
            padded.reshape(1, 3, self._size, self._size)
        )  # from here on, sizes are known
        if self._is_hq:
            return found[0], found[1][0][None]
        embeddings: Tensor = found[0] if isinstance(found, tuple) else found  # segment_anything_hq adds early features
        return embeddings


class SamDecoder(nn.Module):
    """Prompt encoder, mask decoder, and enlarging of the masks."""

    def __init__(self, model: Any, size: int) -> None:
        super().__init__()
        self.model, self._size = model, size

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return masks of the picture's size, predicted IoUs, and masks of the decoder's size."""
        prompts = self._embed(point_coords, point_labels, mask_input, has_mask_input)
        low, scores = self.model.mask_decoder.predict_masks(image_embeddings, *prompts)
        return self._enlarge(low, orig_im_size), scores, low

    def _embed(self, points: Tensor, labels: Tensor, mask: Tensor, has_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        encoder = self.model.prompt_encoder
        return encoder.get_dense_pe(), embed_points(encoder, points, labels), embed_mask(encoder, mask, has_mask)

    def _enlarge(self, low: Tensor, orig_im_size: Tensor) -> Tensor:
        """Scale masks to the encoder's picture, cut off its padding, and scale them to the size (height, width)."""
        whole = functional.interpolate(low, size=(self._size, self._size), mode="bilinear", align_corners=False)
        wanted = orig_im_size.to(torch.int64)
        long = wanted.max()
        height, width = torch.div(2 * self._size * wanted + long, 2 * long, rounding_mode="trunc").unbind()
        cut, size = whole[..., :height, :width], wanted.unbind()  # sizes are tensors, so that tracing sees them
        return functional.interpolate(cut, size=size, mode="bilinear", align_corners=False)  # type: ignore[arg-type]


class HqDecoder(SamDecoder):
    """The same of SAM-HQ, which adds a mask of high quality to the others."""

    def forward(  # type: ignore[override]
        self,
        image_embeddings: Tensor,
        interm_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return masks and IoUs, first for a clear prompt, then of the best mask for an ambiguous one."""
        decoder = self.model.mask_decoder
        early = decoder.compress_vit_feat(interm_embeddings[0].permute(0, 3, 1, 2))
        prompts = self._embed(point_coords, point_labels, mask_input, has_mask_input)
        masks, scores = decoder.predict_masks(
            image_embeddings, *prompts, decoder.embedding_encoder(image_embeddings) + early
        )
        several, quality = masks[:, 1:-1], scores[:, 1:]
        best, rest = _best(several, quality)
        low = torch.cat([masks[:, :1], best], 1) + masks[:, -1:]
        return self._enlarge(low, orig_im_size), torch.cat([scores[:, :1], rest], 1), low


class Sam2Encoder(nn.Module):
    """Takes a picture of the encoder's size, whose channels were normalised by the means and deviations of ImageNet."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        trunk = model.image_encoder.trunk
        side = model.image_size // trunk.patch_embed.proj.stride[0]
        self._down, self._across = (bicubic_matrix(count, side) for count in trunk.pos_embed.shape[2:])

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return features of strides 4 and 8, as the mask decoder takes them, and the embedding."""
        with _replaced(self.model.image_encoder.trunk, "_get_pos_embed", self._positions):
            found = self.model.forward_image(image)["backbone_fpn"]
        *finer, embedding = found[-self.model.num_feature_levels :]
        if self.model.directly_add_no_mem_embed:
            embedding = embedding + self.model.no_mem_embed.reshape(1, -1, 1, 1)
        return *finer, embedding

    def _positions(self, _: object) -> Tensor:
        """Return the encoder's embedding of positions, (1, height, width, channels).

        OpenVINO computes constants when it loads a file, and took minutes to enlarge this one by ONNX's operator Resize.
        """
        trunk = self.model.image_encoder.trunk
        whole = self._down @ trunk.pos_embed @ self._across.T
        repeats = [length // window for length, window in zip(whole.shape, trunk.pos_embed_window.shape, strict=True)]
        found: Tensor = whole + trunk.pos_embed_window.tile(repeats)
        return found.permute(0, 2, 3, 1)


class Sam2Decoder(nn.Module):
    """Prompt encoder and mask decoder."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        image_embed: Tensor,
        high_res_feats_0: Tensor,
        high_res_feats_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return masks of the decoder's size and predicted IoUs."""
        encoder, decoder = self.model.sam_prompt_encoder, self.model.sam_mask_decoder
        point_coords = torch.cat([point_coords, torch.zeros_like(point_coords[:, :1])], 1)
        point_labels = torch.cat([point_labels, -torch.ones_like(point_labels[:, :1])], 1)
        masks, scores, _, _ = decoder.predict_masks(
            image_embed,
            encoder.get_dense_pe(),
            embed_points(encoder, point_coords, point_labels),
            embed_mask(encoder, mask_input, has_mask_input),
            True,
            [high_res_feats_0, high_res_feats_1],
        )
        single, quality = masks[:, :1], scores[:, :1]
        if decoder.dynamic_multimask_via_stability:  # where the first mask is not stable, the best of the others
            single, quality = decoder._dynamic_multimask_via_stability(masks, scores)
        return torch.cat([single, masks[:, 1:]], 1), torch.cat([quality, scores[:, 1:]], 1)


def bicubic_matrix(count: int, size: int) -> Tensor:
    """Return what scales `count` values to `size` by bicubic interpolation as a product, float32 (size, count)."""
    units = torch.eye(count).reshape(1, count, count, 1)
    return functional.interpolate(units, size=(size, 1), mode="bicubic")[0, :, :, 0].T


@contextlib.contextmanager
def _replaced(module: nn.Module, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """Give a module another method while the block runs."""
    setattr(module, name, method)
    try:
        yield
    finally:
        delattr(module, name)


def embed_points(encoder: Any, points: Tensor, labels: Tensor) -> Tensor:
    """Return what a prompt encoder makes of points (n, p, 2) and labels (n, p) of any kind: (n, p, channels)."""
    kinds = torch.cat([encoder.not_a_point_embed.weight, *(kind.weight for kind in encoder.point_embeddings)])
    height, width = encoder.input_image_size
    places = encoder.pe_layer._pe_encoding((points + 0.5) / torch.tensor([width, height], dtype=torch.float32))
    embedded: Tensor = places * (labels >= 0).to(torch.float32)[..., None] + kinds[labels.to(torch.int64) + 1]
    return embedded


def embed_mask(encoder: Any, mask: Tensor, has_mask: Tensor) -> Tensor:
    """Return what a prompt encoder makes of mask logits (n, 1, height, width) where has_mask (n,) is 1."""
    has_mask = has_mask.reshape(-1, 1, 1, 1)
    without = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    embedded: Tensor = has_mask * encoder.mask_downscaling(mask) + (1 - has_mask) * without
    return embedded


def _best(masks: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mask of the highest score, (n, 1, height, width), and the score, (n, 1)."""
    quality, which = scores.max(1, keepdim=True)
    place = which[..., None, None].expand(-1, -1, *masks.shape[2:])
    return masks.gather(1, place), quality
