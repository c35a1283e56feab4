from __future__ import annotations

import json
import os
import stat
import weakref
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from bhk.checkpoint import CorruptCheckpointError, Layout, TensorSpec, UnsupportedTensorError, read, write
from bhk.checkpoint.safetensors_file import _DTYPES


def _raw(header: str, data: bytes = b"") -> bytes:
    return len(header.encode()).to_bytes(8, "little") + header.encode() + data


_A = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
_B = '"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_raw(f"{{{_A},{_A}}}", bytes(4)), "'a' occurs twice"),
        (_raw('{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)), "damaged"),
        (_raw(f"{{{_A}}}", bytes(3)), "damaged"),
        (_raw(f"{{{_A}}}", bytes(5)), "damaged"),
        (_raw(f"{{{_A},{_B}}}", bytes(6)), "damaged"),
        (_raw('{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,4]}}', bytes(4)), "damaged"),
        (_raw('{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}', bytes(4)), "damaged"),
        (_raw('{"a":'), "damaged"),
        (_raw("{" + '"a":[' * 5000), "damaged"),
    ],
)
def test_faults_of_the_header_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "sam.safetensors"
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sam.safetensors"
    safetensors.torch.save_file({"a": torch.ones(4), "b": torch.ones(2)}, path)
    whole = path.read_bytes()
    for length in range(9, len(whole), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptCheckpointError):
            read(path)


def test_the_tensors_are_mapped_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "renamed.pth"
    safetensors.torch.save_file({"a": torch.zeros(1 << 16)}, path)
    tensor = read(path).tensors["a"]
    # A private mapping shows what is written to the file afterwards, where it has not been touched itself.
    with open(path, "r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\x00\x00\x80\x3f")
    assert tensor[-1] == 1


def test_the_library_reads_every_dtype_that_is_written(tmp_path: Path) -> None:
    path = tmp_path / "sam.safetensors"
    # Odd lengths: without sorting by item size, the wide types would lie at odd places.
    tensors = {str(dtype): torch.tensor([0, 1, 1], dtype=torch.uint8).to(dtype) for dtype in reversed(_DTYPES)}
    tensors |= {"none": torch.zeros(2, 0), "scalar": torch.tensor(3), "transposed": torch.arange(6.0).view(2, 3).T}
    specs = [TensorSpec(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]
    write(path, specs, tensors.__getitem__, aliases={"scalar": ["tied"]}, layout=Layout(), metadata={"licence": "MIT"})
    loaded = safetensors.torch.load_file(path)
    assert loaded.keys() == {*tensors, "tied"}
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor), name
    assert loaded["tied"] == 3
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "licence": "MIT"}
    assert list(read(path).tensors) == [*map(str, reversed(_DTYPES)), "none", "scalar", "tied", "transposed"]
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + length])
    assert length % 8 == 0
    assert all(header[str(dtype)]["data_offsets"][0] % dtype.itemsize == 0 for dtype in _DTYPES)


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    fetched: list[weakref.ref[np.ndarray]] = []

    def fetch(name: str) -> torch.Tensor:
        assert all(earlier() is None for earlier in fetched)
        memory = np.ones(3, dtype=np.float32)  # lives as long as any tensor looks at it
        fetched.append(weakref.ref(memory))
        return torch.from_numpy(memory)

    specs = [TensorSpec(name, torch.float32, (3,)) for name in "abc"]
    write(tmp_path / "sam.safetensors", specs, fetch, aliases={"a": ["tied"]}, layout=Layout())
    assert len(fetched) == 3


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_the_file_gets_the_permissions_of_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "sam.safetensors"
    old = os.umask(0o027)
    try:
        write(path, [TensorSpec("a", torch.float32, (1,))], lambda _: torch.ones(1), aliases={}, layout=Layout())
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("a", torch.complex128, "complex128, which safetensors cannot hold"),
        ("__metadata__", torch.float32, "__metadata__"),
        ("\ud800", torch.float32, "ud800"),
    ],
)
def test_tensors_that_the_format_cannot_hold_are_refused_before_writing(
    tmp_path: Path, name: str, dtype: torch.dtype, message: str
) -> None:
    tensor = torch.ones(1, dtype=dtype)
    with pytest.raises(UnsupportedTensorError, match=message):
        write(
            tmp_path / "a.safetensors", [TensorSpec(name, dtype, (1,))], lambda _: tensor, aliases={}, layout=Layout()
        )
    assert list(tmp_path.iterdir()) == []
