from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hub.fake_hub import FakeHub

import bhk
from bhk.base.files import DestinationExistsError, WriteError
from bhk.pictures.folder import NoPicturesError
from bhk.reports.layers import OriginalError
from bhk.tasks.report import PageReport, ReportError, report


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save({"a.weight": torch.randn(40, 40), "b": torch.ones(3)}, tmp_path / "a.pth")
    path = bhk.convert(tmp_path / "a.pth", threads=1).path
    assert path is not None
    return path


def test_the_page_is_beside_the_file_and_replaced_only_by_force(file: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    written = report(file, progress=lambda *args: seen.append(args), threads=1)
    assert written.path == file.with_suffix(".html")
    assert written.bytes == written.path.stat().st_size
    assert (written.figures, written.pictures, written.iou, written.skipped) == ((), (), None, ())
    assert seen[-1] == ("Layers", 6412, 6412)
    assert '"original":null' in written.path.read_text("utf-8")
    with pytest.raises(DestinationExistsError):
        report(file)
    report(file, force=True, threads=1)
    with pytest.raises(WriteError, match="is the file that is being read"):
        report(file, file, force=True)


def test_a_file_on_the_hub_gets_its_page_in_the_current_folder(
    file: Path, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hub.add("user/tiny", {"model.bhk": file})
    assert report("hf://user/tiny", threads=1).path == Path("tiny.html")


def test_a_wrong_original_leaves_no_page(file: Path, tmp_path: Path) -> None:
    for tensors, message in (
        ({"a.weight": torch.randn(40, 40), "b": torch.ones(3)}, "from the original, but by at most"),
        (
            {"a.weight": torch.randn(40, 40), "c": torch.ones(3)},
            "the file and other.pth differ in 2 tensor names, such as",
        ),
    ):
        torch.save(tensors, tmp_path / "other.pth")
        with pytest.raises(OriginalError, match=message):
            report(file, against=tmp_path / "other.pth", threads=1)
    assert not file.with_suffix(".html").exists()


def test_pictures_need_the_original_and_must_exist(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="give against, the checkpoint that the file"):
        report(file, images=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoPicturesError, match="empty has no picture that can be read"):
        report(file, images=tmp_path / "empty", against=tmp_path / "a.pth")
    with pytest.raises(ReportError, match="a limit of 0 pictures leaves none"):
        report(file, images=tmp_path / "empty", against=tmp_path / "a.pth", limit=0)


def test_it_is_public() -> None:
    assert bhk.report is report
    assert bhk.PageReport is PageReport
