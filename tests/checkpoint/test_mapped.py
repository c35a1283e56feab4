"""Files that change while they are read (promise 7 of SECURITY.md)."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

import bhk
from bhk.base.files import ReadError
from bhk.checkpoint import Checkpoint, read, torch_file
from bhk.checkpoint.mapped import ChangedError

_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is mapped")
_SUFFIXES = [".pth", ".safetensors"]


def _weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    named = {f"layers.{number}.weight": torch.randn(64, 65, generator=generator) for number in range(8)}
    return {**named, "half": torch.randn(9, generator=generator).half(), "flag": torch.tensor([True, False, True])}


def _save(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


def _overwritten(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(20_000))


def _cut(path: Path) -> None:
    os.truncate(path, 1000)


def _saved_over(path: Path) -> None:
    _save(path, {"other": torch.zeros(3)})


def _replaced(path: Path) -> None:
    os.replace(_save(path.with_name("new" + path.suffix), {n: t + 1 for n, t in _weights().items()}), path)


_CHANGES = [_overwritten, _cut, _saved_over, _replaced, os.remove]


@_linux
@pytest.mark.parametrize("suffix", _SUFFIXES)
def test_values_are_read_from_the_file(tmp_path: Path, suffix: str) -> None:
    weights = _weights()
    weights["rows"] = weights["layers.0.weight"][3:5, 1:] if suffix == ".pth" else torch.ones(2, 3)  # a view
    weights["turned"] = torch.arange(6.0).reshape(2, 3).T if suffix == ".pth" else torch.ones(1)
    checkpoint = read(_save(tmp_path / f"m{suffix}", weights))
    for name, tensor in weights.items():
        values = checkpoint.values(name)
        assert torch.equal(values, tensor)
        assert values.dtype == tensor.dtype
        assert values.data_ptr() != checkpoint.tensors[name].data_ptr()  # not mapped


def test_tied_names_share_values(tmp_path: Path) -> None:
    shared = torch.arange(12.0)
    checkpoint = read(
        _save(tmp_path / "m.pth", {"a": shared, "b": torch.ones(2), "tied": shared, "none": torch.ones(0)})
    )
    values = checkpoint.all_values()
    assert list(values) == ["a", "b", "none", "tied"]
    assert values["tied"] is values["a"]
    assert torch.equal(checkpoint.values("tied"), shared)


@_linux
@pytest.mark.parametrize("suffix", _SUFFIXES)
@pytest.mark.parametrize("change", _CHANGES)
def test_a_changed_file_is_not_read(tmp_path: Path, suffix: str, change: Callable[[Path], None]) -> None:
    path = _save(tmp_path / f"m{suffix}", _weights())
    checkpoint = read(path)
    change(path)
    with pytest.raises(ReadError):
        checkpoint.values("layers.7.weight")
    with pytest.raises(ChangedError, match="was changed in the meantime"):
        checkpoint.source.check()


def _converted(path: Path, change: Callable[[Path], None], **options: object) -> None:
    calls = 0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            change(path)

    bhk.convert(path, path.with_name("out.bhk"), threads=1, progress=progress, **options)  # type: ignore[arg-type]


@_linux
@pytest.mark.parametrize("suffix", _SUFFIXES)
@pytest.mark.parametrize("change", _CHANGES)
def test_nothing_is_written_from_a_source_that_changes(
    tmp_path: Path, suffix: str, change: Callable[[Path], None]
) -> None:
    path = _save(tmp_path / f"m{suffix}", _weights())
    with pytest.raises(ReadError):
        _converted(path, change)
    assert not (tmp_path / "out.bhk").exists()


@pytest.mark.parametrize("name", ["model-00001-of-00003.bin", "model.bin.index.json"])
def test_shards_and_their_index_are_watched(tmp_path: Path, name: str) -> None:
    bhk.convert(_save(tmp_path / "m.pth", _weights()), tmp_path / "m.bhk")
    bhk.export(tmp_path / "m.bhk", tmp_path / "model.bin", shard_bytes=50_000)
    index = tmp_path / "model.bin.index.json"
    with pytest.raises(ReadError):
        _converted(index, lambda _: os.truncate(tmp_path / name, 500))
    assert not (tmp_path / "out.bhk").exists()


def test_a_file_that_changes_while_it_is_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save(tmp_path / "m.pth", _weights())
    load = torch_file.load

    def slow(*args: object, **options: object) -> object:
        found = load(*args, **options)  # type: ignore[arg-type]
        os.utime(path, ns=(1, 1))
        return found

    monkeypatch.setattr(torch_file, "load", slow)
    with pytest.raises(ChangedError):
        read(path)


@_linux
def test_a_loaded_model_does_not_depend_on_its_file(tmp_path: Path) -> None:
    demo = Path(__file__).parents[2] / "examples" / "demo" / "demo_sam.safetensors"
    path = tmp_path / "m.safetensors"
    path.write_bytes(demo.read_bytes())
    model = bhk.load(path, dtype="float16")
    os.truncate(path, 0)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_module_is_its_own_source() -> None:
    from bhk.checkpoint import of_module

    checkpoint: Checkpoint = of_module(torch.nn.Linear(2, 3))
    checkpoint.source.check()
    assert checkpoint.values("weight").shape == (3, 2)


@pytest.mark.parametrize("stored", [True, False])
def test_values_of_the_other_byte_order(tmp_path: Path, stored: bool) -> None:
    other = "big" if sys.byteorder == "little" else "little"
    plain, path = tmp_path / "plain.pth", tmp_path / "swapped.pth"
    torch.save({"a": torch.arange(40.0), "b": torch.arange(9)}, plain)
    with (
        zipfile.ZipFile(plain) as before,
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as after,
    ):
        for name in before.namelist():
            data = before.read(name)
            if name.endswith("/byteorder"):
                data = other.encode()
            elif "/data/" in name:
                width = 4 if len(data) == 160 else 8
                data = b"".join(data[at : at + width][::-1] for at in range(0, len(data), width))
            after.writestr(name, data)
    checkpoint = read(path)
    assert torch.equal(checkpoint.values("a"), torch.arange(40.0))
    assert torch.equal(checkpoint.values("b"), torch.arange(9))
