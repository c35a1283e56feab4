"""The published checkpoints of the family: true names, order, dtypes and wrappers; dimensions cut to two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bhk.checkpoint import Checkpoint, Layout, TensorSpec, read, write

_LISTS = sorted((Path(__file__).parent.parent / "data" / "state_dicts").glob("*.json"))


def _content(path: Path) -> tuple[dict[str, torch.Tensor], str | None]:
    described = json.loads(path.read_text())
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape, dtype, _role in described["tensors"]:
        values = torch.randint(0, 100, [min(size, 2) for size in shape], generator=generator)
        tensors[name] = values.to(getattr(torch, dtype))
    return tensors, described["wrapper"]


def _assert_same(checkpoint: Checkpoint, tensors: dict[str, torch.Tensor], layout: Layout) -> None:
    assert list(checkpoint.tensors) == list(tensors)
    assert all(checkpoint.tensors[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert all(torch.equal(checkpoint.tensors[name], tensor) for name, tensor in tensors.items())
    assert checkpoint.layout == layout
    assert checkpoint.aliases == {}
    assert checkpoint.left_out == ()


def test_the_lists_of_the_family_exist() -> None:
    assert len(_LISTS) >= 18


@pytest.mark.parametrize("path", _LISTS, ids=lambda path: path.stem)
def test_a_published_checkpoint_is_read_and_written_back(tmp_path: Path, path: Path) -> None:
    tensors, wrapper = _content(path)
    layout = Layout((wrapper,) if wrapper else ())
    torch.save({wrapper: tensors} if wrapper else tensors, tmp_path / "published.pth")
    published = read(tmp_path / "published.pth")
    _assert_same(published, tensors, layout)

    specs = [TensorSpec(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in published.tensors.items()]
    for name, expected in (("again.pth", layout), ("again.safetensors", Layout())):
        write(tmp_path / name, specs, published.tensors.__getitem__, aliases={}, layout=published.layout)
        _assert_same(read(tmp_path / name), tensors, expected)
