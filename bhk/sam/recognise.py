"""Is this a Segment Anything checkpoint, which one, and how finely is each tensor to be coded? By names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from bhk.container.header import ModelEntry
from bhk.sam.architecture import Architecture, Shapes, UnreadableShapesError, VitEncoder
from bhk.sam.variants import FAMILIES, Family, Variant, find_variant

_PREFIXES = ("", "sam.", "model.")

# First parts of names. The modules between image embedding and mask are a few per cent of the weights and make most of the
# error, the image encoder is nearly all of the weights and makes little of it. With a quarter of the encoder's step for them,
# which is 12 dB, the demo model is smaller and its masks are closer to the original's than with one step for all.
_BEHIND = ("mask_decoder", "prompt_encoder", "sam_mask_decoder", "sam_prompt_encoder", "MaskDecoder", "PromtEncoder")
_ENCODERS = ("image_encoder", "vision_encoder", "ImageEncoder")
BEHIND_DB = 6.0
ENCODER_DB = -6.0


@dataclass(frozen=True)
class Recognised:
    """A recognised checkpoint.

    Attributes:
        family: its architecture and layout.
        prefix: what a wrapper module put before every name.
        architecture: its sizes; None where the shapes are not those of the family, such as those of a part of a model.
        variant: the published model of these sizes; None where there is none.
    """

    family: Family
    prefix: str
    architecture: Architecture | None = None
    variant: Variant | None = None

    @property
    def entry(self) -> ModelEntry:
        """What a header says of the model, for a loader to build it."""
        arguments = {} if self.architecture is None else msgspec.json.decode(msgspec.json.encode(self.architecture))
        return ModelEntry(self.family.name, self.variant.name if self.variant else None, arguments)

    def finer_db(self, name: str) -> float:
        """Return by how many dB the signal-to-noise ratio of tensor `name` (without the prefix) is above the model's."""
        module = name.partition(".")[0]
        if module in _BEHIND:
            return BEHIND_DB
        return ENCODER_DB if module in _ENCODERS or self.family.type is VitEncoder else 0.0


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
    """Return what the checkpoint with tensors of these names and shapes is; None when it is not of the family."""
    for prefix in _PREFIXES:
        if not all(name.startswith(prefix) for name in shapes):
            continue
        stripped = Shapes({name[len(prefix) :]: shape for name, shape in shapes.items()})
        for family in FAMILIES.values():
            if all(map(stripped.has, family.marks)):
                architecture = _read(family, stripped)
                variant = None if architecture is None else find_variant(family.name, architecture)
                return Recognised(family, prefix, architecture, variant)
    return None


def _read(family: Family, shapes: Shapes) -> Architecture | None:
    """Return the architecture as a header would bring it back, which bounds its sizes; None when the shapes tell none."""
    try:
        return msgspec.convert(msgspec.to_builtins(family.read(shapes)), family.type)
    except (UnreadableShapesError, msgspec.ValidationError):
        return None
