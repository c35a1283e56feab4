"""The file that a conversion writes if the user names none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bhk.base.files import WriteError
from bhk.conversion.destination import default_destination


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("sam.pth", "sam.bhk"),
        ("efficient_sam_vits.pt.zip", "efficient_sam_vits.bhk"),
        ("model.safetensors.index.json", "model.bhk"),
        ("sam.v1.2.bin", "sam.v1.2.bhk"),  # only suffixes of checkpoints are taken away
        ("weights", "weights.bhk"),
    ],
)
def test_a_file_is_written_beside_its_source(tmp_path: Path, source: str, expected: str) -> None:
    (tmp_path / source).touch()
    assert default_destination(tmp_path / source) == tmp_path / expected


def test_a_folder_gives_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sam.v2"
    folder.mkdir()
    assert default_destination(folder) == tmp_path / "sam.v2.bhk"
    monkeypatch.chdir(folder)
    assert default_destination(".").name == "sam.v2.bhk"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("facebook/sam-vit-base", "sam-vit-base.bhk"),
        ("hf://user/repo/weights/sam.pth@v1", "sam.bhk"),
    ],
)
def test_a_hub_id_is_written_to_the_current_folder(address: str, expected: str) -> None:
    assert default_destination(address) == Path(expected)


def test_a_module_has_no_file_to_write_beside() -> None:
    with pytest.raises(WriteError, match=r"a module such as Linear .*; give the file to write as out"):
        default_destination(torch.nn.Linear(2, 2))
