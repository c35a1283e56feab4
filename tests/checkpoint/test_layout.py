from __future__ import annotations

import pytest

from bhk.checkpoint import Layout, LayoutError
from bhk.checkpoint.layout import common_prefix, unwrapped, wrapped_modules


@pytest.mark.parametrize(
    "layout",
    [
        Layout(),
        Layout(("state_dict", "model")),
        Layout((), ("PromtEncoder", "MaskDecoder")),
        Layout(("é",), (), "module."),
    ],
)
def test_a_layout_survives_its_metadata(layout: Layout) -> None:
    assert Layout.from_metadata({"licence": "MIT", **layout.to_metadata()}) == layout


def test_empty_fields_are_left_out_of_the_metadata() -> None:
    assert Layout().to_metadata() == {}
    assert Layout(("model",)).to_metadata() == {"checkpoint.wrapper": '["model"]'}


@pytest.mark.parametrize("text", ["", "model", '"model"', "[1]", '{"a": 1}', "[" * 100_000])
def test_malformed_metadata_is_a_layout_error(text: str) -> None:
    with pytest.raises(LayoutError, match=r"checkpoint\.wrapper"):
        Layout.from_metadata({"checkpoint.wrapper": text})


@pytest.mark.parametrize("groups", ['["a.b"]', '["a", "a"]'])
def test_groups_that_cannot_be_told_apart_are_refused(groups: str) -> None:
    with pytest.raises(LayoutError, match="without dots"):
        Layout.from_metadata({"checkpoint.groups": groups})


def test_the_prefix_follows_the_group() -> None:
    layout = Layout((), ("A", "B"), "module.")
    assert layout.split("B.x.weight") == ("B", "module.x.weight")
    assert layout.flat("B.x.weight") == "B.module.x.weight"
    with pytest.raises(LayoutError, match="in no group; expected a name that starts with one of A, B"):
        layout.split("C.x")


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["module.a", "module.b"], "module."),
        (["module._orig_mod.module.a", "module._orig_mod.module.b"], "module._orig_mod.module."),
        (["_orig_mod.a"], "_orig_mod."),
        (["module.a", "b"], ""),
        (["module.a", "module."], ""),
        (["sam.a", "sam.b"], ""),
        ([], ""),
    ],
)
def test_only_a_prefix_of_every_name_is_stripped(names: list[str], prefix: str) -> None:
    assert common_prefix(names) == prefix


def test_wrappers_within_names_are_put_back() -> None:
    names = ["enc._orig_mod.blocks.0._checkpoint_wrapped_module.w", "enc._orig_mod.b", "dec.w"]
    layout = Layout(prefix="module.", wrapped=wrapped_modules(names))
    assert layout.wrapped == ("enc._orig_mod", "enc._orig_mod.blocks.0._checkpoint_wrapped_module")
    assert [unwrapped(name) for name in names] == ["enc.blocks.0.w", "enc.b", "dec.w"]
    assert [layout.flat(unwrapped(name)) for name in names] == [f"module.{name}" for name in names]
    assert Layout.from_metadata(layout.to_metadata()) == layout
