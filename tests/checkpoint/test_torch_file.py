"""Reading runs no code (promise 1 of SECURITY.md)."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from bhk.checkpoint import CorruptCheckpointError, UnsafePickleError, UnsupportedTensorError, read


class _Trap:
    """Creates a file when anything that runs pickled code unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("save", ["zip", "legacy", "pickle"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_would_run_code_does_not(tmp_path: Path, save: str) -> None:
    path, proof = tmp_path / "evil.pth", tmp_path / "executed"
    content = {"model": {"a": torch.zeros(2)}, "args": _Trap(proof)}
    if save == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=4))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=save == "zip")
    with pytest.raises(UnsafePickleError, match=r"needs (posix|nt)\.mkdir.* to load.*state_dict") as caught:
        read(path)
    assert not proof.exists()
    assert "\n" not in str(caught.value)
    if save == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert proof.exists()  # the trap works


def test_a_whole_module_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "module.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(UnsafePickleError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_both_torch_formats_read_the_same(tmp_path: Path, weights: dict[str, torch.Tensor], legacy: bool) -> None:
    path = tmp_path / "sam.pth"
    torch.save(OrderedDict(weights), path, _use_new_zipfile_serialization=not legacy)
    tensors = read(path).tensors
    assert list(tensors) == list(weights)
    assert all(torch.equal(tensors[name], weights[name]) for name in weights)


def test_the_tensors_are_mapped_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sam.pth"
    torch.save({"a": torch.zeros(1 << 16)}, path)
    tensor = read(path).tensors["a"]
    # A private mapping shows what is written to the file afterwards, where it has not been touched itself.
    data = path.read_bytes()
    with open(path, "r+b") as file:
        file.seek(data.index(bytes(1 << 18)))
        file.write(b"\x00\x00\x80\x3f")
    assert tensor[0] == 1


def test_repacked_and_renamed_torch_files_are_read(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.safetensors", tmp_path / "packed.pt"
    torch.save({"a": torch.arange(1000.0)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    for path in (plain, packed):
        assert torch.equal(read(path).tensors["a"], torch.arange(1000.0))


def test_a_damaged_pickle_is_corrupt_whatever_it_raises(tmp_path: Path) -> None:
    path = tmp_path / "sam.pth"
    torch.save({"a": torch.zeros(4)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for length in range(2, len(whole), 7):
        path.write_bytes(whole[:length])
        # A class name that is cut short is one that is not allowed.
        with pytest.raises((CorruptCheckpointError, UnsafePickleError)) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_a_plain_pickle_is_not_a_torch_file(tmp_path: Path) -> None:
    path = tmp_path / "numbers.bin"
    path.write_bytes(pickle.dumps([1, 2, 3], protocol=2))
    with pytest.raises(CorruptCheckpointError, match="not a PyTorch checkpoint"):
        read(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["sparse", "quantized", "meta"])
def test_stored_tensors_without_dense_data_are_named(tmp_path: Path, kind: str) -> None:
    makers = {
        "sparse": lambda: torch.eye(3).to_sparse(),
        "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "meta": lambda: torch.empty(3, device="meta"),
    }
    torch.save({"fine": torch.ones(1), "neck.weight": makers[kind]()}, tmp_path / "sam.pth")
    with pytest.raises(UnsupportedTensorError, match=rf"'neck\.weight'.*{kind}"):
        read(tmp_path / "sam.pth")


def test_a_changed_byte_is_found_by_the_checksum(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "sam.pth"
    torch.save(weights, path)
    data = bytearray(path.read_bytes())
    at = data.index(weights["encoder.weight"].numpy().tobytes())
    data[at + 7] ^= 4
    path.write_bytes(data)
    assert not torch.equal(
        torch.load(path, mmap=True)["encoder.weight"], weights["encoder.weight"]
    )  # torch says nothing
    with pytest.raises(
        CorruptCheckpointError, match=r"is damaged .*Bad CRC-32 for file 'sam/data/\d'.*; get the file again"
    ):
        read(path)


def test_files_that_were_saved_without_checksums_are_read(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "sam.pth"
    try:
        torch.serialization.set_crc32_options(False)
        torch.save(weights, path)
    finally:
        torch.serialization.set_crc32_options(True)
    tensors = read(path).tensors
    assert all(torch.equal(tensors[name], weights[name]) for name in weights)
