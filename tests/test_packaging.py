"""The wheel holds the whole package, kernels included, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_SOURCES = ("bhk", "kernels")


def _build(folder: Path) -> set[str]:
    """Return the files in the wheel of a copy of the project in which links are text files, as on some systems."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(_ROOT / name, folder)
    for name in _SOURCES:
        shutil.copytree(
            _ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "kernels")
        )
    (folder / "bhk" / "kernels").write_text("../kernels")
    code = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    (wheel,) = (folder / "dist").iterdir()
    assert wheel.stat().st_size < 1_000_000
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_a_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    there = {path.relative_to(_ROOT) for name in _SOURCES for path in (_ROOT / name).rglob("*") if path.is_file()}
    expected = {path.as_posix() for path in there if "__pycache__" not in path.parts and path.suffix != ".md"}
    expected |= {"bhk/publishing/card.md"}
    assert _build(tmp_path) == {name if name.startswith("bhk/") else f"bhk/{name}" for name in expected}
