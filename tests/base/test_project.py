from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from bhk.base import project
from bhk.base.project import installation, repository


def _install(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Put the metadata of an installed bhk before all others."""
    info = folder / "bhk-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("\n".join(("Metadata-Version: 2.4", "Name: bhk", "Version: 9.9", *lines, "", "")))
    monkeypatch.syspath_prepend(str(folder))


def test_with_an_address_the_command_works_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [f"Project-URL: {name}, https://example.org/{name}" for name in ("Homepage", "Repository")]
    _install(tmp_path, monkeypatch, *urls)
    assert repository() == "https://example.org/Repository"
    assert installation() == "`pip install 'bhk @ git+https://example.org/Repository'`"
    assert installation("sam") == "`pip install 'bhk[sam] @ git+https://example.org/Repository'`"


def test_without_an_address_the_command_works_in_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, monkeypatch)
    assert repository() is None
    assert installation() == "`pip install '.'` in a clone of bhk"
    assert installation("sam") == "`pip install '.[sam]'` in a clone of bhk"


def test_bhk_need_not_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(project, "metadata", missing)
    assert repository() is None
