from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_compute_what_the_operators_define() -> None:
    """Triton either interprets or compiles all kernels of a process, so the interpreted ones have a process of their own."""
    folder = Path(__file__).with_name("interpreted")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:xdist", str(folder)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
