from __future__ import annotations

import pytest
import torch

from bhk.checkpoint import UnsupportedTensorError, of_module
from bhk.checkpoint.contents import untie
from checkpoint.wrapper import Wrapper


def test_only_the_same_view_of_the_same_memory_is_tied() -> None:
    base = torch.arange(12.0)
    named = {
        "a": base,
        "same": base.view(12),
        "shape": base.view(3, 4),
        "strides": base.view(3, 4).T.contiguous().T,
        "offset": base[1:],
        "dtype": base.view(torch.int32),
        "equal": base.clone(),
        "again": torch.nn.Parameter(base),
    }
    tensors, aliases = untie(named.items())
    assert aliases == {"a": ("same", "again")}
    assert list(tensors) == ["a", "shape", "strides", "offset", "dtype", "equal"]


def test_empty_tensors_are_not_tied() -> None:
    tensors, aliases = untie([("a", torch.zeros(0, 3)), ("b", torch.zeros(0, 3))])
    assert list(tensors) == ["a", "b"]
    assert aliases == {}


def test_parameters_become_plain_tensors_without_a_copy() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    tensors, _ = untie([("p", parameter)])
    assert type(tensors["p"]) is torch.Tensor
    assert not tensors["p"].requires_grad
    assert tensors["p"].data_ptr() == parameter.data_ptr()


def test_overlapping_views_keep_their_values() -> None:
    base = torch.arange(6.0)
    tensors, aliases = untie([("window", base.unfold(0, 3, 1)), ("transposed", base.view(2, 3).T)])
    assert aliases == {}
    assert tensors["window"].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    assert tensors["transposed"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_lazily_conjugated_tensor_is_made_real() -> None:
    tensors, _ = untie([("c", torch.tensor([1 + 2j]).conj())])
    assert not tensors["c"].is_conj()
    assert tensors["c"].item() == 1 - 2j


@pytest.mark.parametrize(
    ("tensor", "fault"), [(torch.eye(3).to_sparse(), "sparse"), (torch.empty(3, device="meta"), "meta")]
)
def test_a_tensor_without_dense_data_is_named(tensor: torch.Tensor, fault: str) -> None:
    with pytest.raises(UnsupportedTensorError, match=rf"'neck\.weight'.*{fault}"):
        untie([("neck.weight", tensor)])


def test_modules_with_tensors_of_other_kinds_are_refused_by_name() -> None:
    wrapped = torch.nn.Sequential(torch.nn.Linear(4, 4))
    wrapped[0].weight = torch.nn.Parameter(Wrapper(torch.ones(4, 4)), requires_grad=False)
    for module, fault in (
        (wrapped, r"'0\.weight' is a .*Wrapper, which has no data"),
        (torch.nn.Sequential(torch.nn.LazyLinear(8)), r"'0\.weight' has no shape yet"),
    ):
        with pytest.raises(UnsupportedTensorError, match=fault):
            of_module(module)
