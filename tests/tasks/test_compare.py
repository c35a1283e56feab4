from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sam import models

import bhk
from bhk.base.files import DestinationExistsError, WriteError
from bhk.codec.fit import PresetError
from bhk.pictures.folder import NoPicturesError
from bhk.sam.build import UnknownModelError
from bhk.sam.checkpoints import read_checkpoint
from bhk.sam.recognise import Recognised
from bhk.sam.variants import FAMILIES
from bhk.tasks import compare as module
from bhk.tasks.compare import ComparisonReport, compare


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "sam.pth"
    torch.save(models.small_sam().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is not of the family."""
    generator = torch.Generator().manual_seed(0)
    path = tmp_path_factory.mktemp("other") / "other.pth"
    torch.save(
        {f"{i}.weight": torch.randn(64, 64, generator=generator) * scale for i, scale in enumerate((1, 3))}, path
    )
    return path


@pytest.fixture(autouse=True)
def _few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SCENES": 1, "SCENE_SIZE": 128, "POINTS": 2, "BOXES": 1}.items():
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(folder / name)
    return folder


def test_finer_presets_are_larger_and_closer_to_the_original(sam: Path) -> None:
    told: list[tuple[str, int, int]] = []
    found = compare(sam, ["fine", "small"], progress=lambda *step: told.append(step))
    fine, small = found.choices
    assert [choice.name for choice in found.choices] == ["fine", "small"]
    assert fine.source_bytes == small.source_bytes
    assert small.bytes < fine.bytes
    assert small.ratio == small.source_bytes / small.bytes > fine.ratio > 2
    assert fine.points is not None
    assert small.points is not None
    assert 1 > fine.points.iou_mean.value > small.points.iou_mean.value > 0.3
    assert fine.convert_seconds > 0
    assert fine.load_seconds > 0
    assert (found.pictures, found.made, found.no_masks, found.skipped) == (1, True, None, ())
    assert told == [("Comparing fine", 1, 1), ("Comparing small", 1, 1)]


def test_the_masks_of_boxes_are_single_ones(sam: Path) -> None:
    (choice,) = compare(sam, ["small"]).choices
    assert choice.boxes is not None
    assert choice.points is not None
    assert choice.boxes.flips is None
    assert choice.boxes.masks == choice.points.masks > 0


def test_the_figures_are_those_of_the_file(other: Path, tmp_path: Path) -> None:
    (choice,) = compare(other, ["small"]).choices
    report = bhk.convert(other, tmp_path / "a.bhk", quality="small")
    assert (choice.bytes, choice.ratio, choice.float32_ratio) == (report.bytes, report.ratio, report.float32_ratio)
    assert choice.lowest_snr_db == bhk.inspect(tmp_path / "a.bhk").total.snr_db
    decoded, original = bhk.load_state_dict(tmp_path / "a.bhk"), torch.load(other)
    noise = sum(float((decoded[name] - original[name]).square().sum()) for name in original)
    signal = sum(float(tensor.square().sum()) for tensor in original.values())
    assert choice.snr_db == pytest.approx(10 * math.log10(signal / noise), abs=0.01)
    assert choice.snr_db > choice.lowest_snr_db


def test_qualities_other_than_presets_have_names(other: Path) -> None:
    found = compare(other, [bhk.Quality(snr_db=30), bhk.Quality(snr_db=20), bhk.Quality(ratio=6), "birkhoff"])
    assert [choice.name for choice in found.choices] == ["30 dB", "20 dB", "ratio 6", "birkhoff"]
    assert found.choices[0].ratio < found.choices[1].ratio


@pytest.mark.parametrize(("quality", "name"), [("small", "small"), (bhk.Quality(snr_db=30), "30 dB")])
def test_a_single_quality_needs_no_list(other: Path, quality: str | bhk.Quality, name: str) -> None:
    assert [choice.name for choice in compare(other, quality).choices] == [name]


def test_another_model_is_compared_without_masks(other: Path) -> None:
    found = compare(other, ["balanced"])
    assert (found.choices[0].points, found.choices[0].boxes, found.pictures) == (None, None, 0)
    assert found.no_masks is not None
    assert "bhk cannot build this model" in found.no_masks


def test_what_is_assumed_about_the_original_is_said(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def assuming(path: Path, **options: Any) -> tuple[Any, Any]:
        return read_checkpoint(path, **options)[0], Recognised(FAMILIES["sam"], "", fault="so", note="taken for SAM-B")

    monkeypatch.setattr("bhk.tasks.compare.read_checkpoint", assuming)
    report = bhk.compare(other, "balanced")
    assert (report.note, report.hints) == ("taken for SAM-B", ("taken for SAM-B",))


def test_a_checkpoint_with_float8_weights(tmp_path: Path) -> None:
    weight = torch.randn(64, 64)
    tensors = {"a.weight": (weight * 0.05).to(torch.float8_e4m3fn), "b.weight": weight}
    torch.save(tensors, tmp_path / "a.pth")
    (choice,) = compare(tmp_path / "a.pth", "balanced").choices
    assert choice.snr_db == pytest.approx(28, abs=0.5)


def test_pictures_of_a_folder(sam: Path, pictures: Path) -> None:
    assert compare(sam, ["balanced"], images=pictures, limit=1, seed=2).pictures == 1
    (pictures / "d.png").write_bytes(b"none")
    found = compare(sam, ["balanced"], images=pictures)
    assert (found.pictures, found.made) == (3, False)
    assert found.choices[0].points is not None
    assert found.choices[0].points.masks == 6
    assert [picture.name for picture in found.skipped] == ["d.png"]


@pytest.mark.parametrize("name", ["out.svg", "out.PNG", "out.pdf"])
def test_a_figure(sam: Path, other: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    for original in (sam, other):
        compare(original, ["small"], plot=tmp_path / name, force=True)
        head = (tmp_path / name).read_bytes()[:200]
        assert head.startswith({"out.PNG": b"\x89PNG", "out.pdf": b"%PDF", "out.svg": b"<?xml"}[name])


def test_the_table_as_a_file(sam: Path, tmp_path: Path) -> None:
    found = compare(sam, ["small", "balanced"])
    found.save(tmp_path / "a.csv")
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [row["quality"] for row in rows] == ["small", "balanced"]
    assert [int(row["bytes"]) for row in rows] == [choice.bytes for choice in found.choices]
    assert float(rows[0]["points_iou"]) == (found.choices[0].points or pytest.fail("no masks")).iou_mean.value
    assert rows[0]["torch"] == torch.__version__
    found.save(tmp_path / "a.tex")
    assert (tmp_path / "a.tex").read_text().count(r" \\") == 3


def test_nothing_is_left_behind(sam: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail(*_: Any) -> None:
        assert list(tmp_path.iterdir())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(sam, ["small"], progress=fail)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("qualities", "message"),
    [
        ([], "nothing to compare; give qualities, such as fine and balanced"),
        (["tiny"], "unknown preset 'tiny'"),
    ],
)
def test_qualities_are_checked_first(qualities: list[str], message: str) -> None:
    with pytest.raises(PresetError, match=message):
        compare("none.pth", qualities)


def test_other_mistakes(other: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"unknown suffix '\.gif'; use \.pdf, \.svg, \.png"):
        compare(other, plot=tmp_path / "out.gif")
    (tmp_path / "out.svg").write_bytes(b"mine")
    with pytest.raises(DestinationExistsError):
        compare(other, plot=tmp_path / "out.svg")
    with pytest.raises(NoPicturesError):
        compare(other, images=tmp_path / "none")
    with pytest.raises(UnknownModelError):
        compare(other, images=pictures)
    with pytest.raises(bhk.BhkError, match=r"none\.pth"):
        compare(tmp_path / "none.pth")


def test_it_is_public() -> None:
    assert bhk.compare is compare
    assert bhk.ComparisonReport is ComparisonReport
