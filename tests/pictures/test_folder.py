from __future__ import annotations

import os
from pathlib import Path

import pytest

from bhk.pictures.folder import NoPicturesError, find_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "sub/deep/c.webp", "notes.txt", ".hidden.png", ".cache/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_pictures_in_subfolders_count(folder: Path) -> None:
    assert find_pictures(folder) == ("a.JPG", "b.png", "sub/deep/c.webp")


def test_pictures_are_drawn_at_random(folder: Path) -> None:
    drawn = {find_pictures(folder, limit=2, seed=seed) for seed in range(20)}
    assert drawn == {("a.JPG", "b.png"), ("a.JPG", "sub/deep/c.webp"), ("b.png", "sub/deep/c.webp")}
    assert find_pictures(folder, limit=3) == find_pictures(folder, limit=9) == find_pictures(folder)


def test_a_limit_must_be_positive(folder: Path) -> None:
    with pytest.raises(NoPicturesError, match="cannot use 0 pictures"):
        find_pictures(folder, limit=0)
    try:
        (folder / os.fsdecode(b"\xff.png")).touch()
    except OSError:
        pytest.skip("names have to be UTF-8 here")
    with pytest.raises(NoPicturesError, match="whose name is not UTF-8; rename it"):
        find_pictures(folder)


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(NoPicturesError, match=r"holds no pictures; expected files with the suffixes \.jpg"):
        find_pictures(tmp_path)
    with pytest.raises(NoPicturesError, match="none: No such file or directory"):
        find_pictures(tmp_path / "none")
    with pytest.raises(NoPicturesError, match=r"notes\.txt is a file; expected a folder of pictures"):
        find_pictures(tmp_path / "notes.txt")
