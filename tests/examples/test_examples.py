"""The examples, run as they are, at small sizes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import bhk
from bhk.pictures.scenes import HELD_OUT, make_scene
from tools import demo

if TYPE_CHECKING:
    from hub.fake_hub import FakeHub

pytest.importorskip("segment_anything")
FOLDER = Path(__file__).parent.parent.parent / "examples"


def example(name: str) -> ModuleType:
    """Return an example as a module."""
    specification = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model as a .bhk file, its checkpoint beside it."""
    path = bhk.convert(demo.write_checkpoint(tmp_path_factory.mktemp("demo") / "demo_sam.pth")).path
    assert path is not None
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with one small picture of known objects."""
    (tmp_path / "pictures").mkdir()
    Image.fromarray(make_scene(HELD_OUT).picture).save(tmp_path / "pictures" / "scene.png")
    return tmp_path / "pictures"


def test_every_example_is_tested() -> None:
    names = {path.stem for path in FOLDER.glob("*.py")}
    assert names == {"segment", "segment_onnx", "convert_fine_tune", "publish", "train_lora"}


def test_segment_runs_on_its_own(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "segment.py"), "--out", "kites.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count("expected IoU") == 3
    masks = np.load(tmp_path / "kites.npy")
    assert (masks.dtype, masks.shape) == (bool, (3, 384, 384))
    assert masks.any((1, 2)).all()
    drawn, picture = Image.open(tmp_path / "kites.png"), Image.open(demo.PICTURES / "kites.jpg")
    assert drawn.size == picture.size
    assert np.abs(np.asarray(drawn, float) - np.asarray(picture, float))[masks[0]].mean() > 20


def test_segment_finds_the_objects_of_a_scene(model: Path, pictures: Path, tmp_path: Path) -> None:
    largest = make_scene(HELD_OUT).masks[0]
    rows, columns = np.nonzero(largest)
    box = f"{columns.min()},{rows.min()},{columns.max() + 1},{rows.max() + 1}"
    arguments = [str(model), str(pictures / "scene.png"), "--box", box, "--out", str(tmp_path / "overlay.png")]
    (mask,) = example("segment").main(arguments).masks
    assert (mask & largest).sum() / (mask | largest).sum() > 0.9


def test_a_fine_tune_is_found_in_its_checkpoint_and_keeps_its_masks(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, checkpoint = example("convert_fine_tune"), tmp_path / "epoch_12.pth"
    module.fine_tune(checkpoint)
    report = module.main([str(checkpoint), "--images", str(pictures), "--points", "6", "--workers", "1"])
    assert "optimizer (state of 229 tensors), scheduler, epoch" in capsys.readouterr().out
    assert report.fidelity.all.masks == 12
    assert report.fidelity.all.iou_median.value > 0.95
    weights, trained = (
        bhk.load_state_dict(tmp_path / "epoch_12.bhk"),
        torch.load(checkpoint, weights_only=True)["model"],
    )
    assert {f"module.{name}" for name in weights} == set(trained)
    assert checkpoint.stat().st_size > 20 * (tmp_path / "epoch_12.bhk").stat().st_size


def test_publishing_is_a_rehearsal_until_it_is_asked_for(
    hub: FakeHub, model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against = ["--against", str(model.with_suffix(".pth")), "--images", str(pictures), "--points", "2"]
    arguments, module = [str(model), "--repository", "me/night-sam", "--license", "mit"], example("publish")
    planned = module.main(arguments)
    assert hub.requests == []
    assert [file.name for file in planned.files] == ["model.bhk", "config.json", "README.md"]
    assert "nothing was sent" in capsys.readouterr().out
    sent, again = module.main([*arguments, *against, "--send"]), module.main([*arguments, "--send"])
    assert sent.created
    assert "mean IoU" in sent.card
    assert again.sent_bytes == 0
    assert hub.files("me/night-sam")["model.bhk"] == model.read_bytes()
    assert "license: mit" in hub.files("me/night-sam")["README.md"].decode()
    assert hub.token not in capsys.readouterr().out
    assert isinstance(bhk.load("me/night-sam"), torch.nn.Module)


def test_adapters_learn_on_codes_that_stay_as_they_are(model: Path) -> None:
    peft = pytest.importorskip("peft")
    module = example("train_lora")
    sam = peft.get_peft_model(bhk.load(model, mode="hyper"), module.LORA)
    before = {name: tensor.clone() for name, tensor in sam.state_dict().items() if "lora" not in name}
    module.train(sam, steps=2)
    assert all(torch.equal(tensor, sam.state_dict()[name]) for name, tensor in before.items())
    learning = [parameter for parameter in sam.parameters() if parameter.requires_grad]
    assert len(learning) == 2 * 24
    assert all(parameter.grad is not None for parameter in learning)


def test_adapters_are_small_lower_the_loss_come_back_and_can_be_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("peft")
    module, out = example("train_lora"), tmp_path / "night"
    before, after, again, last = module.main(["--steps", "12", "--out", str(out)])
    assert after < 0.85 * before
    assert again == after
    assert last == pytest.approx(after, rel=0.1)
    assert "trainable params: 73,728" in capsys.readouterr().out
    adapters = load_file(out / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in adapters.values()) == 73728
    assert (out / "night.bhk").stat().st_size < 0.2 * 4 * bhk.inspect(out / "night.bhk").total.weights


def test_segment_onnx_finds_the_objects_of_a_scene(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    bhk.export_onnx(model, tmp_path / "onnx")
    largest = make_scene(HELD_OUT).masks[0]
    rows, columns = np.nonzero(largest)
    box = f"{columns.min()},{rows.min()},{columns.max() + 1},{rows.max() + 1}"
    out = tmp_path / "mask.png"
    example("segment_onnx").main([str(tmp_path / "onnx"), str(pictures / "scene.png"), "--box", box, "--out", str(out)])
    mask = np.asarray(Image.open(out))
    expected = bhk.segment(model, pictures / "scene.png", boxes=[tuple(map(float, box.split(",")))])
    assert (mask != expected.masks[0]).sum() <= 3  # logits near zero
    assert (mask & largest).sum() / (mask | largest).sum() > 0.9
    assert f"{out}: {mask.sum()} pixels, predicted IoU {expected.scores[0]:.3f}" in capsys.readouterr().out
