"""The wheel holds the whole package, kernels included, and nothing else; the source distribution, all that a clone has."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_SOURCES = ("bhk", "kernels")
_FOLDERS = (*_SOURCES, "docs", "examples", "format_spec", "tests", "tools")
_PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "pyproject.toml",
)


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


# The first versions in which a file from a stranger cannot use a known hole to run code or to corrupt memory.
_SAFE = {"torch": (2, 10), "pillow": (12, 3), "accelerate": (1, 15), "pyyaml": (5, 4)}


def test_minimums_are_versions_without_known_holes() -> None:
    text = (_ROOT / "pyproject.toml").read_text("utf-8")
    found = re.findall(r'^ *"([\w-]+)>=([\d.]+)', text, re.MULTILINE)
    for name, safe in _SAFE.items():
        versions = [tuple(map(int, version.split("."))) for package, version in found if package == name]
        assert versions, name
        assert min(versions) >= safe
    assert "pillow>=13; python_version >= '3.11'\"" in text


def _files(folder: Path) -> set[str]:
    """Return the files of a source tree, with the link bhk/kernels followed."""
    found = {path for name in _FOLDERS for path in (folder / name).rglob("*") if path.is_file()}
    found |= set((folder / "bhk" / "kernels").glob("*"))
    return {
        path.relative_to(folder).as_posix()
        for path in found
        if not {"__pycache__", "bhk.egg-info"} & {*path.relative_to(folder).parts}
    }


def test_a_source_distribution_holds_tests_vectors_and_documents(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    for name in _FOLDERS:
        shutil.copytree(_ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _PAGES:
        shutil.copy(_ROOT / name, tmp_path)
    code = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as files:
        names = {member.name.partition("/")[2] for member in files if member.isfile()}
    made = {name for name in names if name.startswith("bhk.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    assert names - made == _files(_ROOT) | set(_PAGES)
    assert {"tests/conftest.py", "format_spec/vectors/manifest.json", "docs/formats.md"} <= names
