"""Conversions that look at the model first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sam.models import small_sam
from tasks.checkpoints import save, small
from torch import Tensor, nn

import bhk
from bhk.base.workdir import WorkDirError
from bhk.calibration.errors import CalibrationError
from bhk.calibration.options import Samples
from bhk.codec.fit import PresetError
from bhk.container.reader import Container
from bhk.conversion import fidelity_search
from bhk.evaluation.fidelity import ask, compared
from bhk.evaluation.models import Subject
from bhk.nn import HyperLinear
from bhk.pictures.folder import NoPicturesError
from tools.demo import write_checkpoint


class Encoder(nn.Module):
    """A module of no known kind, whose inputs are much alike."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.blocks = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))
            self.head = nn.Linear(64, 16)
            self.mixing = torch.randn(64, 64) * torch.logspace(0, -2, 64)[:, None]

    def forward(self, x: Tensor) -> Tensor:
        x = x @ self.mixing
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        head: Tensor = self.head(x)
        return head


def _samples(seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(200, 64, generator=generator) for _ in range(4)]


def _change(model: nn.Module, path: Path) -> float:
    """Return the relative squared change of the outputs on other samples."""
    other = type(model)()
    bhk.load_into(other, path)
    with torch.no_grad():
        before, after = (torch.cat([m(x) for x in _samples(seed=7)]) for m in (model, other))
    return float((after - before).square().sum() / before.square().sum())


def test_a_smaller_file_changes_the_outputs_no_more(tmp_path: Path) -> None:
    model = Encoder().eval()
    plain = bhk.convert(model, tmp_path / "plain.bhk", "small")
    found = bhk.convert(model, tmp_path / "found.bhk", "small", calibration=_samples())
    streams = [sum(stream.stored for layer in report.layers for stream in layer.streams) for report in (plain, found)]
    assert streams[1] < 0.9 * streams[0]
    assert _change(model, tmp_path / "found.bhk") < 1.2 * _change(model, tmp_path / "plain.bhk")
    assert found.calibration is not None
    assert found.calibration.samples == 4
    assert sorted(found.calibration.coding_seconds) == [*(f"blocks.{i}.weight" for i in range(4)), "head.weight"]
    assert plain.calibration is None
    with Container.open(tmp_path / "found.bhk") as container:
        assert container.header.metadata["source.name"] == "Encoder"
        assert "source.sha256" not in container.header.metadata


