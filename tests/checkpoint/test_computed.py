from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from bhk.checkpoint.computed import computed_weights, pruned_weights


def _pruned(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", 0.5)


@pytest.mark.parametrize(
    "change",
    [
        _pruned,
        torch.nn.utils.spectral_norm,
        torch.nn.utils.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.weight_norm,
        parametrizations.orthogonal,
    ],
    ids=lambda change: f"{change.__module__}.{change.__name__}",
)
@pytest.mark.filterwarnings("ignore:.*is deprecated")
def test_the_call_that_is_named_stores_the_weight(change: Callable[[nn.Module], object]) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    change(model[0])
    ((weight, call),) = computed_weights(model.state_dict().keys()).items()
    assert weight == "0.weight"
    exec(call, {"torch": torch, "layer": model[0]})
    assert computed_weights(model.state_dict().keys()) == {}
    assert set(model.state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_other_parameters_and_a_layer_alone() -> None:
    assert computed_weights({"bias_orig", "bias_mask", "weight"}) == {
        "bias": "torch.nn.utils.prune.remove(layer, 'bias')"
    }
    assert list(computed_weights({"parametrizations.weight.original"})) == ["weight"]
    assert computed_weights({"a.weight_g", "a.weight_mask", "b.weight_orig"}) == {}
    assert computed_weights({"a.weight", "a.weight_g", "a.weight_v"}) == {}


def test_only_pruning_is_told_at_conversion() -> None:
    names = {"a.weight_g", "a.weight_v", "b.weight_orig", "b.weight_mask"}
    assert list(pruned_weights(names)) == ["b.weight"]
