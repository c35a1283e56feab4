from __future__ import annotations

import math

import pytest
import torch
from tasks.checkpoints import draw, small

from bhk.conversion.plan import Item, PatternError, plan
from bhk.conversion.quality import Quality
from bhk.conversion.steps import Steps


def _plan(
    tensors: dict[str, torch.Tensor], aliases: dict[str, tuple[str, ...]] | None = None, **asked: object
) -> dict[str, Item]:
    quality = Quality(**asked)  # type: ignore[arg-type]
    finer_db = {"delicate.weight": 12.0}
    items = plan(tensors, aliases or {}, quality, lambda name: finer_db.get(name, 0.0))
    if not quality.is_published:
        items = Steps.of(items, threads=1).at(quality.model_snr_db)
    return {item.names[0]: item for item in items}


def _coded(items: dict[str, Item]) -> list[str]:
    return [name for name, item in items.items() if item.coded]


def test_matrices_are_coded_and_what_is_small_or_flat_is_not() -> None:
    tensors = draw(
        {"a.weight": (32, 32), "b.weight": (31, 33), "c.bias": (5000,), "d.weight": (8, 8, 4, 4), "e": (1, 4096)}
    )
    tensors["f.positional_encoding_gaussian_matrix"] = torch.randn(2, 1024)
    tensors["g.relative_position_index"] = torch.zeros(64, 64, dtype=torch.int64)
    items = _plan(tensors)
    assert _coded(items) == ["a.weight", "d.weight", "e"]
    assert {name: item.role for name, item in items.items()} == {
        "a.weight": "linear",
        "b.weight": "linear",
        "c.bias": "bias",
        "d.weight": "conv",
        "e": "other",
        "f.positional_encoding_gaussian_matrix": "buffer",
        "g.relative_position_index": "buffer",
    }
    assert [item.pairing for item in items.values() if item.coded] == ["rows", "flat", "flat"]


def test_patterns_choose_what_is_coded() -> None:
    names = ["a.q.weight", "a.k.weight", "b.q.weight"]
    tensors = draw(dict.fromkeys(names, (40, 40)))
    assert _coded(_plan(tensors, exact=("a.*",))) == ["b.q.weight"]
    assert _coded(_plan(tensors, only=("*.q.weight",))) == ["a.q.weight", "b.q.weight"]
    assert _coded(_plan(tensors, only=("*.q.weight", "*.k.*"), exact=("b.?.weight",))) == ["a.k.weight", "a.q.weight"]
    assert _coded(_plan(tensors, exact=("a.[qk].weight",), preset="birkhoff")) == ["b.q.weight"]


def test_a_pattern_may_match_any_of_tied_names() -> None:
    tensors = draw({"b.weight": (40, 40), "c.weight": (40, 40)})
    items = _plan(tensors, {"b.weight": ("a.weight",)}, exact=("b.*",))
    assert items["a.weight"].names == ("a.weight", "b.weight")
    assert _coded(items) == ["c.weight"]


@pytest.mark.parametrize("asked", [{"exact": ("x.*",)}, {"only": ("A.weight",)}, {"exact": ("*", "x")}])
def test_a_pattern_that_matches_nothing_is_an_error(asked: dict[str, object]) -> None:
    with pytest.raises(PatternError, match=r"pattern '.*' matches none of \d+ tensors, such as '.*'"):
        _plan(draw({"a.weight": (40, 40)}), **asked)


def test_a_ratio_for_a_tensor_that_is_not_coded_is_an_error() -> None:
    with pytest.raises(PatternError, match="'\\*bias' matches no tensor that is coded"):
        _plan(small(), snr_for={"*bias": 30.0})


def test_the_last_pattern_says_the_ratio_of_a_tensor() -> None:
    tensors = draw({"a.weight": (64, 64), "b.weight": (64, 64), "c.weight": (64, 64)})
    items = _plan(tensors, snr_db=28, snr_for={"*": 34.0, "a.*": 22.0, "b.*": 28.0})
    steps = {name: item.step for name, item in items.items()}
    assert 20 * math.log10(steps["a.weight"] / steps["c.weight"]) == pytest.approx(12, abs=0.3)
    assert 20 * math.log10(steps["b.weight"] / steps["c.weight"]) == pytest.approx(6, abs=0.3)


def test_one_step_serves_tensors_of_one_scale_and_few_fall_below() -> None:
    tensors = draw({"a.weight": (64, 64), "b.weight": (64, 64)})
    tensors["faint.weight"] = tensors["a.weight"] / 100
    tensors["loud.weight"] = tensors["a.weight"] * 3
    steps = {name: item.step for name, item in _plan(tensors, snr_db=28).items()}
    assert steps["a.weight"] == steps["b.weight"] == steps["loud.weight"]
    faint = float(tensors["faint.weight"].square().mean().sqrt())
    assert 20 * math.log10(faint * math.sqrt(12) / steps["faint.weight"]) == pytest.approx(16, abs=0.1)


def test_delicate_tensors_get_a_finer_step_and_vocabularies_a_coarser_one() -> None:
    tensors = draw({"x.weight": (80, 80), "delicate.weight": (80, 80), "embeddings.weight": (4096, 4)})
    tensors |= draw({"small.embeddings.weight": (4095, 4), "tied.embeddings.weight": (4096, 4)})
    steps = {name: item.step for name, item in _plan(tensors, {"tied.embeddings.weight": ("z.head.weight",)}).items()}
    assert steps["x.weight"] / steps["delicate.weight"] == pytest.approx(4, rel=0.01)
    assert steps["embeddings.weight"] / steps["x.weight"] == pytest.approx(2, rel=0.01)
    assert steps["small.embeddings.weight"] == steps["tied.embeddings.weight"] == steps["x.weight"]


def test_a_finer_step_stays_within_what_codebooks_reach() -> None:
    tensors = draw({"x.weight": (80, 80), "delicate.weight": (80, 80)})
    assert _plan(tensors, snr_db=42)["delicate.weight"].step == _plan(tensors, snr_db=42)["x.weight"].step
