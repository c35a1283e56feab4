"""The files that are attacked: of every kind, small and large, and the same tensors in the formats of others."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import torch

import bhk
from tools.corruption.attacks import Target
from tools.corruption.forged_headers import DRAFTS

SAMPLED = 100_000  # bits of a large file that are flipped
_SMALL, _LARGE = 24, 1024  # sides of matrices


def of_the_format(folder: Path, *, large: bool) -> list[Target]:
    """Return the good files of the specification, a small one that bhk writes, and a large one."""
    vectors = (Target(name, make().encode()) for name, make in DRAFTS.items())
    return [*vectors, *_made(folder, large, _write_bhk, _places_bhk)]


def of_safetensors(folder: Path, *, large: bool) -> list[Target]:
    """Return a small and a large file of the same tensors."""
    return _made(folder, large, _write_safetensors, _places_safetensors)


def of_gguf(folder: Path, *, large: bool) -> list[Target]:
    """Return a small and a large file of the same tensors."""
    return _made(folder, large, _write_gguf, _places_gguf)


def weights(side: int, seed: int) -> dict[str, torch.Tensor]:
    """Return a state dict of a matrix (side, side), a vector and a table of integers."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(side, side, generator=generator) * 0.02
    table = torch.randint(-99, 99, (side, 2), generator=generator, dtype=torch.int32)
    return {"layer.weight": matrix, "layer.bias": torch.randn(side, generator=generator), "table": table}


def _made(
    folder: Path,
    large: bool,
    write: Callable[[dict[str, torch.Tensor], Path], bytes],
    places: Callable[[bytes], tuple[tuple[int, int], ...]],
) -> list[Target]:
    found = []
    for name, side, sampled in (("small", _SMALL, 0), *([("large", _LARGE, SAMPLED)] if large else ())):
        data, other = (write(weights(side, seed), folder / "file") for seed in (1, 2))
        found.append(Target(name, data, other, places(data), sampled))
    return found


def _write_bhk(tensors: dict[str, torch.Tensor], path: Path) -> bytes:
    torch.save(tensors, path.with_suffix(".pth"))
    bhk.convert(path.with_suffix(".pth"), path.with_suffix(".bhk"), force=True, threads=1)
    return path.with_suffix(".bhk").read_bytes()


def _places_bhk(data: bytes) -> tuple[tuple[int, int], ...]:
    first = 64 + int.from_bytes(data[16:24], "little")
    step = max((len(data) - first) // 8, 1)
    return tuple((low, min(low + step, len(data))) for low in range(first, len(data), step))


def _write_safetensors(tensors: dict[str, torch.Tensor], path: Path) -> bytes:
    from safetensors.torch import save

    return bytes(save(tensors))


def _places_safetensors(data: bytes) -> tuple[tuple[int, int], ...]:
    (length,) = struct.unpack_from("<Q", data)
    entries = json.loads(data[8 : 8 + length])
    return tuple((8 + length + low, 8 + length + high) for low, high in (e["data_offsets"] for e in entries.values()))


def _write_gguf(tensors: dict[str, torch.Tensor], path: Path) -> bytes:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "made")
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def _places_gguf(data: bytes) -> tuple[tuple[int, int], ...]:
    from gguf import GGUFReader

    path = Path("/dev/shm/corruption-places.gguf")
    path.write_bytes(data)
    found = tuple((tensor.data_offset, tensor.data_offset + tensor.n_bytes) for tensor in GGUFReader(path).tensors)
    path.unlink()
    return found
