"""Make a checkpoint with the names and shapes of a real one and synthetic weights.

    python -m tools.bench.models.synthetic sam_vit_h out.pth

Names and shapes come from tests/data/state_dicts/. Weights follow Student's t, whose tails are as heavy as those of trained
layers, with a scale for each tensor drawn log-normally; norms lie near one and biases near zero. Coders take as long and reach
about the same ratio on them as on trained weights, but nothing can be said about fidelity.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tools.bench.frame.results import ROOT
from tools.demo import CHECKPOINT

DEMO = "demo_sam"
STATE_DICTS = ROOT / "tests" / "data" / "state_dicts"
MEDIAN_SCALE = 0.035
SCALE_SPREAD = 0.35  # two thirds of the scales lie between 0.025 and 0.05
DEGREES = (5.0, 8.0)
CHUNK = 1 << 20
BLOCK = re.compile(r"image_encoder\.blocks\.(\d+)\.")
NORM = re.compile(r"(norm|bn)[^.]*\.weight$")


@dataclass(frozen=True)
class Entry:
    """A tensor to make."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    role: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_entries(variant: str) -> tuple[list[Entry], str | None]:
    """Return the tensors of a variant, and the key under which its checkpoint wraps them, if any."""
    listed = json.loads((STATE_DICTS / f"{variant}.json").read_text(encoding="utf-8"))
    entries = [Entry(name, tuple(shape), getattr(torch, dtype), role) for name, shape, dtype, role in listed["tensors"]]
    return entries, listed["wrapper"]


def grow(entries: list[Entry], nbytes: int) -> list[Entry]:
    """Repeat the image encoder's blocks under new numbers until the tensors have at least `nbytes` bytes."""
    blocks: dict[int, list[Entry]] = {}
    for entry in entries:
        if match := BLOCK.match(entry.name):
            blocks.setdefault(int(match[1]), []).append(entry)
    if not blocks:
        raise SystemExit("--bytes needs a variant whose image encoder has blocks, such as sam_vit_h")
    grown, total, count = list(entries), sum(entry.nbytes for entry in entries), len(blocks)
    while total < nbytes:
        for entry in blocks[count % len(blocks)]:
            name = BLOCK.sub(f"image_encoder.blocks.{count}.", entry.name)
            grown.append(Entry(name, entry.shape, entry.dtype, entry.role))
            total += entry.nbytes
        count += 1
    return grown


def fill(tensor: Tensor, entry: Entry, generator: torch.Generator) -> None:
    """Fill a tensor in place with values that suit its role."""
    if not entry.dtype.is_floating_point:
        tensor.random_(0, 100, generator=generator)
    elif entry.role == "buffer":
        tensor.uniform_(0.1, 2.0, generator=generator)
    elif len(entry.shape) == 1:
        is_norm = NORM.search(entry.name) is not None
        tensor.normal_(1.0 if is_norm else 0.0, 0.1 if is_norm else 0.02, generator=generator)
    else:
        low, high = DEGREES
        degrees = low + (high - low) * float(torch.rand((), generator=generator))
        scale = MEDIAN_SCALE * math.exp(SCALE_SPREAD * float(torch.randn((), generator=generator)))
        student_t(tensor, degrees, generator).mul_(scale * math.sqrt((degrees - 2) / degrees))


def student_t(tensor: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Fill with Student's t by Bailey's polar method (Math. Comp. 62, 1994): two uniform numbers for each value."""
    angles = torch.empty(min(CHUNK, tensor.numel()))
    for part in tensor.view(-1).split(CHUNK):  # in one piece, 1.6 GB of holes stayed in the heap after SAM-H
        angle = angles[: part.numel()].uniform_(0, 2 * math.pi, generator=generator).cos_()
        part.uniform_(1e-7, 1, generator=generator).pow_(-2 / degrees).sub_(1).clamp_(min=0).mul_(degrees).sqrt_()
        part.mul_(angle)
    return tensor


def invent(entries: list[Entry], scratch: Path, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Yield names and tensors. These lie in the file `scratch`, so that a checkpoint may exceed the memory."""
    generator = torch.Generator().manual_seed(seed)
    for entry in entries:
        if math.prod(entry.shape) == 0 or not entry.shape:
            tensor = torch.empty(entry.shape, dtype=entry.dtype)
        else:
            offset = scratch.stat().st_size if scratch.exists() else 0
            with scratch.open("ab") as file:
                file.truncate(offset + -(-entry.nbytes // 64) * 64)
            raw = np.memmap(scratch, dtype=np.uint8, mode="r+", offset=offset, shape=(entry.nbytes,))
            tensor = torch.from_numpy(raw).view(entry.dtype).view(entry.shape)
        fill(tensor, entry, generator)
        yield entry.name, tensor


def make(variant: str, path: Path, nbytes: int = 0, seed: int = 0) -> int:
    """Write the checkpoint to `path`, by safetensors or, with another suffix, by torch.save; return the tensors' bytes.

    Args:
        variant: a name in tests/data/state_dicts/, or `DEMO`, the small model that comes with bhk, with its own weights.
        nbytes: grow the image encoder to this size.
    """
    if variant == DEMO:
        tensors = {name: tensor.float() for name, tensor in load_file(CHECKPOINT).items()}
        save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
        return sum(tensor.nbytes for tensor in tensors.values())
    entries, wrapper = read_entries(variant)
    if nbytes:
        entries = grow(entries, nbytes)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        tensors = dict(invent(entries, Path(folder) / "tensors", seed))
        if path.suffix == ".safetensors":
            save_file(tensors, path)
        else:
            torch.save({wrapper: tensors} if wrapper else tensors, path)
    return sum(entry.nbytes for entry in entries)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.models.synthetic", description=__doc__.splitlines()[0])
    parser.add_argument("variant", help="a name in tests/data/state_dicts/, such as sam_vit_h")
    parser.add_argument("path", type=Path, help="the checkpoint to write: .pth, .pt or .safetensors")
    parser.add_argument("--bytes", type=float, default=0, help="grow the image encoder to this size, such as 4e9")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    nbytes = make(arguments.variant, arguments.path, int(arguments.bytes), arguments.seed)
    print(f"{arguments.path}: {nbytes:,} bytes of tensors")


if __name__ == "__main__":
    main()
