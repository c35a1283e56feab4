"""The properties of a GPU, and torch's settings for it, on which the choice of tiles depends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch


@dataclass(frozen=True)
class Gpu:
    """A CUDA device.

    Attributes:
        name: torch's name of the model.
        processors: number of multiprocessors.
        shared_bytes: shared memory that one program can use; 48 KiB where torch does not say.
        has_products: whether Triton compiles products of 8-bit integers and of half precision to the tensor cores.
    """

    name: str
    processors: int
    shared_bytes: int
    has_products: bool = True


@cache
def gpu_of(device: torch.device) -> Gpu:
    """Return the properties of a CUDA device."""
    properties = torch.cuda.get_device_properties(device)
    shared_bytes = getattr(properties, "shared_memory_per_block_optin", 48 << 10)  # torch 2.6 and ROCm do not say
    return Gpu(properties.name, properties.multi_processor_count, shared_bytes, has_products=properties.major >= 8)


def float32_precision() -> str:
    """Return torch's setting for float32 products on a GPU in Triton's words: "ieee" or "tf32"."""
    matmul = torch.backends.cuda.matmul
    # Once it is set, the older setting, allow_tf32, cannot be read.
    return "tf32" if matmul.fp32_precision == "tf32" else "ieee"
