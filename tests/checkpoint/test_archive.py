from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch

from bhk.checkpoint import (
    AmbiguousCheckpointError,
    CorruptCheckpointError,
    NotACheckpointError,
    UnknownWeightsError,
    UnsafePickleError,
    read,
)


def _checkpoint(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_zipped_checkpoint_outlives_its_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    member = _checkpoint({"model": {"a": torch.arange(1000.0)}})
    noise = {"README.md": b"text", "__MACOSX/weights/._vits.pt": b"x", "weights/._x.pt": b"x"}
    path = _zip(tmp_path / "efficient_sam_vits.pt.zip", {"weights/vits.pt": member, **noise})
    checkpoint = read(path)
    assert list(temporary.iterdir()) == []
    assert torch.equal(checkpoint.tensors["a"], torch.arange(1000.0))
    assert checkpoint.layout.wrapper == ("model",)
    assert checkpoint.source.name == "efficient_sam_vits.pt.zip"
    assert checkpoint.source.size == path.stat().st_size


def test_the_key_selects_a_member(tmp_path: Path) -> None:
    path = _zip(tmp_path / "both.zip", {n: _checkpoint({n[0]: torch.ones(1)}) for n in ("a.pt", "b/b.pth")})
    with pytest.raises(AmbiguousCheckpointError, match=r"a\.pt, b/b\.pth") as caught:
        read(path)
    assert caught.value.choices == ("a.pt", "b/b.pth")
    assert list(read(path, key="b/b.pth").tensors) == ["b"]
    with pytest.raises(UnknownWeightsError, match=r"'c\.pt'.*a\.pt, b/b\.pth"):
        read(path, key="c.pt")


def test_the_key_of_a_single_member_goes_to_its_wrapper(tmp_path: Path) -> None:
    content = {"teacher": {"t": torch.ones(1)}, "student": {"s": torch.ones(1)}}
    path = _zip(tmp_path / "one.zip", {"a.pt": _checkpoint(content)})
    assert list(read(path, key="student").tensors) == ["s"]


def test_errors_name_the_member_and_not_the_temporary_file(tmp_path: Path) -> None:
    path = _zip(tmp_path / "one.zip", {"a.pt": _checkpoint(torch.nn.Identity())})
    with pytest.raises(UnsafePickleError, match=r"^a\.pt in .*one\.zip needs"):
        read(path)


@pytest.mark.parametrize("members", [{}, {"README.md": b"text"}, {"a.pt": b""}])
def test_a_zip_without_checkpoint(tmp_path: Path, members: dict[str, bytes]) -> None:
    with pytest.raises(NotACheckpointError):
        read(_zip(tmp_path / "x.pt", members))


def test_a_zip_in_a_zip_is_not_followed(tmp_path: Path) -> None:
    inner = _zip(tmp_path / "inner.zip", {"a.pt": _checkpoint({"a": torch.ones(1)})})
    with pytest.raises(NotACheckpointError, match="zip file in a zip file"):
        read(_zip(tmp_path / "outer.zip", {"inner.pt": inner.read_bytes()}))


def test_a_damaged_member_is_corrupt(tmp_path: Path) -> None:
    path = _zip(tmp_path / "x.zip", {"a.pt": _checkpoint({"a": torch.rand(500)})})
    data = bytearray(path.read_bytes())
    data[300] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(CorruptCheckpointError, match="get the file again"):
        read(path)
