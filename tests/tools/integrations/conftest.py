from __future__ import annotations

from pathlib import Path

import pytest

import bhk
from tools import demo


@pytest.fixture(scope="session")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model as a .bhk file."""
    pytest.importorskip("segment_anything")
    path = bhk.convert(demo.write_checkpoint(tmp_path_factory.mktemp("demo") / "demo_sam.pth")).path
    assert path is not None
    return path