class White(nn.Sequential):
    """A module whose inputs have no pattern that calibration could use."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            super().__init__(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))


@pytest.mark.parametrize("make", [Encoder, White])
@pytest.mark.parametrize("rows", [1, 8, 100])
def test_few_samples_harm_nothing_and_are_told(tmp_path: Path, make: type[nn.Module], rows: int) -> None:
    model = make().eval()
    samples = [torch.randn(rows, 64, generator=torch.Generator().manual_seed(2))]
    few = bhk.convert(model, tmp_path / "few.bhk", "fine", calibration=samples)  # sizes jump less there
    bhk.convert(model, tmp_path / "plain.bhk", bhk.Quality(ratio=few.ratio))
    assert _change(model, tmp_path / "few.bhk") < 1.02 * _change(model, tmp_path / "plain.bhk")
    assert few.calibration is not None
    warned = any("samples are too few for that many columns" in warning for warning in few.warnings)
    assert warned == (max(few.calibration.chance.values()) > 0.25)
    assert warned or rows > 8


def test_the_model_and_its_state_are_as_they_were(tmp_path: Path) -> None:
    model = Encoder().half().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bhk.convert(model, tmp_path / "a.bhk", calibration=[sample[:20] for sample in _samples()])
    assert model.training
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float16
        assert torch.equal(tensor, before[name])


def test_tied_weights_and_wrapped_models(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.z_first, self.a_last = nn.Linear(64, 64), nn.Linear(64, 64)
            self.a_last.weight = self.z_first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.a_last(torch.relu(self.z_first(x)))  # type: ignore[no-any-return]

    report = bhk.convert(Tied(), tmp_path / "tied.bhk", calibration=_samples())
    assert report.calibration is not None
    assert report.calibration.without_feedback == {}
    assert report.calibration.insensitive == ()
    assert [layer.name for layer in report.layers if layer.aliases] == ["a_last.weight"]

    wrapper = nn.ModuleDict({"sam": small_sam()})
    picture = [lambda model: model["sam"].image_encoder(torch.randn(1, 3, 128, 128))]
    report = bhk.convert(
        wrapper, tmp_path / "wrapped.bhk", bhk.Quality(only="image_encoder.blocks.*.mlp.*"), calibration=picture
    )
    assert report.calibration is not None
    assert report.calibration.without_feedback == {}


def test_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    path = save(tmp_path / "sam.pth", small_sam().state_dict())
    files = []
    for number, seed in enumerate((0, 0, 1)):
        out = tmp_path / f"{number}.bhk"
        quality = bhk.Quality(only="image_encoder.blocks.*")
        calibration = bhk.Calibration("noise", limit=1, seed=seed)
        bhk.convert(path, out, quality, calibration=calibration, threads=1 + number % 2)
        files.append(out.read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_a_sam_by_dead_leaves_and_a_work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "sam.pth", small_sam().state_dict())
    stages: list[str] = []
    calibration = bhk.Calibration("dead-leaves", limit=2, work_dir=tmp_path / "work")
    report = bhk.convert(
        path,
        quality=bhk.Quality(ratio=6),
        calibration=calibration,
        progress=lambda stage, done, total: stages.append(stage),
    )
    assert report.ratio == pytest.approx(6, rel=0.01)
    assert list(dict.fromkeys(stages)) == ["Moments", "Feedback", "Sensitivity", "Steps", "Encoding"]
    assert any(
        "coded without error feedback, because each belongs to no linear layer or convolution: " in warning
        for warning in report.warnings
    )
    assert any("mask_downscaling.6.weight" in warning for warning in report.warnings)
    model = bhk.load(report.path, mode="hyper")
    assert isinstance(model.image_encoder.blocks[0].mlp.lin1, HyperLinear)
    monkeypatch.setattr("bhk.calibration.inputs.SamInputs.run", lambda *_: pytest.fail("shown again"))
    again = bhk.convert(path, tmp_path / "again.bhk", bhk.Quality(ratio=5), calibration=calibration)
    assert again.ratio == pytest.approx(5, rel=0.01)
    with pytest.raises(WorkDirError, match="different samples, seed"):
        bhk.convert(path, tmp_path / "other.bhk", calibration=replace(calibration, seed=1))
    other = save(tmp_path / "other.pth", {name: tensor * 1.01 for name, tensor in small_sam().state_dict().items()})
    with pytest.raises(WorkDirError, match="different model"):
        bhk.convert(other, calibration=calibration)


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    path = save(tmp_path / "sam.pth", small_sam().state_dict())
    folder = tmp_path / "pictures"
    folder.mkdir()
    with pytest.raises(NoPicturesError):
        bhk.convert(path, tmp_path / "a.bhk", calibration=str(folder))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no picture")
    report = bhk.convert(path, tmp_path / "a.bhk", calibration=bhk.Calibration(folder, steps="table"))
    assert report.calibration is not None
    assert report.calibration.samples == 1
    assert any("b.png" in warning for warning in report.warnings)


def test_a_wanted_fidelity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity_search, "PICTURES", 2)
    path = tmp_path / "demo.pth"
    write_checkpoint(path)
    report = bhk.convert(path, tmp_path / "demo.bhk", bhk.Quality(fidelity=0.96))
    original, coded = bhk.load(path), bhk.load(tmp_path / "demo.bhk", mode="dense")
    pictures = fidelity_search.pictures_for(original, None)
    subjects = Subject(original), Subject(coded)
    found = [compared(*(ask(subject, *asked) for subject in subjects)) for asked in pictures]
    assert np.mean([iou for one in found for iou in one.iou]) >= 0.96
    coarser = bhk.convert(path, tmp_path / "coarser.bhk", bhk.Quality(fidelity=0.9))
    assert coarser.ratio > 1.05 * report.ratio > 8


def test_a_fidelity_for_what_gives_no_masks(tmp_path: Path) -> None:
    with pytest.raises(bhk.BhkError, match=r"cannot predict masks with .*Encoder"):
        bhk.convert(Encoder(), tmp_path / "a.bhk", bhk.Quality(fidelity=0.9))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ("dead-leafs", "cannot calibrate with 'dead-leafs'; expected dead-leaves, noise, or a folder"),
        ([], "there are no samples to calibrate with"),
        ([torch.zeros(1, 3)], r"Sam fails on sample 0 \(.*\); give samples that its forward takes"),
    ],
)
def test_samples_that_the_model_cannot_be_shown(tmp_path: Path, samples: Samples, message: str) -> None:
    path = save(tmp_path / "sam.pth", small_sam().state_dict())
    with pytest.raises(CalibrationError, match=message):
        bhk.convert(path, tmp_path / "a.bhk", calibration=samples)
    assert not (tmp_path / "a.bhk").exists()


def test_the_published_method_has_no_calibration(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="preset 'birkhoff' is the published method, which has no calibration"):
        bhk.convert(save(tmp_path / "a.pth", small()), quality="birkhoff", calibration="noise")


def test_a_checkpoint_of_no_known_model(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", small())
    with pytest.raises(CalibrationError, match=r"a\.pth holds 3 tensors of a model that bhk cannot build"):
        bhk.convert(path, calibration="dead-leaves")


def test_a_module_needs_a_place(tmp_path: Path) -> None:
    with pytest.raises(bhk.BhkError, match="a module such as Encoder has no file to write beside"):
        bhk.convert(Encoder())


def test_weights_that_are_all_equal(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    with torch.no_grad():
        for layer in model:
            layer.weight.fill_(0.25)
    bhk.convert(model, tmp_path / "a.bhk", calibration=[torch.randn(80, 64)])
    assert torch.equal(bhk.load_state_dict(tmp_path / "a.bhk")["1.weight"], model[1].weight)
