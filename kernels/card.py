"""What the choice of tiles has to know of a card and of torch's settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch


@dataclass(frozen=True)
class Card:
    """A CUDA device.

    Attributes:
        name: of the model, as torch gives it.
        processors: number of its multiprocessors.
        shared_bytes: shared memory that one program can have; 48 KiB where torch does not say.
        has_products: whether Triton compiles products of 8-bit integers and of half precision to its tensor cores.
    """

    name: str
    processors: int
    shared_bytes: int
    has_products: bool = True


@cache
def card_of(device: torch.device) -> Card:
    """Return what is known of a CUDA device."""
    properties = torch.cuda.get_device_properties(device)
    shared_bytes = getattr(properties, "shared_memory_per_block_optin", 48 << 10)  # torch 2.6 and ROCm do not say
    return Card(properties.name, properties.multi_processor_count, shared_bytes, has_products=properties.major >= 8)


def float32_precision() -> str:
    """How torch is set to multiply float32 matrices on a card, in Triton's words: "ieee" or "tf32"."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # of torch 2.9; once it is used the older settings cannot be read
        return "tf32" if matmul.fp32_precision == "tf32" else "ieee"
    return "tf32" if matmul.allow_tf32 else "ieee"
