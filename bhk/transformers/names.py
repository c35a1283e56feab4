"""The names that transformers gives to the tensors of a file: it renames older ones, and adds or removes prefixes."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key


@dataclass(frozen=True)
class Naming:
    """Where the tensors of a file go in a model. The model does not use tensors that are in neither field.

    Attributes:
        places: name in the file -> name in the model.
        fused: names in the file of tensors that transformers converts into others.
    """

    places: Mapping[str, str]
    fused: frozenset[str]

    def is_used(self, name: str) -> bool:
        """Return whether the model uses the tensor with that name in the file."""
        return name in self.places or name in self.fused


def find_names(
    model: PreTrainedModel, known: Container[str], names: Iterable[str], conversions: Sequence[Any]
) -> Naming:
    """Return how transformers' `convert_and_load_state_dict_in_model` will rename the `names` in a file.

    Args:
        known: the names of the model's state dict.
        conversions: as `get_model_conversion_mapping` returns them; they are not changed.
    """
    steps = copy.deepcopy(list(conversions))  # a copy, because they record their own use
    renamings = [step for step in steps if isinstance(step, WeightRenaming)]
    converters = [step for step in steps if isinstance(step, WeightConverter)]
    prefix, lookup = model.base_model_prefix, _Known(known)
    places: dict[str, str] = {}
    fused = set()
    for name in sorted(names, key=dot_natural_key):  # some renamings depend on earlier ones
        renamed, pattern = rename_source_key(name, renamings, converters, prefix, lookup)
        if renamed not in known and name in known:
            renamed, pattern = rename_source_key(name, [], [], prefix, lookup)
        if pattern is not None:
            fused.add(name)
        elif renamed in known:
            places[name] = renamed
    return Naming(places, frozenset(fused))


class _Known(dict[str, bool]):
    """Stands in for the model's state dict, which transformers only asks whether it holds a name."""

    def __init__(self, names: Container[str]) -> None:
        self._names = names

    def get(self, key: str, default: Any = None) -> Any:
        return True if key in self._names else default
