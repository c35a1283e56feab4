"""No module is taken from the current folder (promise 1 of SECURITY.md)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bhk

_ROOT = Path(bhk.__file__).parent.parent
_SAYS = "import sys\nprint('taken', __name__)\nsys.exit(7)\n"
_PACKAGES = ("numpy", "torch", "msgspec", "zstandard", "typer", "rich", "safetensors", "yaml", "PIL", "huggingface_hub")
_new = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python starts with modules of the current folder")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with a file for every module of Python and every package of bhk, and a .bhk file."""
    for name in (*sys.stdlib_module_names, *_PACKAGES):
        (tmp_path / f"{name}.py").write_text(_SAYS)
    shutil.copy(_ROOT / "format_spec" / "vectors" / "good" / "aliases.bhk", tmp_path / "a.bhk")
    return tmp_path


def _run(folder: Path, *command: object) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
    )
    return ended.returncode, ended.stdout + ended.stderr


@_new
def test_the_module_bhk_takes_none(hostile: Path) -> None:
    assert _run(hostile, "-c", "import pprint")[0] == 7  # as Python does by itself
    status, said = _run(hostile, "-m", "bhk", "inspect", "a.bhk")
    assert status == 0, said
    assert "taken" not in said


def test_the_script_bhk_takes_none(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = tmp_path_factory.mktemp("bin") / "bhk"
    script.write_text("from bhk.cli.main import main\nmain()\n")
    status, said = _run(hostile, script, "inspect", "a.bhk")
    assert status == 0, said
    assert "taken" not in said


_SPAWNS = """
from bhk.engines.processes import Processes
if __name__ == "__main__":
    print(sorted(Processes(2).compute(abs, [1, -2, 3], [0, 1, 2])))
"""


@_new
def test_processes_of_an_evaluation_take_none(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = tmp_path_factory.mktemp("bin") / "evaluate.py"
    script.write_text(_SPAWNS)
    assert _run(hostile, script) == (0, "[(0, 1), (1, 2), (2, 3)]\n")
