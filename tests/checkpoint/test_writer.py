from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bhk.base.files import DestinationExistsError, WriteError
from bhk.checkpoint import (
    Layout,
    LayoutError,
    TensorMismatchError,
    TensorSpec,
    UnsupportedFormatError,
    UnsupportedTensorError,
    read,
    write,
)

_SUFFIXES = [".pth", ".pt", ".bin", ".safetensors"]


def _specs(weights: dict[str, torch.Tensor]) -> list[TensorSpec]:
    return [TensorSpec(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in weights.items()]


def _write(path: Path, weights: dict[str, torch.Tensor], **options: object) -> tuple[Path, ...]:
    options = {"aliases": {}, "layout": Layout(), **options}
    return write(path, _specs(weights), weights.__getitem__, **options)  # type: ignore[arg-type]


@contextlib.contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    """Make the system refuse files larger than `size`, like a full disk."""
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("suffix", _SUFFIXES)
@pytest.mark.parametrize("shard_bytes", [None, 40])
def test_a_written_checkpoint_reads_back(
    tmp_path: Path, weights: dict[str, torch.Tensor], suffix: str, shard_bytes: int | None
) -> None:
    done: list[int] = []
    options = {"shard_bytes": shard_bytes, "advance": done.append, "layout": Layout(("model",), (), "module.")}
    files = _write(tmp_path / f"sam{suffix}", weights, aliases={"encoder.bias": ["tied"]}, **options)
    assert sorted(tmp_path.iterdir()) == sorted(files)
    checkpoint = read(tmp_path)
    assert checkpoint.layout == Layout(
        ("model",) if suffix != ".safetensors" and not shard_bytes else (), (), "module."
    )
    assert sum(done) == sum(tensor.nbytes for tensor in weights.values())
    if suffix == ".safetensors":
        assert torch.equal(checkpoint.tensors.pop("tied"), weights["encoder.bias"])
    else:
        assert checkpoint.aliases == {"encoder.bias": ("tied",)}
    assert list(checkpoint.tensors) == list(weights)
    for name, tensor in weights.items():
        assert checkpoint.tensors[name].dtype == tensor.dtype
        assert torch.equal(checkpoint.tensors[name], tensor)


def test_groups_are_nested_where_the_format_can(tmp_path: Path) -> None:
    weights = {"B.x": torch.ones(1), "A.y": torch.zeros(2)}
    layout = Layout(("model",), ("A", "B"), "module.")
    _write(tmp_path / "sam.pth", weights, layout=layout, aliases={"B.x": ["A.x"]})
    content = torch.load(tmp_path / "sam.pth", weights_only=True)
    assert {group: list(part) for group, part in content["model"].items()} == {
        "A": ["module.x", "module.y"],
        "B": ["module.x"],
    }
    assert read(tmp_path / "sam.pth").layout == layout
    _write(tmp_path / "sam.safetensors", weights, layout=layout)
    assert list(read(tmp_path / "sam.safetensors").tensors) == ["B.module.x", "A.module.y"]


def test_shards_follow_the_hugging_face_convention(tmp_path: Path) -> None:
    weights = {name: torch.full((4,), 1.0) for name in "abcde"}
    files = _write(tmp_path / "model.safetensors", weights, shard_bytes=32)
    assert [file.name for file in files] == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
    ]
    index = json.loads(files[-1].read_text())
    assert index["metadata"] == {"total_size": 80}
    assert index["weight_map"] == {
        n: f"model-0000{i}-of-00003.safetensors" for n, i in zip("abcde", [1, 1, 2, 2, 3], strict=True)
    }


def test_a_tensor_beyond_the_limit_has_a_shard_of_its_own(tmp_path: Path) -> None:
    weights = {"a": torch.ones(1), "b": torch.ones(100), "c": torch.ones(1)}
    files = _write(tmp_path / "model.bin", weights, shard_bytes=8)
    assert [list(torch.load(file)) for file in files[:-1]] == [["a"], ["b"], ["c"]]


