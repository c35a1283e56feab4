"""The device of a model: what callers may pass, where a model is, and what to do when the memory runs out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import nn

from bhk.base.errors import option
from bhk.nn.errors import DeviceMemoryError, LoadOptionError

# A torch device, or its name: "cpu", "cuda:1".
Device: TypeAlias = torch.device | str


def usable_device(device: Device) -> torch.device:
    """Return the torch device that `device` names, after a first allocation on it.

    >>> from bhk.nn.device import usable_device
    >>> usable_device("cpu")
    device(type='cpu')

    Raises:
        LoadOptionError: torch cannot use the device, or it holds no data (meta).
    """
    try:
        # With its index, because "cuda" alone means another GPU in each thread.
        found = torch.empty(0, device=torch.device(device)).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = _why_no_gpu(device) or str(error).strip().partition("\n")[0]
        raise LoadOptionError(f"device {str(device)!r} cannot be used ({reason}); choose another one") from None
    if found.type == "meta":
        raise LoadOptionError("device 'meta' holds no data; choose another one")
    return found


def _why_no_gpu(device: str | torch.device) -> str:
    """Return why there is no CUDA device at all; an empty text if there is one, or another kind is asked for."""
    if not str(device).startswith("cuda") or torch.cuda.is_available():
        return ""
    return "PyTorch finds no NVIDIA GPU with a driver" if torch.version.cuda else "this PyTorch was built without CUDA"


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's tensors, or the CPU if the model has none."""
    tensors = [*model.parameters(), *model.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


@contextlib.contextmanager
def memory_error(model: nn.Module, width: int, height: int) -> Iterator[None]:
    """Turn torch's out-of-memory error into advice, while `model` works on a picture of this size in pixels.

    Raises:
        DeviceMemoryError: the device is full.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"{device_of(model)} has no room for masks of {width} x {height} pixels; "
            f"use another {option('device')}, {option('dtype', 'bfloat16')}, or a smaller picture"
        ) from error
