from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from bhk.base.files import WriteError
from bhk.checkpoint.errors import AmbiguousCheckpointError, CheckpointNotFoundError
from bhk.conversion.sources import find_sources


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "runs/a.pth",
        "runs/b.safetensors",
        "runs/b.pth",
        "runs/notes.txt",
        "runs/optimizer.pt",
        "runs/.hidden/c.pth",
        "runs/one/last.pt",
        "runs/two/last.pt",
        "runs/two/best.pt",
        "runs/hf/config.json",
        "runs/hf/model.safetensors",
        "runs/hf/pytorch_model.bin",
        "runs/shards/model.safetensors.index.json",
        "runs/shards/model-00001-of-00001.safetensors",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def _found(*given: str) -> dict[str, str]:
    return {planned.source: planned.path.as_posix() for planned in find_sources(given)}


def test_a_folder_stands_for_what_is_in_it_and_below(folder: Path) -> None:
    assert _found("runs") == {
        "runs/a.pth": "a.bhk",
        "runs/b.safetensors": "b.bhk",
        "runs/hf": "hf.bhk",
        "runs/one/last.pt": "one/last.bhk",
        "runs/shards": "shards.bhk",
        "runs/two/best.pt": "two/best.bhk",
        "runs/two/last.pt": "two/last.bhk",
    }
    assert list(_found("runs")) == list(_found("runs/"))


def test_a_folder_that_is_one_checkpoint_is_one(folder: Path) -> None:
    assert _found("runs/hf", "runs/shards/") == {"runs/hf": "hf.bhk", "runs/shards": "shards.bhk"}
    (folder / "runs" / "hf" / "sam_vit_b.pth").write_bytes(b"")
    with pytest.raises(
        AmbiguousCheckpointError,
        match=r"hf holds model\.safetensors, as a folder that is one checkpoint does, but others as well: sam_vit_b\.pth; name",
    ):
        find_sources(["runs"])


def test_patterns_files_and_addresses(folder: Path) -> None:
    assert _found("runs/*.pth", "runs/two/l*.pt") == {
        "runs/a.pth": "a.bhk",
        "runs/b.pth": "b.bhk",
        "runs/two/last.pt": "last.bhk",
    }
    (folder / "odd[1].pth").write_bytes(b"")
    assert _found("odd[1].pth", "hf://user/repo") == {"odd[1].pth": "odd[1].bhk", "hf://user/repo": "repo.bhk"}
    assert find_sources([Path("runs/a.pth")])[0].path == PurePath("a.bhk")


def test_nothing_there_and_two_of_one_name(folder: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"missing\.pth does not exist; check the name"):
        find_sources(["runs", "missing.pth"])
    with pytest.raises(CheckpointNotFoundError, match=r"no file matches nothing/\*\.pth"):
        find_sources(["nothing/*.pth"])
    (folder / "empty" / "below").mkdir(parents=True)
    with pytest.raises(CheckpointNotFoundError, match="empty and its subfolders hold no checkpoint"):
        find_sources(["empty"])
    with pytest.raises(
        WriteError, match=r"runs/one/last\.pt and runs/two/last\.pt would both be written to last\.bhk; rename one"
    ):
        find_sources(["runs/*/last.pt"])


def test_what_is_named_twice_or_linked_counts_once(folder: Path) -> None:
    Path("runs/again").symlink_to(Path("runs").resolve(), target_is_directory=True)
    once = _found("runs")
    assert _found("runs", "runs") == once
    assert not any("again" in source for source in once)
    assert _found("runs/a.pth", "runs/a*.pth") == {"runs/a.pth": "a.bhk"}
