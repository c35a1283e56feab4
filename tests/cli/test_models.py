from __future__ import annotations

import bhk as package
from bhk.sam.variants import VARIANTS
from cli.conftest import Shell


def test_one_row_per_variant(bhk: Shell) -> None:
    ended = bhk("models")
    assert ended.status == 0
    lines = ended.out.splitlines()
    assert [line.split("  ")[0] for line in lines[2:-1]] == [variant.title for variant in VARIANTS.values()]
    row = next(line for line in lines if line.startswith("SAM-B "))
    assert row.split()[1:6] == ["sam_vit_b", "sam_vit_b_01ec64.pth", "Apache-2.0", "93.7", "M"]
    assert row.split()[6] == "4.31"
    assert "synthetic" in lines[-1]


def test_missing_packages_are_named_with_how_to_install_them(bhk: Shell) -> None:
    found = package.models().models
    missing = {model.packages[0]: model.install for model in found if model.packages and not model.installed}
    ended = bhk("models")
    assert ended.err.splitlines() == [f"for {name}, {install}" for name, install in missing.items()]
    rows = {line.split("  ")[0]: line.split()[-2:] for line in ended.out.splitlines()[2:-1]}
    for model in found:
        assert rows[model.title] == [
            model.installed or next(iter(model.packages), "–"),
            "yes" if model.installed else "no",
        ]


def test_a_narrow_screen_cuts_no_package(bhk: Shell) -> None:
    for width, titles in (("80", ["ratio", "package", "installed"]), ("60", ["ratio", "installed"])):
        title, _, *rows = bhk("models", environment={"COLUMNS": width}).out.splitlines()
        assert title.split()[-len(titles) :] == titles
        assert all(len(row) <= int(width) for row in rows)
        if width == "80":
            assert {row.split()[-2] for row in rows[: len(VARIANTS)]} <= {
                "–",
                *(name for model in package.models().models for name in model.packages),
            }


def test_json_holds_everything(bhk: Shell) -> None:
    document = bhk("models", "--json").document
    assert [entry["name"] for entry in document["models"]] == list(VARIANTS)
    found = {entry["name"]: entry for entry in document["models"]}["edge_sam"]
    assert found == {
        "name": "edge_sam",
        "title": "EdgeSAM",
        "family": "edge_sam",
        "packages": ["edge_sam"],
        "installed": found["installed"],
        "install": found["install"],
        "files": ["edge_sam.pth", "edge_sam_3x.pth"],
        "license": "S-Lab-1.0",
        "parameters": 9629466,
        "published_ratio": 3.63,
        "ratio": found["ratio"],
    }
    assert "EdgeSAM" in found["install"]
