"""The tensors and layers that a plan asks for: decoded on threads and put on their device. The model is only read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bhk.base.errors import option
from bhk.base.parallel import ordered_map
from bhk.codec.codebook import Codes
from bhk.container.header import LayerEntry
from bhk.file.bhkfile import BhkFile
from bhk.nn.errors import ModelMemoryError
from bhk.nn.hyperlinear import HyperLinear
from bhk.nn.model_tensors import ModelTensor
from bhk.nn.plan import Decoding, LoadOptions, Plan, Replacement

# torch raises a plain RuntimeError when the CPU has no memory; only the message tells.
_NO_MEMORY = ("can't allocate memory", "not enough memory")


@dataclass(frozen=True, eq=False)
class Change:
    """A new value for an attribute of a module."""

    module: nn.Module
    attribute: str
    value: nn.Module | Tensor


def build(file: BhkFile, plan: Plan, options: LoadOptions) -> list[Change]:
    """Return all changes to the model that `plan` was made for.

    Raises:
        StreamHashError, ChunkDataError, CodeRangeError: the file is damaged (rules D2 to D4).
        ModelMemoryError: a device does not have enough memory.
    """
    try:
        with torch.no_grad():
            return list(_Builder(file, options).changes(plan))
    except (MemoryError, RuntimeError) as error:
        reason = str(error).partition("\n")[0] or "no memory"
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(
            map(reason.__contains__, _NO_MEMORY)
        ):
            raise
    # Outside the except block, because the traceback of the first error keeps all decoded tensors alive.
    size = sum(layer.dense_bytes for layer in plan.layers)
    raise ModelMemoryError(
        f"no room on {options.device or 'the device of the model'} for {file.container.source.name},"
        f" {size / 1e6:.0f} MB when decoded ({reason}); use another "
        f"{option('device')}, {option('mode', 'hyper')} or a smaller {option('dtype')}"
    )


class _Builder:
    def __init__(self, file: BhkFile, options: LoadOptions) -> None:
        self._file = file
        self._options = options
        self._fresh: dict[int, Tensor] = {}  # id of a tensor of the model -> the tensor that replaces it

    def changes(self, plan: Plan) -> Iterator[Change]:
        done, total = 0, sum(layer.dense_bytes for layer in plan.layers)
        threads = self._options.threads

        def advance(layer: LayerEntry) -> None:
            nonlocal done
            done += layer.dense_bytes
            self._options.progress("Loading", done, total)

        for target in plan.not_in_file:
            yield from self._settle(target, self._place(target.tensor, like=target.tensor))
        for decoding, tensor in zip(plan.decodings, ordered_map(self._decode, plan.decodings, threads), strict=True):
            yield from self._settle(decoding.target, tensor)
            advance(decoding.layer)
        # Last, because a HyperLinear takes over the bias that was loaded before.
        for replacement, module in zip(
            plan.replacements, ordered_map(self._replace, plan.replacements, threads), strict=True
        ):
            yield Change(replacement.place.module, replacement.place.attribute, module)
            advance(replacement.layer)

    def _settle(self, target: ModelTensor, tensor: Tensor) -> Iterator[Change]:
        """Yield the changes that put `tensor` in the place of `target`: several where `target` is shared."""
        old = target.tensor
        if tensor is not old:
            fresh = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
            self._fresh[id(old)] = fresh
            yield from (Change(place.module, place.attribute, fresh) for place in target.places)

    def _place(self, tensor: Tensor, *, like: Tensor) -> Tensor:
        """Return `tensor` with the device and dtype of what replaces `like`."""
        return tensor if tensor.is_meta else tensor.to(self._options.device_of(like), self._options.dtype_of(like))

    def _decode(self, step: Decoding) -> Tensor:
        return self._place(self._file.tensor(step.layer.name), like=step.target.tensor)

    def _replace(self, step: Replacement) -> HyperLinear:
        linear, name = step.linear, step.layer.name
        codebook, codes = self._file.codebook(name), self._file.planes(name)
        assert codebook is not None  # a plan replaces coded layers only
        assert codes is not None
        bias = linear.bias if linear.bias is None else self._fresh.get(id(linear.bias), linear.bias)
        module = HyperLinear.from_codes(
            codebook,
            _moved(codes, self._options.device_of(linear.weight)),
            linear.in_features,
            linear.out_features,
            bias,
            dtype=self._options.dtype_of(linear.weight),
            compute=self._options.compute,
        )
        if bias is not None and module.bias is not None:
            module.bias.requires_grad_(bias.requires_grad)
        return module


def _moved(codes: Codes, device: torch.device) -> Codes:
    shell = None if codes.shell is None else codes.shell.to(device)
    return Codes(codes.winding.to(device), codes.phase.to(device), shell)
