"""Building modules quickly and without weights, which a .bhk file then provides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_META = torch.device("meta")


def weights_on_meta() -> AbstractContextManager[object]:
    """Return a context in which modules are built with their weights on the meta device: no memory, no initialisation.

    >>> with bhk.nn.weights_on_meta():
    ...     layer = torch.nn.Linear(1280, 5120)
    >>> layer.weight.device
    device(type='meta')

    Only tensors from `torch.empty` go there; torch's own modules make their parameters with it. Tensors that a module computes
    while it is built (position tables, pixel means) are real, unlike under `torch.device("meta")`. Such buffers are often in
    no checkpoint. Parameters made by `torch.zeros` are real as well, and loading replaces them. Inside the context, moving a
    module to a device does not move its weights.
    """
    return _WeightsOnMeta()


class _WeightsOnMeta(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func is torch.empty and options.get("device") is None:
            options["device"] = _META
        elif func is torch.Tensor.to and args[0].is_meta:  # torch refuses, because there is nothing to copy
            args = tuple(_META if isinstance(value, str | torch.device) else value for value in args)
            options = {name: _META if name == "device" else value for name, value in options.items()}
        return func(*args, **options)
