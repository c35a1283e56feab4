from __future__ import annotations

import pytest
import torch

from bhk.checkpoint import AmbiguousCheckpointError, NotACheckpointError, UnknownWeightsError
from bhk.checkpoint.wrappers import StateDict, find_state_dict


def _sd(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.ones(2) for name in names}


def _find(content: object, key: str | None = None) -> StateDict:
    return find_state_dict(content, key, "sam.pth")


@pytest.mark.parametrize(
    "wrapper",
    [
        (),
        ("model",),
        ("state_dict",),
        ("model_state_dict",),
        ("ema",),
        ("state_dict", "model"),
        ("teacher",),
        ("my_own_name",),
        ("a", "b", "c"),
        ("with.dot",),
    ],
)
def test_the_wrapper_is_found(wrapper: tuple[str, ...]) -> None:
    content: dict[str, object] = dict(_sd("b", "a"))
    for key in reversed(wrapper):
        content = {"epoch": 3, key: content}
    found = _find(content)
    assert found.wrapper == wrapper
    assert list(found.tensors) == ["b", "a"]
    assert found.left_out == ("epoch",) * len(wrapper)


def test_additions_of_trainers_are_listed_as_left_out() -> None:
    moments = {i: {"exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)} for i in range(3)}
    found = _find(
        {
            "epoch": 7,
            "model": {**_sd("a"), "a._extra_state": None, 3: torch.ones(1)},
            "optimizer": {"state": moments, "param_groups": [{"lr": 1e-3}]},
            "lr_scheduler": {"last": torch.ones(1)},
            "args": {"lr": 0.1},
            "mean": torch.ones(3),
            "history": [torch.ones(1), {"x": torch.ones(1)}],
            5: "five",
        }
    )
    assert list(found.tensors) == ["a"]
    assert found.left_out == (
        "epoch",
        "optimizer (state of 3 tensors)",
        "lr_scheduler (1 tensor)",
        "args",
        "mean (a tensor)",
        "history (2 tensors)",
        "5",
        "a._extra_state",
        "3 (a tensor)",
    )


def test_names_of_left_out_entries_cannot_control_the_terminal() -> None:
    found = _find({"a": torch.ones(1), "\x1b[31mred\n": 1, "x" * 1000: 2})
    assert all(words.isprintable() and len(words) < 100 for words in found.left_out)


def test_the_key_selects_a_state_dict() -> None:
    content = {"teacher": _sd("a", "b"), "student": _sd("a"), "epoch": 1}
    with pytest.raises(AmbiguousCheckpointError, match=r"teacher \(2 tensors\), student \(1 tensor\)") as caught:
        _find(content)
    assert caught.value.choices == ("teacher", "student")
    found = _find(content, "teacher")
    assert found.wrapper == ("teacher",)
    assert found.left_out == ("student (1 tensor)", "epoch")


def test_a_dotted_key_leads_inside() -> None:
    content = {"state_dict": {"model": _sd("a"), "ema": _sd("b")}, "with.dot": {"x": _sd("c")}}
    with pytest.raises(AmbiguousCheckpointError) as caught:
        _find(content)
    assert caught.value.choices == ("state_dict.model", "state_dict.ema")
    assert list(_find(content, "state_dict.ema").tensors) == ["b"]
    assert _find(content, "with.dot").wrapper == ("with.dot", "x")


@pytest.mark.parametrize("key", ["decoder", "teacher.x", "epoch", "x."])
def test_a_key_that_leads_nowhere_lists_the_choices(key: str) -> None:
    with pytest.raises(UnknownWeightsError, match=r"has: teacher \(1 tensor\), student \(1 tensor\)"):
        _find({"teacher": _sd("a"), "student": _sd("a"), "epoch": 1}, key)


def test_tensors_beside_an_unknown_dictionary_are_ambiguous() -> None:
    content = {**_sd("weight"), "my_net": _sd("a", "b")}
    with pytest.raises(AmbiguousCheckpointError) as caught:
        _find(content)
    assert caught.value.choices == (".", "my_net")
    assert list(_find(content, ".").tensors) == ["weight"]
    assert list(_find(content, "my_net").tensors) == ["a", "b"]


def test_a_counter_beside_the_weights_is_not_a_second_model() -> None:
    found = _find({"my_net": _sd("a"), "step": torch.tensor(5)})
    assert found.wrapper == ("my_net",)
    assert found.left_out == ("step (a tensor)",)


def test_a_state_dict_of_scalars_is_one() -> None:
    assert list(_find({"scale": torch.tensor(1.0)}).tensors) == ["scale"]


def test_parts_of_one_model_become_groups() -> None:
    found = _find({"PromtEncoder": _sd("x"), "MaskDecoder": {**_sd("x", "y"), "version": 1}})
    assert found.groups == ("PromtEncoder", "MaskDecoder")
    assert list(found.tensors) == ["PromtEncoder.x", "MaskDecoder.x", "MaskDecoder.y"]
    assert found.left_out == ("version",)
    assert _find({"model": {"A": _sd("x"), "B": _sd("y")}}).wrapper == ("model",)


@pytest.mark.parametrize(
    "content",
    [
        {"best": _sd("a"), "last": _sd("a")},
        {"encoder": _sd("a"), "decoder": _sd("b"), "epoch": 1},
        {"en.coder": _sd("a"), "decoder": _sd("b")},
    ],
)
def test_possible_versions_of_one_model_are_not_merged(content: dict[str, object]) -> None:
    with pytest.raises(AmbiguousCheckpointError):
        _find(content)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [torch.ones(1)],
        torch.ones(1),
        None,
        {0: torch.ones(1)},
        {"epoch": 1, "model": {}},
        {"optimizer": {"state": {0: {"exp_avg": torch.ones(1)}}, "param_groups": []}},
    ],
)
def test_content_without_named_weights_is_not_a_checkpoint(content: object) -> None:
    with pytest.raises(NotACheckpointError, match=r"sam\.pth holds"):
        _find(content)


def test_the_search_survives_deep_nesting() -> None:
    content: dict[str, object] = dict(_sd("a"))
    for _ in range(5000):
        content = {"model": content}
    with pytest.raises(NotACheckpointError, match=r"found: model \(1 tensor\)"):
        _find(content)


def test_the_search_survives_cycles() -> None:
    knot: dict[str, object] = {}
    knot["self"] = knot
    with pytest.raises(NotACheckpointError):
        _find(knot)
    knot["a"] = torch.ones(1)
    assert list(_find(knot).tensors) == ["a"]


def test_all_dictionaries_together_or_the_names_below_a_prefix() -> None:
    ones = torch.ones(2)
    top = {"model_state": {"a": ones}, "decoder_state": {"b": ones}, "optimizer": {"state": {}}, "epoch": 3}
    found = find_state_dict(top, ".", "x.pt")
    assert (set(found.tensors), found.groups) == (
        {"model_state.a", "decoder_state.b"},
        ("model_state", "decoder_state"),
    )
    assert found.left_out == ("optimizer", "epoch")
    flat = {"state_dict": {"teacher.a": ones, "student.a": ones, "student.b": ones}}
    found = find_state_dict(flat, "state_dict.student", "x.pt")
    assert (set(found.tensors), found.wrapper) == ({"student.a", "student.b"}, ("state_dict",))
    assert found.left_out == ("1 tensor whose names do not start with student.",)
    with pytest.raises(UnknownWeightsError, match=r"no weights under the key 'state_dict\.ema'"):
        find_state_dict(flat, "state_dict.ema", "x.pt")