def test_tensors_that_fit_into_one_shard_are_one_file(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "sam.pth"
    assert _write(path, weights, shard_bytes=1 << 20, layout=Layout(("model",))) == (path,)
    assert read(path).layout == Layout(("model",))


def test_a_view_does_not_drag_its_whole_storage_along(tmp_path: Path) -> None:
    base = torch.arange(100_000.0)
    weights = {"row": base[7:9], "column": base.view(1000, 100)[:, 3], "tall": base.view(1000, 100)[:3].T}
    _write(tmp_path / "sam.pth", weights)
    assert (tmp_path / "sam.pth").stat().st_size < 20_000
    assert all(torch.equal(tensor, weights[name]) for name, tensor in read(tmp_path / "sam.pth").tensors.items())


@pytest.mark.parametrize("shard_bytes", [None, 40])
def test_an_existing_file_needs_force(
    tmp_path: Path, weights: dict[str, torch.Tensor], shard_bytes: int | None
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(DestinationExistsError):
        _write(path, weights, shard_bytes=shard_bytes)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]
    files = _write(path, weights, shard_bytes=shard_bytes, force=True)
    # The old whole file must not hide the new shards from readers.
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_an_existing_shard_needs_force(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    files = _write(tmp_path / "model.bin", weights, shard_bytes=40)
    for keep in files:
        for file in set(files) - {keep}:
            file.unlink(missing_ok=True)
        keep.write_bytes(b"old")
        with pytest.raises(DestinationExistsError):
            _write(tmp_path / "model.bin", weights, shard_bytes=40)
        assert list(tmp_path.iterdir()) == [keep]
        keep.unlink()


def test_the_source_is_never_replaced(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "sam.pth"
    _write(path, weights)
    with pytest.raises(WriteError, match="being read"):
        _write(path, weights, force=True, sources=read(path).source.files)


@pytest.mark.parametrize("suffix", _SUFFIXES)
@pytest.mark.parametrize("shard_bytes", [None, 1 << 16])
def test_a_full_disk_leaves_nothing(tmp_path: Path, suffix: str, shard_bytes: int | None) -> None:
    weights = {"small": torch.ones(3), "large": torch.ones(1 << 20)}
    with _file_size_limit(1 << 20), pytest.raises(WriteError, match="File too large"):
        _write(tmp_path / f"sam{suffix}", weights, shard_bytes=shard_bytes)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_what_was_there(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "model.safetensors"
    files = _write(path, weights, shard_bytes=40)
    before = {file: file.read_bytes() for file in files}

    def fetch(name: str) -> torch.Tensor:
        if name == list(weights)[-1]:
            raise KeyboardInterrupt
        return weights[name] + 1

    with pytest.raises(KeyboardInterrupt):
        write(path, _specs(weights), fetch, aliases={}, layout=Layout(), shard_bytes=40, force=True)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_failure_between_the_shards_removes_the_new_ones(tmp_path: Path) -> None:
    weights = {"a": torch.ones(8), "b": torch.ones(8)}

    def fetch(name: str) -> torch.Tensor:
        if name == "b":  # a folder where the first shard should go: putting it in place fails, after the second
            (tmp_path / "model-00001-of-00002.bin" / "full").mkdir(parents=True)
        return weights[name]

    with pytest.raises(WriteError, match="model-00001-of-00002"):
        write(tmp_path / "model.bin", _specs(weights), fetch, aliases={}, layout=Layout(), shard_bytes=32)
    assert [file.name for file in tmp_path.iterdir()] == ["model-00001-of-00002.bin"]


def test_new_shards_replace_the_old_ones(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "model.safetensors"
    for factor, shard_bytes in ((1, 40), (2, 40), (3, 1 << 20), (4, 70), (5, 40)):
        newer = {name: tensor * factor for name, tensor in weights.items()}
        files = _write(path, newer, shard_bytes=shard_bytes, force=True)
        found = read(tmp_path).tensors
        assert all(torch.equal(found[name], tensor) for name, tensor in newer.items())
        if len(files) > 1:  # a whole file is read before an index, which stays
            assert sorted(tmp_path.iterdir()) == sorted(files)


def test_only_shards_of_the_same_name_are_removed(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path, foreign = tmp_path / "model.bin", tmp_path / "other-00001-of-00001.bin"
    foreign.write_bytes(b"")
    index = {"weight_map": {"a": foreign.name, "b": "model.bin"}}
    path.with_name("model.bin.index.json").write_text(json.dumps(index))
    _write(path, weights, shard_bytes=40, force=True)
    assert foreign.exists()


@pytest.mark.parametrize("at", [*range(1, 12)])
@pytest.mark.parametrize("name", ["fsync", "link", "replace"])
def test_after_a_fault_shards_are_those_of_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, at: int
) -> None:
    weights = {name: torch.full((8,), 1.0) for name in "abcd"}
    path = tmp_path / "model.safetensors"
    _write(path, weights, shard_bytes=32, beside={"config.json": b"1"})
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    function, calls = getattr(os, name), 0

    def failing(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return function(*args, **options)

    newer, message = {name: tensor * 2 for name, tensor in weights.items()}, None
    with monkeypatch.context() as patched:
        patched.setattr(os, name, failing)
        try:
            _write(path, newer, shard_bytes=32, beside={"config.json": b"2"}, force=True)
        except WriteError as error:
            message = str(error)
    if message is not None:
        assert "nothing was changed" in message
        assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    else:
        assert (tmp_path / "config.json").read_bytes() == b"2"
        assert all(tensor.eq(2).all() for tensor in read(tmp_path).tensors.values())


@pytest.mark.parametrize("name", ["sam", "sam.onnx", "sam.PTH", "sam.pth.zip"])
def test_an_unknown_suffix_lists_the_known(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=r"use \.safetensors, \.pth, \.pt, \.bin"):
        _write(tmp_path / name, {})


def test_a_shard_size_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormatError, match="positive"):
        _write(tmp_path / "sam.pth", {}, shard_bytes=0)


@pytest.mark.parametrize("tensor", [torch.ones(2, 3), torch.ones(3, 2, dtype=torch.float64)])
def test_a_tensor_that_is_not_as_announced_is_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    with pytest.raises(TensorMismatchError, match=r"'a' came as .*expected torch\.float32 \[3, 2\]"):
        write(
            tmp_path / "a.pth",
            [TensorSpec("a", torch.float32, (3, 2))],
            lambda _: tensor,
            aliases={},
            layout=Layout(),
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", _SUFFIXES)
def test_two_tensors_of_one_name_are_refused(tmp_path: Path, suffix: str) -> None:
    weights = {"a": torch.ones(1), "b": torch.ones(1)}
    with pytest.raises(UnsupportedTensorError, match="two tensors are named 'b'"):
        _write(tmp_path / f"sam{suffix}", weights, aliases={"a": ["b"]})


@pytest.mark.parametrize("suffix", _SUFFIXES)
def test_a_name_outside_the_groups_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(LayoutError, match="in no group"):
        _write(tmp_path / f"sam{suffix}", {"C.x": torch.ones(1)}, layout=Layout((), ("A", "B")))
