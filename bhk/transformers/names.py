"""What transformers calls the tensors of a file: it renames those of older checkpoints, and adds or takes off prefixes."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key


@dataclass(frozen=True)
class Naming:
    """Where the tensors of a file go in a model; the model has no place for those that are in neither field.

    Attributes:
        places: name in the file -> name in the model.
        fused: names in the file of tensors of which transformers makes others.
    """

    places: Mapping[str, str]
    fused: frozenset[str]

    def is_used(self, name: str) -> bool:
        """Tell whether the model takes the tensor of that name in the file."""
        return name in self.places or name in self.fused


def find_names(
    model: PreTrainedModel, known: Container[str], names: Iterable[str], conversions: Sequence[Any]
) -> Naming:
    """Return what `convert_and_load_state_dict_in_model` of transformers will make of the `names` in a file.

    Args:
        known: the names of the model's state dict.
        conversions: as `get_model_conversion_mapping` returns them; they are left as they are.
    """
    steps = copy.deepcopy(list(conversions))  # they note that they were used
    renamings = [step for step in steps if isinstance(step, WeightRenaming)]
    converters = [step for step in steps if isinstance(step, WeightConverter)]
    prefix, lookup = model.base_model_prefix, _Known(known)
    places: dict[str, str] = {}
    fused = set()
    for name in sorted(names, key=dot_natural_key):  # some renamings depend on those before
        renamed, pattern = rename_source_key(name, renamings, converters, prefix, lookup)
        if renamed not in known and name in known:
            renamed, pattern = rename_source_key(name, [], [], prefix, lookup)
        if pattern is not None:
            fused.add(name)
        elif renamed in known:
            places[name] = renamed
    return Naming(places, frozenset(fused))


class _Known(dict[str, bool]):
    """Answers for the model's state dict, of which transformers only asks whether it holds a name."""

    def __init__(self, names: Container[str]) -> None:
        self._names = names

    def get(self, key: str, default: Any = None) -> Any:
        return True if key in self._names else default
