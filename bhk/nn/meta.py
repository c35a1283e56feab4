"""Models without weights: modules built in no time, whose parameters a .bhk file will bring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_META = torch.device("meta")


def weights_on_meta() -> AbstractContextManager[object]:
    """Return a context in which modules are built with their weights on the meta device: without memory or initialisation.

    Only what `torch.empty` makes goes there, which is how torch's own modules make their parameters. What a module
    computes while it is built (tables of positions, means of pixels) is real, unlike under `torch.device("meta")`:
    such buffers are often in no checkpoint. Parameters made by `torch.zeros` are real too, and replaced on loading.
    Moving a module to a device inside the context leaves its weights where they are.
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
        elif func is torch.Tensor.to and args[0].is_meta:  # there is nothing to copy, and torch refuses
            args = tuple(_META if isinstance(value, str | torch.device) else value for value in args)
            options = {name: _META if name == "device" else value for name, value in options.items()}
        return func(*args, **options)
