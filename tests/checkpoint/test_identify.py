from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch

from bhk.checkpoint import (
    AlreadyBhkError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    NotACheckpointError,
    UnreadableCheckpointError,
    UnsafePickleError,
)
from bhk.checkpoint.identify import Kind, identify


def _identify(path: Path) -> Kind:
    return identify(path, path.name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer.*git lfs pull"),
        (b"\xef\xbb\xbf \n<!DOCTYPE HTML><html><body>Sign in", "web page"),
        (b"<html>", "web page"),
        (b"Repository not found\n", "text file"),
        (b"cos\nsystem\n(S'true'\ntR.", "text file"),
        (b"\x1f\x8b\x08\x00", "gzip.*unpack"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (b"a.pth" + bytes(252) + b"ustar\x0000", "tar archive"),
        (b"\x00\x01\x02\x03 noise", "unknown format"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "sam.pth"
    path.write_bytes(content)
    with pytest.raises(NotACheckpointError, match=message):
        _identify(path)


def test_a_bhk_file_is_sent_to_export(tmp_path: Path) -> None:
    path = tmp_path / "sam.pth"
    path.write_bytes(b"\x89BHK\r\n\x1a\n" + bytes(56))
    with pytest.raises(AlreadyBhkError, match=r"already a \.bhk file.*bhk export"):
        _identify(path)


def test_a_truncated_torch_file_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "sam.pth"
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptCheckpointError, match="get the file again"):
        _identify(path)


def test_a_safetensors_header_beyond_the_file_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "sam.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little") + b'{"a":1}')
    with pytest.raises(CorruptCheckpointError, match="has 15 bytes"):
        _identify(path)


def test_torchscript_is_a_program(tmp_path: Path) -> None:
    path = tmp_path / "sam.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("sam/data.pkl", "sam/constants.pkl", "sam/code/model.py"):
            archive.writestr(name, b"x")
    with pytest.raises(UnsafePickleError, match="TorchScript"):
        _identify(path)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="does not exist"):
        _identify(tmp_path / "sam.pth")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(NotACheckpointError, match="not a regular file"):
        _identify(tmp_path / "pipe.pth")


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "sam.pth"
    path.write_bytes(b"PK")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # the superuser can read everything
    try:
        with pytest.raises(UnreadableCheckpointError, match="Permission denied"):
            _identify(path)
    finally:
        os.seteuid(user)
