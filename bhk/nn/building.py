"""The tensors and layers that a plan asks for: decoded on threads and put on their device. The model is only read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from bhk.base.errors import option
from bhk.base.memory import is_memory_error
from bhk.base.parallel import ordered_map
from bhk.codec.codebook import Codebook, Codes
from bhk.container.header import LayerEntry
from bhk.file.bhkfile import BhkFile
from bhk.nn.attention import PROJECTIONS, HyperMultiheadAttention
from bhk.nn.embedding import HyperEmbedding
from bhk.nn.errors import ModelMemoryError
from bhk.nn.hyperlinear import HyperLinear
from bhk.nn.model_tensors import ModelTensor
from bhk.nn.plan import Decoding, LoadOptions, Plan, Replacement

_Tensor = TypeVar("_Tensor", bound=Tensor)
_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class NewAttribute:
    """A new value for an attribute of a module."""

    module: nn.Module
    attribute: str
    value: nn.Module | Tensor

    def apply(self) -> None:
        """Make this change."""
        setattr(self.module, self.attribute, self.value)


@dataclass(frozen=True, eq=False)
class NewData:
    """New data for a parameter, which stays the same object, because optimizers may hold it."""

    parameter: nn.Parameter
    data: Tensor

    def apply(self) -> None:
        """Make this change."""
        self.parameter.data = self.data


Change = NewAttribute | NewData


def _takes_data(parameter: nn.Parameter, data: Tensor) -> bool:
    """Return whether a parameter can hold the data of a tensor. One made in inference mode cannot hold those of others."""
    alike = torch._has_compatible_shallow_copy_type(parameter, data)
    return alike and parameter.is_inference() == data.is_inference()


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
        if not is_memory_error(error):
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
        # By the id of a tensor of the model: the tensor that replaces it, and the values that it gets.
        self._fresh: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}

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
        # Last, because a layer on codes takes over the other tensors, which are settled before.
        for replacement, module in zip(
            plan.replacements, ordered_map(self._replace, plan.replacements, threads), strict=True
        ):
            place = replacement.replaced.place
            yield NewAttribute(place.module, place.attribute, module)
            for layer in replacement.held.values():
                advance(layer)

    def _settle(self, target: ModelTensor, tensor: Tensor) -> Iterator[Change]:
        """Yield the changes that put `tensor` in the place of `target`: several where `target` is shared."""
        old = target.tensor
        if tensor is old:
            return
        self._values[id(old)] = tensor
        if isinstance(old, nn.Parameter) and _takes_data(old, tensor):
            yield NewData(old, tensor)
            return
        fresh = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
        self._fresh[id(old)] = fresh
        yield from (NewAttribute(place.module, place.attribute, fresh) for place in target.places)

    def _place(self, tensor: Tensor, *, like: Tensor) -> Tensor:
        """Return `tensor` with the device and dtype of what replaces `like`."""
        return tensor if tensor.is_meta else tensor.to(self._options.device_of(like), self._options.dtype_of(like))

    def _decode(self, step: Decoding) -> Tensor:
        return self._place(self._file.tensor(step.layer.name), like=step.target.tensor)

    def _replace(self, step: Replacement) -> nn.Module:
        """Return the layer on codes that takes the place of another layer."""
        layer, held = step.replaced.layer, step.held
        if isinstance(layer, nn.Linear):
            return self._linear(layer.weight, layer.bias, held["weight"])
        if isinstance(layer, nn.Embedding):
            return self._embedding(layer, held["weight"])
        assert isinstance(layer, nn.MultiheadAttention)  # there are no other replaceable layers
        return self._attention(layer, held)

    def _linear(
        self, weight: Tensor, bias: Tensor | None, held: LayerEntry | None, rows: slice = _ALL, biases: slice = _ALL
    ) -> nn.Module:
        """Return a linear layer with these rows of a weight and a bias, on the codes of `held`, or dense if that is None."""
        module: nn.Module
        if held is None:
            module = nn.Linear(weight.shape[1], len(weight[rows]), False, "meta", weight.dtype)
            module.weight = self._part(weight, rows)
        else:
            module = HyperLinear.from_codes(
                *self._codes(held, weight, rows),
                weight.shape[1],
                len(weight[rows]),
                dtype=self._options.dtype_of(weight),
                compute=self._options.compute,
            )
        module.bias = None if bias is None else self._part(bias, biases)  # type: ignore[assignment]
        return module

    def _part(self, tensor: Tensor, rows: slice) -> Tensor:
        """Return what takes the place of a parameter of the model, or a parameter with some of its rows."""
        if rows is _ALL:
            return self._now(tensor)
        return nn.Parameter(self._values.get(id(tensor), tensor)[rows].detach(), tensor.requires_grad)

    def _embedding(self, embedding: nn.Embedding, held: LayerEntry) -> HyperEmbedding:
        sizes = embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx
        module = HyperEmbedding(*sizes, device="meta", dtype=self._options.dtype_of(embedding.weight))
        module.hold(*self._codes(held, embedding.weight))
        return module

    def _attention(self, attention: nn.MultiheadAttention, held: Mapping[str, LayerEntry]) -> HyperMultiheadAttention:
        projections = {}
        for place, name in enumerate(PROJECTIONS):
            rows = biases = slice(place * attention.embed_dim, (place + 1) * attention.embed_dim)
            weight = "in_proj_weight"
            if attention.in_proj_weight is None:
                weight, rows = f"{name}_weight", _ALL
            bias, codes = attention.in_proj_bias, held.get(weight)
            projections[name] = self._linear(getattr(attention, weight), bias, codes, rows, biases)
        out = attention.out_proj
        if "out_proj.weight" in held:
            projections["out_proj"] = self._linear(out.weight, out.bias, held["out_proj.weight"])
        made = HyperMultiheadAttention.of(attention, **projections)
        for name, parameter in made._parameters.items():
            made._parameters[name] = None if parameter is None else self._now(parameter)
        return made

    def _now(self, tensor: _Tensor) -> _Tensor:
        """Return what takes the place of a tensor of the model."""
        return self._fresh.get(id(tensor), tensor)  # type: ignore[return-value]

    def _codes(self, layer: LayerEntry, weight: Tensor, rows: slice = _ALL) -> tuple[Codebook, Codes]:
        """Return the codes of some rows of `layer`, on the device of what replaces `weight`."""
        codebook, codes = self._file.codebook(layer.name), self._file.planes(layer.name)
        assert codebook is not None  # a plan replaces coded layers only
        assert codes is not None
        device = self._options.device_of(weight)

        def chosen(plane: Tensor) -> Tensor:
            return plane.view(weight.shape[0], -1)[rows].reshape(-1).to(device)

        shell = None if codes.shell is None else chosen(codes.shell)
        return codebook, Codes(chosen(codes.winding), chosen(codes.phase), shell)
