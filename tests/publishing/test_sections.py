"""The programs and commands on a card work as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from sam import models
from tasks.checkpoints import draw
from torch import nn
from typer.testing import CliRunner

import bhk
from bhk.cli.app import app
from bhk.pictures.scenes import make_scene
from bhk.publishing.push import push

if TYPE_CHECKING:
    from hub.fake_hub import FakeHub


def _visit(card: str, folder: Path, **known: Any) -> list[dict[str, Any]]:
    """Run every program of a card except evaluations, and return the variables of each Python program."""
    left = []
    for language, program in re.findall(r"```(python|sh)\n(.*?)\n```", card, re.DOTALL):
        if language == "python":
            names = dict(known)
            exec(program.replace("model = ...", ""), names)
            left.append(names)
            continue
        for line in program.splitlines():
            program, *arguments = shlex.split(line)
            if program == "mkdir":
                (folder / arguments[0]).mkdir()
            elif arguments[0] not in ("eval", "verify"):
                done = CliRunner().invoke(app, arguments)
                assert done.exit_code == 0, f"{line}: {done.output} {done.exception!r}"
    return left


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture = Image.fromarray(make_scene(5).picture).resize((640, 480))
    picture.save(tmp_path / "photo.jpg")


def test_the_card_of_a_segment_anything_model(tmp_path: Path, hub: FakeHub) -> None:
    original = models.small_sam(depth=1, width=32).state_dict()
    torch.save(original, tmp_path / "my_sam.pth")
    bhk.convert(tmp_path / "my_sam.pth", tmp_path / "here.bhk")
    card = push(tmp_path / "here.bhk", "me/small.bhk").card
    (tmp_path / "my_sam.pth").unlink()
    (program,) = _visit(card, tmp_path)
    assert type(program["model"]).__name__ == "Sam"
    assert len(program["found"].masks)
    assert (tmp_path / "small.bhk").read_bytes() == hub.files("me/small.bhk")["model.bhk"]
    assert torch.load(tmp_path / "small-restored.pth").keys() == original.keys()


def test_the_card_of_a_model_of_transformers(tmp_path: Path, hub: FakeHub) -> None:
    models.small_hf_sam().save_pretrained(tmp_path / "original")
    bhk.convert(tmp_path / "original", tmp_path / "here.bhk")
    card = push(tmp_path / "here.bhk", "me/sam-hf").card
    by_bhk, by_transformers = _visit(card, tmp_path)
    assert type(by_bhk["model"]) is type(by_transformers["model"])
    type(by_bhk["model"]).from_pretrained(tmp_path / "sam-hf-restored")


def test_the_card_of_several_files(tmp_path: Path, hub: FakeHub) -> None:
    for seed, name in enumerate(("one.bhk", "it's two.bhk")):
        layer = nn.Linear(48, 64)
        layer.load_state_dict(draw({"weight": (64, 48), "bias": (64,)}, seed=seed))
        bhk.convert(layer, tmp_path / name)
    card = push([tmp_path / "one.bhk", tmp_path / "it's two.bhk"], "me/two").card
    (tmp_path / "one.bhk").unlink()
    (tmp_path / "it's two.bhk").unlink()
    model = nn.Linear(48, 64)
    _visit(card, tmp_path, model=model)
    assert (tmp_path / "it's two-restored.safetensors").exists()
    assert "The same works for `hf://me/two/it's two.bhk`" in card
    assert isinstance(model.weight, torch.Tensor)
