"""The values that a plan asks for, decoded on threads and put on their device. The model is only read here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bhk.base.parallel import ordered_map
from bhk.codec.codebook import Codes
from bhk.container.header import LayerEntry
from bhk.file.bhkfile import BhkFile
from bhk.nn.errors import OutOfMemoryError
from bhk.nn.hyperlinear import HyperLinear
from bhk.nn.model_tensors import ModelTensor
from bhk.nn.plan import Decoding, Options, Plan, Replacement

Progress = Callable[[int, int], None]

# How torch says that the CPU has no memory, in a plain RuntimeError.
_NO_MEMORY = ("can't allocate memory", "not enough memory")


@dataclass(frozen=True, eq=False)
class Change:
    """The value that an attribute of a module is to take."""

    module: nn.Module
    attribute: str
    value: nn.Module | Tensor


def build(file: BhkFile, plan: Plan, options: Options, threads: int, progress: Progress | None) -> list[Change]:
    """Return every change of the model.

    Raises:
        StreamHashError, ChunkDataError, CodeRangeError: the file is damaged (rules D2 to D4).
        OutOfMemoryError: a device has no room.
    """
    try:
        with torch.no_grad():
            return list(_Builder(file, options, threads).changes(plan, progress))
    except (MemoryError, RuntimeError) as error:
        reason = str(error).partition("\n")[0] or "no memory"
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(
            map(reason.__contains__, _NO_MEMORY)
        ):
            raise
    # Not in the except block: the traceback of the first error refers to all that was decoded.
    size = sum(layer.dense_bytes for layer in plan.layers)
    raise OutOfMemoryError(
        f"no room on {options.device or 'the device of the model'} for {file.container.source.name},"
        f" {size / 1e6:.0f} MB when decoded ({reason}); take another device, mode='hyper' or a smaller dtype"
    )


class _Builder:
    def __init__(self, file: BhkFile, options: Options, threads: int) -> None:
        self._file = file
        self._options = options
        self._threads = threads
        self._fresh: dict[int, Tensor] = {}  # what takes the place of a tensor of the model, by its id

    def changes(self, plan: Plan, progress: Progress | None) -> Iterator[Change]:
        done, total = 0, sum(layer.dense_bytes for layer in plan.layers)

        def advance(layer: LayerEntry) -> None:
            nonlocal done
            done += layer.dense_bytes
            if progress:
                progress(done, total)

        for target in plan.kept:
            yield from self._settle(target, self._place(target.tensor, like=target.tensor))
        for decoding, tensor in zip(
            plan.decodings, ordered_map(self._decode, plan.decodings, self._threads), strict=True
        ):
            yield from self._settle(decoding.target, tensor)
            advance(decoding.layer)
        # Last, because they take their biases with them.
        for replacement, module in zip(
            plan.replacements, ordered_map(self._replace, plan.replacements, self._threads), strict=True
        ):
            yield Change(replacement.place.module, replacement.place.attribute, module)
            advance(replacement.layer)

    def _settle(self, target: ModelTensor, tensor: Tensor) -> Iterator[Change]:
        """Yield the changes by which `tensor` takes the place of `target`, everywhere if it is shared."""
        old = target.tensor
        if tensor is not old:
            fresh = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
            self._fresh[id(old)] = fresh
            yield from (Change(place.module, place.attribute, fresh) for place in target.places)

    def _place(self, tensor: Tensor, *, like: Tensor) -> Tensor:
        """Return `tensor` on the device and with the dtype for what takes the place of `like`."""
        return tensor if tensor.is_meta else tensor.to(self._options.device_of(like), self._options.dtype_of(like))

    def _decode(self, step: Decoding) -> Tensor:
        return self._place(self._file.tensor(step.layer.name), like=step.target.tensor)

    def _replace(self, step: Replacement) -> HyperLinear:
        linear, name = step.linear, step.layer.name
        codebook, codes = self._file.codebook(name), self._file.planes(name)
        assert codebook is not None  # the plan takes no others
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
