"""How the command line begins, before it has imported its commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bhk as package

_ROOT = Path(package.__file__).parent.parent
# Runs `bhk`, and something else when it imports a package.
_IMPORTING = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {package!r}:
            {action}

sys.meta_path.insert(0, Finder())
sys.path.insert(0, {root!r})
from bhk.cli.main import main
main()
"""


def _bhk(package: str, action: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = _IMPORTING.format(package=package, action=action, root=str(_ROOT))
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [
        ("typer", ()),
        ("typer", ("inspect", "sam.bhk", "--json")),
        ("rich", ("--help",)),
        ("numpy", ("verify", "a", "-q")),
    ],
)
def test_a_missing_package_is_one_line(missing: str, arguments: tuple[str, ...]) -> None:
    ended = _bhk(missing, "raise ModuleNotFoundError(name, name=name)", *arguments)
    message = f"this needs the package {missing}, which is not installed; run: pip install {missing}"
    assert (ended.returncode, ended.stderr) == (1, f"error: {message}\n")
    if "--json" in arguments:
        assert json.loads(ended.stdout) == {"error": {"type": "MissingPackageError", "message": message}}


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_can_be_interrupted_while_it_imports(number: signal.Signals, status: int) -> None:
    ended = _bhk("typer", f"import os; os.kill(os.getpid(), {number.value})", "models")
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", "error: interrupted\n")
