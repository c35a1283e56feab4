"""Models of the family as their own packages build them and ask them, to compare bhk with.

Each kind of model is built at its published size by the builder of its package, and asked with the package's own predictor.
Where a model of transformers is too large for that, it has the published widths and fewer layers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from bhk.pictures.image import Rgb
from bhk.pictures.prompts import Prompt
from bhk.sam.architecture import Sam3
from bhk.sam.original_sam3 import build_sam3
from bhk.sam.variants import FAMILIES, Variant

Ask = Callable[[Any, Rgb, Sequence[Prompt]], None]


@dataclass(frozen=True)
class Authors:
    """How the package of a model builds it and asks it.

    Attributes:
        package: as it is imported.
        build: returns the model with random weights.
        ask: asks a model about a picture, with each of the prompts.
        decoder: the module of a model that returns mask logits, (…, height, width), first.
        published: returns the name in the published file for a name in the model.
    """

    package: str
    build: Callable[[Variant], nn.Module]
    ask: Ask
    decoder: str = "mask_decoder"
    published: Callable[[str], str] = str

    def logits(self, model: nn.Module, picture: Rgb, prompts: Sequence[Prompt]) -> Tensor:
        """Return what the decoder of a model finds when the package asks it, float32 (prompts, masks, height, width)."""
        with Caught(model.get_submodule(self.decoder)) as found, torch.no_grad():
            self.ask(model, picture, prompts)
        return torch.cat(found)


class Caught:
    """Collects the mask logits that a decoder returns in a `with` block, float32 (1, masks, height, width) each."""

    def __init__(self, decoder: nn.Module) -> None:
        self._decoder, self._found = decoder, list[Tensor]()

    def __enter__(self) -> list[Tensor]:
        self._hook = self._decoder.register_forward_hook(self._keep)
        return self._found

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _keep(self, module: nn.Module, inputs: object, outputs: Any) -> None:
        logits: Tensor = outputs[0]
        self._found.append(logits.detach().float().reshape(1, -1, *logits.shape[-2:]))


def authors_of(variant: Variant) -> Authors | None:
    """Return how the package of a variant builds it and asks it; None where that is not known here or not installed.

    Nor is it known of one whose authors prepare pictures in a script: see `tools.relatives`.
    """
    if variant.prepares:
        return None
    found = _AUTHORS.get(variant.name) if variant.packages else _AUTHORS.get(variant.family)
    return found if found is not None and importlib.util.find_spec(found.package) is not None else None


def _registered(variant: Variant, package: str, registry: str = "sam_model_registry", key: str = "") -> nn.Module:
    """Build by a package's registry, where the model is called like the end of the variant's name unless there is a key."""
    found = getattr(importlib.import_module(package), registry)
    model: nn.Module = found[key or f"vit_{variant.name[-1]}"]()
    return model


def _sam2(variant: Variant) -> nn.Module:
    from sam2.build_sam import build_sam2

    model: nn.Module = build_sam2(variant.config, device="cpu")
    return model


def _sam3(variant: Variant) -> nn.Module:
    """Build by the package's builder, kept from the GPU that it asks for."""
    return build_sam3(importlib.import_module("sam3"), Sam3())


def _published_sam3(name: str) -> str:
    inner = name.removeprefix("inst_interactive_predictor.model.")
    return f"detector.{name}" if inner == name else f"tracker.{inner}"


def _by_sam3(model: Any, picture: Rgb, prompts: Sequence[Prompt]) -> None:
    """Ask with the processor of Meta's package and the predictor in its model."""
    module: Any = importlib.import_module("sam3.model.sam3_image_processor")
    state = module.Sam3Processor(model, device="cpu").set_image(Image.fromarray(picture))
    for prompt in prompts:
        points, labels = _arrays(prompt)
        box = None if prompt.box is None else np.array(prompt.box)
        model.predict_inst(state, point_coords=points, point_labels=labels, box=box, multimask_output=True)


def _transformers(variant: Variant, **sizes: int) -> nn.Module:
    """Build a model of transformers by its usual configuration; `sizes` are set wherever it has such a number."""
    import transformers

    kind: Any = getattr(transformers, next(iter(FAMILIES[variant.family].classes.values())))
    config = kind.config_class()
    _set(config, sizes)
    model: nn.Module = kind(config)
    return model


def _set(config: Any, sizes: dict[str, int]) -> None:
    for name, value in list(vars(config).items()):
        if hasattr(value, "model_type"):
            _set(value, sizes)
        elif name in sizes:
            setattr(config, name, sizes[name])


