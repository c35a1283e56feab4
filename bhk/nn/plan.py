"""What loading does with each tensor of a model, decided and checked before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bhk.base.errors import listed
from bhk.base.progress import Progress
from bhk.base.texts import counted
from bhk.codec.dtypes import TORCH_DTYPES
from bhk.container.header import LayerEntry
from bhk.file.bhkfile import BhkFile
from bhk.nn.diagnosis import diagnose
from bhk.nn.errors import MismatchError, NoDataError
from bhk.nn.hyperlinear import Compute
from bhk.nn.model_tensors import ModelTensor, Replaceable, model_tensors, names_on_meta, replaceable_layers

Mode = Literal["auto", "hyper", "dense"]

# Up to this many weights, decoding for a product on a CPU takes longer than anything that codes save there. The layers of
# mask decoders are that small, those of most image encoders are not.
SMALL_ON_CPU = 1 << 19

SHOWN = 3  # names in a message


@dataclass(frozen=True)
class LoadOptions:
    """How to load a file into a model; `bhk.load_into` describes the fields.

    Attributes:
        own_name: returns the name that the model has for a name in the file, without the prefix.
        held: patterns of names whose weights keep their codes with mode "auto", however small they are.
    """

    mode: Mode
    compute: Compute
    device: torch.device | None
    dtype: torch.dtype | None
    strict: bool
    prefix: str
    own_name: Callable[[str], str]
    ignore: tuple[str, ...]
    held: tuple[str, ...]
    threads: int
    progress: Progress

    def device_of(self, tensor: Tensor) -> torch.device:
        """Return the device of what replaces `tensor`."""
        if self.device is not None:
            return self.device
        return torch.device("cpu") if tensor.is_meta else tensor.device

    def dtype_of(self, tensor: Tensor) -> torch.dtype:
        """Return the dtype of what replaces `tensor`."""
        return self.dtype if self.dtype is not None and tensor.is_floating_point() else tensor.dtype

    def holds_codes(self, weight: Tensor, names: Iterable[str]) -> bool:
        """Return whether a coded `weight` of a layer, which the model knows by `names`, keeps its codes."""
        is_small = self.device_of(weight).type == "cpu" and weight.numel() <= SMALL_ON_CPU
        if is_small and any(fnmatchcase(name, pattern) for name in names for pattern in self.held):
            is_small = False
        return self.mode == "hyper" or (self.mode == "auto" and not is_small)

    def passes_over(self, name: str) -> bool:
        """Return whether `name`, without the prefix, may be in the file only or in the model only."""
        return any(fnmatchcase(name, pattern) for pattern in self.ignore)


@dataclass(frozen=True, eq=False)
class Decoding:
    """A tensor of the model that takes the values of a tensor of the file."""

    target: ModelTensor
    layer: LayerEntry


@dataclass(frozen=True, eq=False)
class Replacement:
    """A layer of the model that a layer on codes replaces.

    Attributes:
        replaced: the layer.
        held: the tensors of the file whose codes it will hold, by the names of the weights in the layer.
    """

    replaced: Replaceable
    held: Mapping[str, LayerEntry]


@dataclass(frozen=True, eq=False)
class Plan:
    """What happens to every tensor of a model, and the names on which file and model differ.

    Attributes:
        not_in_file: tensors of the model that the file does not hold.
    """

    decodings: tuple[Decoding, ...]
    replacements: tuple[Replacement, ...]
    not_in_file: tuple[ModelTensor, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def layers(self) -> list[LayerEntry]:
        """The tensors of the file that are needed."""
        return [
            *(step.layer for step in self.decodings),
            *(layer for step in self.replacements for layer in step.held.values()),
        ]


def make_plan(model: nn.Module, file: BhkFile, options: LoadOptions) -> Plan:
    """Match the tensors of `file` with those of `model`.

    Raises:
        MismatchError: names (if `options.strict`), shapes or kinds of number differ.
        NoDataError: a tensor of the model on the meta device is not in the file.
    """
    prefix, targets = options.prefix, model_tensors(model)
    places = {options.own_name(name[len(prefix) :]): name for name in file.names if name.startswith(prefix)}
    available = {own: file.layer(name) for own, name in places.items()}
    # If several names of a tensor are in the file, the last one counts, as when a state dict is copied.
    found = {target: available[name] for target in targets for name in target.names if name in available}
    not_in_file = tuple(target for target in targets if target not in found)
    known = {name for target in targets for name in target.names}
    missing = tuple(name for target in not_in_file for name in target.names if not options.passes_over(name))
    unexpected = tuple(name for own, name in places.items() if own not in known and not options.passes_over(own))
    differing = {target: layer for target, layer in found.items() if not _fits(layer, target.tensor)}
    if differing or not found or (options.strict and (missing or unexpected)):
        header, name = file.container.header, file.container.source.name
        faults = [*_faults(missing, unexpected, differing), *diagnose(model, file.names, known, prefix, header.model)]
        message = f"{name} does not fit {type(model).__name__}: {'; '.join(faults) or 'they share no tensor name'}"
        raise MismatchError(message, missing, unexpected, tuple(target.names[-1] for target in differing))
    _check_data(model, (*found, *(target for target in not_in_file if target.is_recomputed)))
    replacements = [] if options.mode == "dense" else list(_replacements(model, targets, found, options))
    coded = {step.replaced.weights[name] for step in replacements for name in step.held}
    decodings = tuple(Decoding(target, layer) for target, layer in found.items() if target not in coded)
    return Plan(decodings, tuple(replacements), not_in_file, missing, unexpected)


def _replacements(
    model: nn.Module, targets: list[ModelTensor], found: Mapping[ModelTensor, LayerEntry], options: LoadOptions
) -> Iterator[Replacement]:
    for replaceable in replaceable_layers(model, targets):
        held = {
            name: found[target]
            for name, target in replaceable.weights.items()
            if target in found and stays_coded(found[target]) and options.holds_codes(target.tensor, target.names)
        }
        if held:
            yield Replacement(replaceable, held)


def stays_coded(layer: LayerEntry) -> bool:
    """Return whether a layer can hold the codes of `layer` as its weight."""
    if layer.codebook is None or len(layer.shape) != 2 or layer.aliases:
        return False
    return layer.pairing == "rows" or layer.shape[1] % 2 == 0  # no pair lies across two rows


def _faults(
    missing: tuple[str, ...], unexpected: tuple[str, ...], differing: dict[ModelTensor, LayerEntry]
) -> Iterator[str]:
    if missing:
        yield f"{named_tensors(missing)} of the model not in the file"
    if unexpected:
        yield f"{named_tensors(unexpected)} of the file not in the model"
    if differing:
        target, layer = next(iter(differing.items()))
        found, expected = _described(layer.shape, TORCH_DTYPES[layer.dtype]), _of(target.tensor)
        names = tuple(target.names[-1] for target in differing)
        yield f"{named_tensors(names)} of another shape or kind: {names[0]} is {found} in the file, {expected} in the model"


def _fits(layer: LayerEntry, tensor: Tensor) -> bool:
    if is_lazy(tensor):
        return False
    return layer.shape == tuple(tensor.shape) and torch.can_cast(TORCH_DTYPES[layer.dtype], tensor.dtype)


def _of(tensor: Tensor) -> str:
    return "of unknown shape" if is_lazy(tensor) else _described(tensor.shape, tensor.dtype)


def _described(shape: Iterable[int], dtype: torch.dtype) -> str:
    return f"{list(shape)} {str(dtype).removeprefix('torch.')}"


def named_tensors(names: Sequence[str]) -> str:
    """Return how many tensors `names` lists, and the first names: "2 tensors (a, b)"."""
    return f"{counted(len(names), 'tensor')} ({listed(names, SHOWN)})"


def _check_data(model: nn.Module, settled: Iterable[ModelTensor]) -> None:
    """Refuse tensors of the model that would stay without data; `settled` are those that will get some."""
    names = {place.name for target in settled for place in target.places}
    refuse_empty(name for name in names_on_meta(model) if name not in names)


def refuse_empty(names: Iterable[str]) -> None:
    """Raise an error if there are any `names` of tensors without data.

    Raises:
        NoDataError: there are some.
    """
    empty = tuple(names)
    if empty:
        raise NoDataError(
            f"{named_tensors(empty)} of the model on the meta device would stay without data, because the file does not "
            "hold them; build the model under bhk.nn.weights_on_meta(), which keeps what modules compute themselves"
        )
