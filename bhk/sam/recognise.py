"""Is this a Segment Anything checkpoint, and which of its tensors are delicate? From key names, never the file name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

# First parts of the names of the modules between image embedding and mask: a few per cent of the weights, most of the error.
_DELICATE = ("mask_decoder", "prompt_encoder", "sam_mask_decoder", "sam_prompt_encoder", "MaskDecoder", "PromtEncoder")
_FAMILIES = {"sam": ("mask_decoder", "MaskDecoder"), "sam2": ("sam_mask_decoder",)}
_PREFIXES = ("", "sam.", "model.")

# Their lattice step is a quarter of the rest's, which is 12 dB.
DELICATE_SNR_DB = 12.0


@dataclass(frozen=True)
class Recognised:
    """A recognised checkpoint.

    Attributes:
        family: "sam" (SAM, SAM-HQ, MobileSAM, ... and transformers' layouts of them) or "sam2".
        prefix: what a wrapper module put before every name.
    """

    family: str
    prefix: str

    def is_delicate(self, name: str) -> bool:
        """Tell whether tensor `name` (without the prefix) belongs to the mask decoder or the prompt encoder."""
        return name.partition(".")[0] in _DELICATE


def recognise(names: Collection[str]) -> Recognised | None:
    """Return what the checkpoint with tensors `names` is; None when it is not of the family."""
    for prefix in _PREFIXES:
        if not all(name.startswith(prefix) for name in names):
            continue
        modules = {name[len(prefix) :].partition(".")[0] for name in names}
        for family, decoders in _FAMILIES.items():
            if modules.intersection(decoders):
                return Recognised(family, prefix)
    return None
