"""The tensors of a model, each listed once with all places that hold it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from bhk.nn.embedding import MIN_ROWS

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True, eq=False)
class Place:
    """An attribute of a module that holds a parameter, a buffer or a submodule.

    Attributes:
        name: dotted name, as in the model's state dict.
    """

    module: nn.Module
    attribute: str
    name: str


@dataclass(frozen=True, eq=False)
class ModelTensor:
    """A parameter or buffer of a model.

    Attributes:
        places: where it is; a shared ("tied") tensor has several.
        names: the names of those places that are in the model's state dict.
    """

    tensor: Tensor
    places: tuple[Place, ...]
    names: tuple[str, ...]

    @property
    def is_recomputed(self) -> bool:
        """Whether `eval()` may recompute it: it is not in the state dict, and its module defines its own `train`."""
        return not self.names and all(type(place.module).train is not nn.Module.train for place in self.places)


def model_tensors(model: nn.Module) -> list[ModelTensor]:
    """Return every parameter and buffer of `model`, in the order of its state dict."""
    places: dict[int, list[Place]] = {}
    names: dict[int, list[str]] = {}
    tensors: dict[int, Tensor] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for attribute, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None:
                continue
            name = _join(path, attribute)
            tensors[id(tensor)] = tensor
            places.setdefault(id(tensor), []).append(Place(module, attribute, name))
            if attribute not in module._non_persistent_buffers_set:
                names.setdefault(id(tensor), []).append(name)
    return [ModelTensor(tensor, tuple(places[key]), tuple(names.get(key, ()))) for key, tensor in tensors.items()]


@dataclass(frozen=True, eq=False)
class Replaceable:
    """A layer that a layer on codes can replace.

    Attributes:
        place: where it is in its parent.
        layer: an `nn.Linear`, `nn.Embedding` or `nn.MultiheadAttention`.
        weights: the matrices that codes can stand for, by their names in the layer.
    """

    place: Place
    layer: nn.Module
    weights: Mapping[str, ModelTensor]


def replaceable_layers(model: nn.Module, tensors: Iterable[ModelTensor]) -> list[Replaceable]:
    """Return the layers of `model` that can be replaced.

    Left out are subclasses of `nn.Linear` and `nn.Embedding` (other modules read their weights), tables that are not looked
    up, layers with shared tensors, layers with hooks or other additions, and `model` itself.

    Args:
        tensors: all tensors of `model`.
    """
    unshared = {id(target.tensor): target for target in tensors if len(target.places) == 1}
    return [
        Replaceable(
            Place(parent, attribute, _join(path, attribute)),
            child,
            {
                name: unshared[id(weight)]
                for name, weight in child.named_parameters()
                if _is_matrix_of(child, name, weight)
            },
        )
        for path, parent in model.named_modules()
        for attribute, child in parent.named_children()
        if _is_plain(child) and unshared.keys() >= set(map(id, child.parameters()))
    ]


def _is_plain(layer: nn.Module) -> bool:
    """Return whether bhk knows all that a layer computes, or all that it reads of its weights."""
    if type(layer) is nn.Linear:
        return set(layer._parameters) == {"weight", "bias"} and _is_leaf(layer)
    if type(layer) is nn.Embedding:
        return layer.max_norm is None and set(layer._parameters) == {"weight"} and _is_leaf(layer)
    if isinstance(layer, nn.MultiheadAttention):
        return set(layer._modules) == {"out_proj"} and is_unaltered(layer) and _is_leaf(layer.out_proj)
    return False


def _is_leaf(layer: nn.Module) -> bool:
    return not layer._buffers and not layer._modules and is_unaltered(layer)


def _is_matrix_of(layer: nn.Module, name: str, weight: Tensor) -> bool:
    is_table = isinstance(layer, nn.Embedding)
    return weight.ndim == 2 and (len(weight) >= MIN_ROWS if is_table else name.endswith("weight"))


def is_unaltered(module: nn.Module) -> bool:
    """Return whether a module has no hooks and no `forward` of its own."""
    return not any(getattr(module, hooks) for hooks in _HOOKS) and "forward" not in vars(module)


def _join(path: str, attribute: str) -> str:
    return f"{path}.{attribute}" if path else attribute


def names_on_meta(model: nn.Module) -> list[str]:
    """Return the names of all tensors on the meta device in `model`: parameters, buffers and plain attributes."""
    return [
        _join(path, attribute)
        for path, module in model.named_modules()
        for attribute, value in (*module._parameters.items(), *module._buffers.items(), *vars(module).items())
        if isinstance(value, Tensor) and value.is_meta
    ]


@contextlib.contextmanager
def unchanged_on_error(model: nn.Module) -> Iterator[None]:
    """Restore all attributes of all modules of `model`, and the data of its parameters, if the block raises.

    It must not write to tensors in place.
    """
    before = [(module, attributes_of(module)) for module in model.modules()]
    data = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        yield
    except BaseException:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)
        for parameter, values in data:
            parameter.data = values
        raise


def private_twin(model: nn.Module) -> nn.Module:
    """Return a module like `model`, of the same tensors and the same parts of parts.

    The model and each of its parts are copied without what they hold. So hooks and attributes of one call are not seen by other
    threads that use the model at the same time.
    """
    twin = _twin(model)
    twin._modules = {name: None if part is None else _twin(part) for name, part in model._modules.items()}
    return twin


def _twin(module: nn.Module) -> nn.Module:
    twin: nn.Module = object.__new__(type(module))
    vars(twin).update(attributes_of(module))
    return twin


def attributes_of(module: nn.Module) -> dict[str, object]:
    """Return the attributes of a module, with copies of its collections, such as its parameters."""
    return {
        name: copy.copy(value) if isinstance(value, dict | list | set) else value
        for name, value in vars(module).items()
    }
