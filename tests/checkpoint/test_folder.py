from __future__ import annotations

import pytest

from bhk.checkpoint import AmbiguousCheckpointError, NotACheckpointError
from bhk.checkpoint.folder import Pick, pick


@pytest.mark.parametrize(
    ("names", "choice"),
    [
        (["sam.pth", "README.md"], "sam.pth"),
        (["efficient_sam_vits.pt.zip"], "efficient_sam_vits.pt.zip"),
        (["pytorch_model.bin", "model.safetensors", "sam2.pt"], "model.safetensors"),
        (["model.safetensors.index.json", "model-00001-of-00001.safetensors"], "model.safetensors.index.json"),
        (["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"], "pytorch_model.bin.index.json"),
        (["pytorch_model.bin", "model.safetensors.index.json"], "model.safetensors.index.json"),
        (["sam.safetensors", "sam.pth", "sam.bin"], "sam.safetensors"),
        (["sam.safetensors.index.json", "sam-00001-of-00001.safetensors", "sam.bin"], "sam.safetensors.index.json"),
        (["sam.pth", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin"], "sam.pth"),
        (["sam.pth", ".sam.pth.0123.tmp", ".hidden.pth"], "sam.pth"),
    ],
)
def test_one_checkpoint_is_picked(names: list[str], choice: str) -> None:
    assert pick(names, "folder").name == choice


def test_other_checkpoints_are_reported() -> None:
    names = ["model.safetensors", "sam2.pt", "optimizer.pt", "config.json"]
    assert pick(names, "folder") == Pick("model.safetensors", ("optimizer.pt", "sam2.pt"))


@pytest.mark.parametrize("names", [[], ["README.md"], ["model-00001-of-00002.safetensors"]])
def test_a_folder_without_checkpoint(names: list[str]) -> None:
    with pytest.raises(NotACheckpointError, match="folder holds"):
        pick(names, "folder")


def test_unrelated_checkpoints_are_listed() -> None:
    with pytest.raises(AmbiguousCheckpointError, match=r"sam_b\.pth, sam_h\.pth") as caught:
        pick(["sam_h.pth", "sam_b.pth"], "folder")
    assert caught.value.choices == ("sam_b.pth", "sam_h.pth")
