from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import bhk
from bhk.base.files import DestinationExistsError, WriteError
from bhk.base.packages import MissingPackageError, Package
from bhk.reports import figures
from bhk.reports.figures import FORMATS, NAMES
from reports.conftest import Made


def test_figures_are_written_as_pdf_png_and_svg(made: Made, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    folder = tmp_path / "figures"
    images = made.images / "scene 0.png"
    written = bhk.report(
        made.file, tmp_path / "a.html", against=made.original, images=images, figures=folder, threads=1
    )
    assert set(written.figures) == {folder / f"{name}.{suffix}" for name in NAMES for suffix in FORMATS}
    for path in written.figures:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 400
                assert len(image.convert("RGB").getcolors(image.width * image.height)) > 4
        elif path.suffix == ".pdf":
            data = path.read_bytes()
            assert data.startswith(b"%PDF")
            assert b"CreationDate" not in data
        else:
            assert "<svg" in path.read_text("utf-8")
    with pytest.raises(DestinationExistsError, match=r"layer_map\.pdf exists"):
        bhk.report(made.file, tmp_path / "b.html", figures=folder, threads=1)
    with pytest.raises(WriteError, match="cannot make the folder"):
        bhk.report(made.file, tmp_path / "b.html", figures=tmp_path / "none" / "figures")
    assert not (tmp_path / "b.html").exists()


def test_without_matplotlib_nothing_is_written(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MATPLOTLIB", Package("no_such_matplotlib", "run: pip install matplotlib"))
    with pytest.raises(MissingPackageError, match=r"pip install matplotlib"):
        bhk.report(made.file, tmp_path / "a.html", figures=tmp_path / "figures")
    assert list(tmp_path.iterdir()) == []
