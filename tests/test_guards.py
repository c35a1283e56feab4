"""The guards see the package as it is installed, kernels included: they find faults that are planted in a copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A copy of the project in which a fault can be planted."""
    shutil.copy(_ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(_ROOT / "kernels", tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(_ROOT / "bhk", tmp_path / "bhk", ignore=shutil.ignore_patterns("__pycache__", "page", "kernels"))
    _link_kernels(tmp_path)
    return tmp_path


def _link_kernels(folder: Path) -> None:
    """Link them as a clone does; an unpacked source distribution holds files in place of the link."""
    (folder / "bhk" / "kernels").symlink_to("../kernels", target_is_directory=True)


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("importlinter")
    return _run(
        folder, sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])"
    )


def test_each_room_imports_only_rooms_below_it() -> None:
    done = _lint_imports(_ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("kernels/lattice.py", "from bhk.container.header import Header"),
        ("kernels/resident.py", "from bhk.nn.errors import LoadError"),
        ("bhk/codec/shape.py", "from bhk.kernels.sizes import ceil_div"),
    ],
)
def test_an_import_of_a_room_above_is_found(planted: Path, file: str, line: str) -> None:
    path = planted / file
    path.write_text(path.read_text() + f"\n{line}\n")
    done = _lint_imports(planted)
    assert done.returncode == 1
    assert line.split()[1] in done.stdout


def test_types_of_kernels_are_seen_from_other_rooms(tmp_path: Path) -> None:
    shutil.copy(_ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(_ROOT / "kernels", tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    package = tmp_path / "bhk"
    package.mkdir()
    _link_kernels(tmp_path)
    (package / "__init__.py").touch()
    (package / "planted.py").write_text(
        "from bhk.kernels.sizes import ceil_div\n\nRIGHT: int = ceil_div(3, 2)\nWRONG: str = ceil_div(3, 2)\n"
    )
    pytest.importorskip("mypy")
    done = _run(tmp_path, sys.executable, "-m", "mypy", "--cache-dir", os.devnull, "-m", "bhk.planted")
    assert "planted.py:4: error: Incompatible types in assignment" in done.stdout
    assert "Found 1 error" in done.stdout
