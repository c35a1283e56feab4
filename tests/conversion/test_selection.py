from __future__ import annotations

from typing import Any

import pytest
import torch
from tasks.checkpoints import draw, small

from bhk.conversion.quality import Quality
from bhk.conversion.selection import PatternError, PlannedTensor, select


def _select(
    tensors: dict[str, torch.Tensor], aliases: dict[str, tuple[str, ...]] | None = None, **quality: Any
) -> dict[str, PlannedTensor]:
    selected = select(tensors, aliases or {}, Quality(**quality), lambda name: 0.0)
    return {planned.name: planned for planned in selected}


def test_vectors_and_small_tables_are_coded_where_they_will_be_measured() -> None:
    tensors = draw({"a.weight": (32, 32), "b.bias": (128,), "c.bias": (127,), "d.weight": (4, 100)})
    tensors |= {"e.running_mean": torch.randn(256), "f.bias": torch.zeros(256, dtype=torch.int64)}
    selected = select(tensors, {}, Quality(exact="d.*"), lambda name: 0.0, measured=True)
    assert [planned.name for planned in selected if planned.coded] == ["a.weight", "b.bias"]
    assert [planned.name for planned in selected if planned.delicate] == ["b.bias", "d.weight"]
    assert _coded(_select(tensors)) == ["a.weight"]
    with pytest.raises(PatternError, match="no tensor that the patterns choose can be coded"):
        select(tensors, {}, Quality(only="b.*"), lambda name: 0.0, measured=True)


def _coded(selected: dict[str, PlannedTensor]) -> list[str]:
    return [name for name, planned in selected.items() if planned.coded]


def test_matrices_are_coded_and_what_is_small_or_flat_is_not() -> None:
    tensors = draw(
        {"a.weight": (32, 32), "b.weight": (31, 33), "c.bias": (5000,), "d.weight": (8, 8, 4, 4), "e": (1, 4096)}
    )
    tensors["f.positional_encoding_gaussian_matrix"] = torch.randn(2, 1024)
    tensors["g.relative_position_index"] = torch.zeros(64, 64, dtype=torch.int64)
    selected = _select(tensors)
    assert _coded(selected) == ["a.weight", "d.weight", "e"]
    assert {name: planned.role for name, planned in selected.items()} == {
        "a.weight": "linear",
        "b.weight": "linear",
        "c.bias": "bias",
        "d.weight": "conv",
        "e": "other",
        "f.positional_encoding_gaussian_matrix": "buffer",
        "g.relative_position_index": "buffer",
    }
    assert [planned.pairing for planned in selected.values() if planned.coded] == ["rows", "flat", "flat"]


def test_patterns_choose_what_is_coded() -> None:
    names = ["a.q.weight", "a.k.weight", "b.q.weight"]
    tensors = draw(dict.fromkeys(names, (40, 40)))
    assert _coded(_select(tensors, exact=("a.*",))) == ["b.q.weight"]
    assert _coded(_select(tensors, only=("*.q.weight",))) == ["a.q.weight", "b.q.weight"]
    assert _coded(_select(tensors, only=("*.q.weight", "*.k.*"), exact=("b.?.weight",))) == ["a.k.weight", "a.q.weight"]
    assert _coded(_select(tensors, exact=("a.[qk].weight",), preset="birkhoff")) == ["b.q.weight"]


def test_a_pattern_may_match_any_of_tied_names() -> None:
    tensors = draw({"b.weight": (40, 40), "c.weight": (40, 40)})
    selected = _select(tensors, {"b.weight": ("a.weight",)}, exact=("b.*",))
    assert selected["a.weight"].names == ("a.weight", "b.weight")
    assert _coded(selected) == ["c.weight"]


@pytest.mark.parametrize("asked", [{"exact": ("x.*",)}, {"only": ("A.weight",)}, {"exact": ("*", "x")}])
def test_a_pattern_that_matches_nothing_is_an_error(asked: dict[str, object]) -> None:
    with pytest.raises(PatternError, match=r"pattern '.*' matches none of \d+ tensors; the closest name is '.*'"):
        _select(draw({"a.weight": (40, 40)}), **asked)


def test_a_ratio_for_a_tensor_that_is_not_coded_is_an_error() -> None:
    with pytest.raises(PatternError, match="'\\*bias' matches no tensor that is coded"):
        _select(small(), snr_for={"*bias": 30.0})


def test_tables_that_are_known_to_be_no_weights_stay_exact() -> None:
    angle = torch.arange(64)[:, None] / 100 ** (torch.arange(32) / 32)
    tensors = draw({"a.weight": (40, 40), "b.table": (40, 40)})
    tensors |= {"c.cos_cached": torch.rand(40, 40), "d.pos_embed": torch.cat([angle.sin(), angle.cos()], 1)}
    tensors["e.weight_mask"] = (torch.arange(1600) % 2).float().reshape(40, 40)
    for measured in (False, True):
        selected = select(tensors, {}, Quality(), lambda name: 0.0, buffers=["b.table"], measured=measured)
        assert [planned.name for planned in selected if planned.coded] == ["a.weight"]
        assert [planned.role for planned in selected] == ["linear"] + 4 * ["buffer"]
    assert _coded(_select(tensors, preset="birkhoff")) == ["a.weight", "b.table"]
