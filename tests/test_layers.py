from __future__ import annotations

from pathlib import Path

from importlinter.cli import lint_imports

_PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def test_rooms_import_only_what_stands_above_them() -> None:
    assert lint_imports(str(_PROJECT), no_cache=True) == 0
