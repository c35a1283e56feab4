"""The interface of weight coders, and what the ones in this folder share.

All code the same tensors: those of two dimensions and more (linear layers, convolutions, embeddings), except the smallest.
They keep the rest as it is; NNCodec alone has its own convention. The file holds all that decoding needs, and its whole size
counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from bhk.codec.fit import PresetError
from tools.bench.frame.results import Row, version

StateDict = dict[str, Tensor]

SMALL = 512  # elements; tables of tokens and of frequencies are no larger, save little, and much depends on them
NOTE = f"tensors of two dimensions and more, but those of {SMALL} elements and fewer; other tensors float32"


class Coder:
    """Encodes a .safetensors checkpoint into one file, and decodes that file.

    Attributes:
        package: the Python package that does the work.
        note: what a reader of the figures should know.
    """

    name: str
    setting: str
    package: str
    note: str

    def encode(self, source: Path, target: Path) -> None:
        raise NotImplementedError

    def decode(self, path: Path) -> StateDict:
        raise NotImplementedError

    def __str__(self) -> str:
        return f"{self.name}, {self.setting}"


class TensorCoder(Coder):
    """Codes one tensor at a time into a .safetensors file.

    Attributes:
        block: elements of a block of the format; tensors of part blocks stay as they are.
    """

    block = 1

    def code(self, name: str, tensor: Tensor) -> StateDict:
        """Return a tensor as parts by their names, which have no / in them."""
        raise NotImplementedError

    def values(self, parts: StateDict, shape: list[int]) -> Tensor:
        """Return the float32 tensor of this shape from the parts that `code` made."""
        raise NotImplementedError

    def encode(self, source: Path, target: Path) -> None:
        stored: StateDict = {}
        shapes = {}
        for name, tensor in load_file(source).items():
            if is_coded(tensor, self.block):
                shapes[name] = list(tensor.shape)
                stored |= {f"{name}/{key}": part for key, part in self.code(name, tensor).items()}
            else:
                stored[name] = tensor
        save_file(stored, target, metadata={"shapes": json.dumps(shapes, separators=(",", ":"))})

    def decode(self, path: Path) -> StateDict:
        with safe_open(path, "pt") as file:
            shapes = json.loads(file.metadata()["shapes"])
        decoded, parts = StateDict(), {name: StateDict() for name in shapes}
        for stored, tensor in load_file(path).items():
            name, _, key = stored.rpartition("/")
            (parts[name] if name else decoded)[key] = tensor
        return decoded | {name: self.values(parts[name], shape) for name, shape in shapes.items()}


def coder_row(coder: Coder, measure: Callable[[], Row]) -> Row:
    """Return the row of a coder: what `measure` finds, or a note that says why there are no figures."""
    figures: Row = {}
    note = f"not installed: pip install {coder.package}"
    if find_spec(coder.package) is not None:
        try:
            figures, note = measure(), coder.note
        except PresetError as error:  # a ratio out of reach
            note = str(error)
    named = {"coder": coder.name, "setting": coder.setting}
    return named | figures | {"note": note, "version": version(coder.package)}


def is_coded(tensor: Tensor, block: int = 1) -> bool:
    """Tell whether a format whose blocks have `block` elements codes this tensor."""
    return tensor.is_floating_point() and tensor.dim() > 1 and tensor.numel() > SMALL and tensor.numel() % block == 0


def as_rows(tensor: Tensor) -> Tensor:
    """Return a tensor as a matrix with a row per output. A table with a leading 1, as of positions, keeps its last axis."""
    return tensor.reshape(-1, tensor.shape[-1]) if tensor.shape[0] == 1 else tensor.flatten(1)


def in_groups(tensor: Tensor, group: int) -> Tensor:
    """Return the flat tensor as a matrix with a row per group; zeros fill the last one."""
    return functional.pad(tensor.flatten(), (0, -tensor.numel() % group)).view(-1, group)


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Return the lowest `bits` bits of `codes`, uint8, one code after the other, as bytes: uint8, flat."""
    return torch.from_numpy(np.packbits(np.unpackbits(codes.numpy().reshape(-1, 1), axis=1)[:, 8 - bits :]))


def unpack_bits(packed: Tensor, bits: int, count: int) -> Tensor:
    """Return the `count` codes, uint8, flat, from which `pack_bits` made `packed`."""
    rows = np.unpackbits(packed.numpy(), count=count * bits).reshape(-1, bits)
    return torch.from_numpy(np.packbits(rows, axis=1).ravel() >> (8 - bits))


def tensor_bytes(checkpoint: Path) -> int:
    """Return the bytes of the tensors in a .safetensors file."""
    return sum(tensor.nbytes for tensor in load_file(checkpoint).values())