def _by_predictor(model: Any, picture: Rgb, prompts: Sequence[Prompt], *, kind: str) -> None:
    """Ask with a predictor that sets the picture first, such as `segment_anything.SamPredictor`."""
    module, _, name = kind.rpartition(".")
    predictor = getattr(importlib.import_module(module), name)(model)
    predictor.set_image(picture)
    for prompt in prompts:
        points, labels = _arrays(prompt)
        box = None if prompt.box is None else np.array(prompt.box)
        predictor.predict(point_coords=points, point_labels=labels, box=box, multimask_output=True)


def _arrays(prompt: Prompt) -> tuple[Any, Any]:
    points = prompt.points + prompt.not_points
    if not points:
        return None, None
    return np.array(points), np.array([1] * len(prompt.points) + [0] * len(prompt.not_points))


def _by_processor(model: Any, picture: Rgb, prompts: Sequence[Prompt], *, kind: str, images: str) -> None:
    """Ask with a processor of transformers, such as `SamProcessor`, and the processor of images that it takes."""
    import transformers

    side = model.config.prompt_encoder_config.image_size
    square = {"height": side, "width": side}
    sizes = {"size": {"longest_edge": side}, "pad_size": square} if images == "SamImageProcessor" else {"size": square}
    processor = getattr(transformers, kind)(getattr(transformers, images)(**sizes))
    for prompt in prompts:
        points, labels = _arrays(prompt)
        inputs = processor(
            images=picture,
            input_points=None if points is None else [[points.tolist()]],
            input_labels=None if labels is None else [[labels.tolist()]],
            input_boxes=None if prompt.box is None else [[list(prompt.box)]],
            return_tensors="pt",
        )
        for name in ("original_sizes", "reshaped_input_sizes"):
            inputs.pop(name, None)
        model(**inputs, multimask_output=True)


def _by_tokens(model: Any, picture: Rgb, prompts: Sequence[Prompt]) -> None:
    """Ask SAM 3 for what the tokens of a text name, one text for each prompt."""
    import transformers

    detector = getattr(model, "detector_model", model)
    side = detector.config.image_size
    images = transformers.Sam3ImageProcessor(size={"height": side, "width": side})
    pixels = images(images=picture, return_tensors="pt")["pixel_values"]
    length = detector.config.text_config.max_position_embeddings
    for number in range(len(prompts)):
        tokens = torch.randint(1, 1000, (1, length), generator=torch.Generator().manual_seed(number))
        detector(pixel_values=pixels, input_ids=tokens, attention_mask=torch.ones_like(tokens))


_SAM = partial(_by_predictor, kind="segment_anything.SamPredictor")
_HQ = partial(_by_predictor, kind="segment_anything_hq.SamPredictor")
_OF_SAM2 = partial(_by_predictor, kind="sam2.sam2_image_predictor.SAM2ImagePredictor")
_LIKE_SAM, _LIKE_SAM2 = "SamImageProcessor", "Sam2ImageProcessor"
_SHALLOW = partial(_transformers, num_hidden_layers=4, num_layers=2)
_HQ_PACKAGE = "segment_anything_hq"

_AUTHORS = {
    "sam": Authors("segment_anything", partial(_registered, package="segment_anything"), _SAM),
    "sam_hq": Authors(_HQ_PACKAGE, partial(_registered, package=_HQ_PACKAGE), _HQ),
    "sam_hq_tiny": Authors(_HQ_PACKAGE, partial(_registered, package=_HQ_PACKAGE, key="vit_tiny"), _HQ),
    "mobile_sam": Authors(
        _HQ_PACKAGE,
        partial(_registered, package=_HQ_PACKAGE, registry="sam_model_registry_baseline", key="vit_tiny"),
        _HQ,
    ),
    "sam2": Authors("sam2", _sam2, _OF_SAM2, "sam_mask_decoder"),
    "sam3": Authors(
        "sam3", _sam3, _by_sam3, "inst_interactive_predictor.model.sam_mask_decoder", published=_published_sam3
    ),
    "transformers_sam": Authors(
        "transformers", _transformers, partial(_by_processor, kind="SamProcessor", images=_LIKE_SAM)
    ),
    "transformers_sam_hq": Authors(
        "transformers", _transformers, partial(_by_processor, kind="SamHQProcessor", images=_LIKE_SAM)
    ),
    "transformers_sam2": Authors(
        "transformers", _transformers, partial(_by_processor, kind="Sam2Processor", images=_LIKE_SAM2)
    ),
    "transformers_edgetam": Authors(
        "transformers", _transformers, partial(_by_processor, kind="Sam2Processor", images=_LIKE_SAM2)
    ),
    "transformers_sam3": Authors("transformers", _SHALLOW, _by_tokens),
    "transformers_sam3_tracker": Authors(
        "transformers", _SHALLOW, partial(_by_processor, kind="Sam3TrackerProcessor", images="Sam3ImageProcessor")
    ),
    "transformers_sam3_video": Authors("transformers", _SHALLOW, _by_tokens, "detector_model.mask_decoder"),
}
