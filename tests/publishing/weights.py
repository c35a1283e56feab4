"""Small .bhk files to publish."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

import safetensors.torch
from tasks.checkpoints import draw, save, small

import bhk


@functools.cache
def weights(seed: int = 0) -> bytes:
    """Return a .bhk file with two coded tensors and an exact one."""
    with tempfile.TemporaryDirectory() as folder:
        tensors = draw({name: tensor.shape for name, tensor in small().items()}, seed=seed)
        return _converted(save(Path(folder) / "sam.pth", tensors))


@functools.cache
def weights_of_transformers() -> bytes:
    """Return a .bhk file that carries the configuration files of its checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        safetensors.torch.save_file(small(), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": "sam", "hidden_size": 40}))
        (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"longest_edge": 1024}}))
        return _converted(folder / "model.safetensors")


def _converted(source: Path) -> bytes:
    path = bhk.convert(source, source.parent / "converted.bhk").path
    assert path is not None
    return path.read_bytes()
