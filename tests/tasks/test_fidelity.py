from __future__ import annotations

import dataclasses
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sam import models

import bhk
from bhk.base.files import DestinationExistsError
from bhk.base.progress import Progress
from bhk.base.workdir import WorkDirError
from bhk.engines.errors import MissingResultsError
from bhk.evaluation.documents import read_reports
from bhk.evaluation.frame import DifferentModelsError, _check_same_architecture
from bhk.evaluation.models import ModelSource
from bhk.evaluation.results import FidelityReport
from bhk.evaluation.settings import FidelitySettings, SettingsError
from bhk.nn.errors import LoadOptionError
from bhk.pictures.folder import NoPicturesError
from bhk.pictures.scenes import make_scene
from bhk.sam.build import UnknownModelError
from bhk.sam.checkpoints import read_checkpoint
from bhk.tasks.fidelity import fidelity

_FEW = FidelitySettings(points=2, boxes=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sam.pth, sam.bhk and, in pictures, five of them and a damaged one."""
    folder = tmp_path_factory.mktemp("fidelity")
    torch.save(models.small_sam().state_dict(), folder / "sam.pth")
    bhk.convert(folder / "sam.pth")
    (folder / "pictures" / "more").mkdir(parents=True)
    for number in range(5):
        picture = Image.fromarray(make_scene((1 << 40) + number).picture)
        picture.save(folder / "pictures" / ("more" if number > 3 else "") / f"{number}.png")
    (folder / "pictures" / "bad.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> FidelityReport:
    return fidelity(folder / "sam.bhk", folder / "pictures", against=folder / "sam.pth", settings=_FEW, workers=1)


def test_a_compressed_model_is_close_to_its_original(folder: Path, report: FidelityReport) -> None:
    assert report.fidelity.all.masks == 5 * 4
    assert 0.5 < report.fidelity.all.iou_mean.value < 1
    assert report.control is not None
    assert report.fidelity.all.iou_mean.value < report.control.all.iou_mean.value < 1
    assert report.control.embedding_cosine.value > 0.999
    assert report.model.ratio == bhk.inspect(folder / "sam.bhk").ratio
    assert report.original.ratio is None
    assert (report.model.family, report.model.arguments) == (report.original.family, report.original.arguments)
    assert report.original.bytes == (folder / "sam.pth").stat().st_size


def test_pictures_that_cannot_be_read_are_named(report: FidelityReport) -> None:
    assert (report.pictures, len(report.skipped)) == (5, 1)
    assert report.skipped[0].name == "bad.jpg"
    assert "is not a picture of a known format" in report.skipped[0].reason
    assert [picture.name for picture in report.images] == ["0.png", "1.png", "2.png", "3.png", "more/4.png"]


def test_pictures_in_tar_archives_give_what_files_give(folder: Path, report: FidelityReport, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name in ("0.png", "1.png", "2.png", "3.png", "bad.jpg", "more/4.png"):
            archive.add(folder / "pictures" / name, name)
    with (tmp_path / "0.tar").open("ab") as file:
        file.write(b"rubbish" * 100)
    found = fidelity(folder / "sam.bhk", tmp_path, against=folder / "sam.pth", settings=_FEW, workers=1)
    assert [picture.fidelity for picture in found.images] == [picture.fidelity for picture in report.images]
    assert [picture.name for picture in found.skipped] == ["0.tar/bad.jpg", "0.tar"]
    assert found.skipped[1].reason.startswith("damaged from byte ")


def test_an_original_agrees_with_itself_exactly(folder: Path) -> None:
    settings = FidelitySettings(points=2, boxes=1, control=False)
    found = fidelity(folder / "sam.pth", folder / "pictures", against=folder / "sam.pth", settings=settings, workers=1)
    for picture in found.images:
        assert picture.fidelity is not None
        assert set(picture.fidelity.iou) == set(picture.fidelity.boundary_iou) == {1.0}
        assert set(picture.fidelity.score_change) == {0.0}
        assert picture.fidelity.embedding_cosine == 1.0
    assert found.control is None


def test_what_is_assumed_about_a_checkpoint_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def assuming(path: Path, **options: Any) -> tuple[Any, Any]:
        found, recognised = read_checkpoint(path, **options)
        return found, dataclasses.replace(recognised, note="taken for SAM-B")

    monkeypatch.setattr("bhk.evaluation.frame.read_checkpoint", assuming)
    settings = FidelitySettings(points=1, boxes=0, control=False, limit=1)
    found = fidelity(folder / "sam.bhk", folder / "pictures", against=folder / "sam.pth", settings=settings, workers=1)
    assert (found.model.note, found.original.note) == (None, "taken for SAM-B")
    assert found.hints == ("sam.pth: taken for SAM-B",)


def test_results_do_not_depend_on_workers_or_interruptions(
    folder: Path, report: FidelityReport, tmp_path: Path
) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("Evaluating", 6)
        if done == 4:
            raise KeyboardInterrupt

    def run(settings: FidelitySettings = _FEW, progress: Progress | None = None, workers: int = 1) -> FidelityReport:
        return fidelity(
            folder / "sam.bhk",
            folder / "pictures",
            against=folder / "sam.pth",
            settings=settings,
            workers=workers,
            work_dir=tmp_path,
            progress=progress,
        )

    with pytest.raises(KeyboardInterrupt):
        run(progress=stop, workers=2)
    assert len(list(tmp_path.glob("shard-*.json"))) in (1, 2)
    assert run() == report
    with pytest.raises(WorkDirError, match=r"holds results of other work \(different seed\)"):
        run(FidelitySettings(points=2, boxes=1, seed=1))


def test_merged_parts_are_the_result_of_one_process(folder: Path, report: FidelityReport, tmp_path: Path) -> None:
    seen = []

    def run(part: bhk.Part | None, workers: int) -> object:
        return fidelity(
            folder / "sam.bhk",
            folder / "pictures",
            against=folder / "sam.pth",
            settings=_FEW,
            workers=workers,
            work_dir=tmp_path,
            part=part,  # type: ignore[arg-type]
            progress=lambda stage, done, total: seen.append((done, total)),
        )

    assert str(run(bhk.Part(1, 2), 1)) == f"part 1/2: 4 of 6 pictures, in {tmp_path}"
    assert seen == [(0, 4), (4, 4)]
    with pytest.raises(MissingResultsError, match=r"lacks 1 of 2 shards, those of 2/2; run these parts again"):
        run(None, 0)
    run(bhk.Part(2, 2), 1)
    assert run(None, 0) == report
    with pytest.raises(SettingsError, match="a part needs work_dir"):
        fidelity(folder / "sam.bhk", folder / "pictures", against=folder / "sam.pth", part=bhk.Part(1, 2))  # type: ignore[call-overload]


def test_several_models_run_the_original_once(
    folder: Path, report: FidelityReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bhk.convert(folder / "sam.pth", tmp_path / "coarse.bhk", bhk.Quality(snr_db=8))
    loaded, load = list[str](), ModelSource.load

    def counted(source: ModelSource) -> torch.nn.Module:
        loaded.append(f"{Path(source.path).name} {source.dtype}")
        return load(source)

    monkeypatch.setattr(ModelSource, "load", counted)
    files = [folder / "sam.bhk", tmp_path / "coarse.bhk"]
    found = fidelity(files, folder / "pictures", against=folder / "sam.pth", settings=_FEW, workers=1)
    assert loaded == ["sam.pth float32", "sam.bhk float32", "coarse.bhk float32", "sam.pth bfloat16"]
    assert found.reports[0] == report
    assert found.reports[1].fidelity.all.iou_mean.value < report.fidelity.all.iou_mean.value
    records = list(found.records())
    assert [record["model"] for record in records] == [
        *["sam.bhk"] * 4,
        *["coarse.bhk"] * 4,
        *["sam.pth in bfloat16"] * 4,
    ]
    found.save(tmp_path / "both.json")
    assert read_reports(tmp_path / "both.json") == found.reports
    with pytest.raises(SettingsError, match="there is no model to evaluate"):
        fidelity([], folder / "pictures", against=folder / "sam.pth")


def test_the_document(report: FidelityReport, tmp_path: Path) -> None:
    report.save(tmp_path / "results.json")
    found = report.document()
    assert json.loads((tmp_path / "results.json").read_bytes()) == found
    assert read_reports(tmp_path / "results.json") == (report,)
    assert {name: found[name] for name in ("format", "version", "protocol", "pictures")} == {
        "format": "bhk-evaluation",
        "version": 1,
        "protocol": "fidelity",
        "pictures": 5,
    }
    assert found["settings"]["points"] == 2
    assert found["model"]["sha256"] == report.model.sha256
    assert set(found["fidelity"]["all"]["iou_mean"]) == {"value", "low", "high"}
    assert found["skipped"][0]["name"] == "bad.jpg"
    assert len(found["images"][0]["fidelity"]["iou"]) == 4
    with pytest.raises(DestinationExistsError):
        report.save(tmp_path / "results.json")


def test_models_of_other_kinds_are_refused(folder: Path, tmp_path: Path) -> None:
    torch.save(models.small_sam(width=32).state_dict(), tmp_path / "narrow.pth")
    torch.save(models.small_sam_hq().state_dict(), tmp_path / "hq.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    for name, error, message in (
        ("narrow.pth", DifferentModelsError, r"holds another model \(.* of sizes .*\) than .* \(.* of sizes "),
        ("hq.pth", DifferentModelsError, "give the checkpoint that it was converted from"),
        ("other.pth", UnknownModelError, "holds no Segment Anything model that bhk can build"),
    ):
        with pytest.raises(error, match=message):
            fidelity(folder / "sam.bhk", folder / "pictures", against=tmp_path / name)


def test_a_model_whose_pictures_are_prepared_in_another_way_is_another_model(report: FidelityReport) -> None:
    medsam = dataclasses.replace(report.model, variant="medsam", title="MedSAM")
    with pytest.raises(DifferentModelsError, match=r"holds another model \(MedSAM\) than"):
        _check_same_architecture(medsam, report.original)
    _check_same_architecture(medsam, dataclasses.replace(report.original, variant="medsam"))


def test_other_mistakes(folder: Path, tmp_path: Path) -> None:
    sam, pictures = folder / "sam.pth", folder / "pictures"
    with pytest.raises(SettingsError, match="0 points and 0 boxes per picture; expected at least one prompt"):
        FidelitySettings(points=0, boxes=0)
    with pytest.raises(LoadOptionError, match="device 'abacus' cannot be used"):
        fidelity(sam, pictures, against=sam, settings=FidelitySettings(device="abacus"))
    with pytest.raises(NoPicturesError):
        fidelity(sam, tmp_path, against=sam)
    shutil.copy(pictures / "bad.jpg", tmp_path)
    with pytest.raises(NoPicturesError, match=r"no picture can be used, of 1 tried; bad\.jpg: .* is not a picture"):
        fidelity(sam, tmp_path, against=sam, settings=FidelitySettings(control=False), workers=1)


def test_it_is_public() -> None:
    assert bhk.fidelity is fidelity
    assert bhk.FidelityReport is FidelityReport
    assert bhk.FidelitySettings is FidelitySettings
