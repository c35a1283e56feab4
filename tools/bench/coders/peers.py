"""Other people's weight coders under one interface: checkpoint file in, one file out, state dict back.

Every peer codes the same tensors, those of two dimensions and more (linear layers, convolutions, embeddings), and keeps
the rest, and the smallest, as it is; NNCodec alone has its own convention for the rest. All that decoding needs is in the
file, whose size counts.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

StateDict = dict[str, Tensor]

SMALL = 512  # elements; tables of tokens and of frequencies are no larger, save little, and much depends on them
NOTE = f"tensors of two dimensions and more, but those of {SMALL} elements and fewer; other tensors float32"
BLOCK = 32  # of ggml's formats


class Coder(Protocol):
    """Encodes a .safetensors checkpoint into `target` and decodes that file again."""

    name: str
    setting: str
    package: str
    note: str

    def encode(self, source: Path, target: Path) -> None: ...

    def decode(self, path: Path) -> StateDict: ...


def is_coded(tensor: Tensor, block: int = 1) -> bool:
    """Tell whether `tensor` is coded by a format whose blocks have `block` elements."""
    return tensor.is_floating_point() and tensor.dim() > 1 and tensor.numel() > SMALL and tensor.numel() % block == 0


def as_rows(tensor: Tensor) -> Tensor:
    """Return `tensor` as a matrix, an output a row; a table with a leading 1, such as one of positions, by its last axis."""
    return tensor.reshape(-1, tensor.shape[-1]) if tensor.shape[0] == 1 else tensor.flatten(1)


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Return the lowest `bits` bits of `codes`, uint8, one code after the other, as bytes: uint8, flat."""
    return torch.from_numpy(np.packbits(np.unpackbits(codes.numpy().reshape(-1, 1), axis=1)[:, 8 - bits :]))


def unpack_bits(packed: Tensor, bits: int, count: int) -> Tensor:
    """Return the `count` codes, uint8, flat, that `pack_bits` made `packed` of."""
    rows = np.unpackbits(packed.numpy(), count=count * bits).reshape(-1, bits)
    return torch.from_numpy(np.packbits(rows, axis=1).ravel() >> (8 - bits))


@dataclass(frozen=True)
class RoundToNearest:
    """Symmetric integers with one float16 scale a row, or a `group` of weights, bit-packed."""

    bits: int
    group: int | None = None
    name: str = "round to nearest"
    package: str = "numpy"
    note: str = f"float16 scales, bit-packed; {NOTE}"

    @property
    def setting(self) -> str:
        return f"int{self.bits} per row" if self.group is None else f"int{self.bits}, group {self.group}"

    def _scaled_together(self, tensor: Tensor) -> Tensor:
        """Return a row for each scale; the last group is filled up with zeros."""
        if self.group is None:
            return as_rows(tensor)
        return functional.pad(tensor.flatten(), (0, -tensor.numel() % self.group)).view(-1, self.group)

    def encode(self, source: Path, target: Path) -> None:
        parts: StateDict = {}
        top = 2 ** (self.bits - 1) - 1
        for name, tensor in load_file(source).items():
            if not is_coded(tensor):
                parts[name] = tensor
                continue
            rows = self._scaled_together(tensor)
            scale = (rows.abs().amax(1, keepdim=True) / top).half()
            codes = (rows / scale.float().clamp(min=1e-12)).round().clamp(-top, top) + top
            parts[f"{name}/codes"] = pack_bits(codes.to(torch.uint8), self.bits)
            parts[f"{name}/scale"] = scale
        save_file(parts, target, metadata=_shapes(source))

    def decode(self, path: Path) -> StateDict:
        parts, shapes = load_file(path), _read_shapes(path)
        top = 2 ** (self.bits - 1) - 1
        for name, shape in shapes.items():
            size = math.prod(shape)
            rows = self._scaled_together(torch.empty(shape, device="meta")).shape
            codes = unpack_bits(parts.pop(f"{name}/codes"), self.bits, math.prod(rows)).view(rows)
            parts[name] = ((codes.float() - top) * parts.pop(f"{name}/scale").float()).flatten()[:size].view(shape)
        return parts


@dataclass(frozen=True)
class Gguf:
    """ggml's block formats, written and read as a real GGUF file."""

    setting: str
    name: str = "GGUF"
    package: str = "gguf"
    note: str = f"tensors flattened where their rows are no blocks of {BLOCK}; {NOTE}"

    def encode(self, source: Path, target: Path) -> None:
        from gguf import GGMLQuantizationType, GGUFWriter
        from gguf.quants import quantize

        kind = GGMLQuantizationType[self.setting]
        writer = GGUFWriter(target, "bert")
        writer.add_string("shapes", _shapes(source, BLOCK)["shapes"])
        for name, tensor in load_file(source).items():
            if is_coded(tensor, BLOCK):
                rows = as_rows(tensor) if as_rows(tensor).shape[1] % BLOCK == 0 else tensor.reshape(-1, BLOCK)
                writer.add_tensor(name, quantize(rows.numpy(), kind), raw_dtype=kind)
            else:
                writer.add_tensor(name, tensor.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def decode(self, path: Path) -> StateDict:
        from gguf import GGMLQuantizationType, GGUFReader
        from gguf.quants import dequantize

        kind, reader = GGMLQuantizationType[self.setting], GGUFReader(path)
        shapes = json.loads(reader.fields["shapes"].contents())
        return {
            tensor.name: torch.from_numpy(
                dequantize(tensor.data, kind).reshape(shapes[tensor.name])
                if tensor.name in shapes
                else np.array(tensor.data)
            )
            for tensor in reader.tensors
        }


@dataclass(frozen=True)
class Hqq:
    """Half-quadratic quantization with the package's own defaults for weights (axis 1, optimised zero points)."""

    bits: int
    group: int = 64
    name: str = "HQQ"
    package: str = "hqq"
    note: str = (
        f"float16 scales and zero points; {NOTE}, as are those of part groups, at 4 bit of odd numbers of groups"
    )

    @property
    def setting(self) -> str:
        return f"{self.bits} bit, group {self.group}"

    @property
    def _block(self) -> int:
        return 2 * self.group if self.bits == 4 else self.group  # a byte holds a code of each of two groups

    def _options(self) -> dict[str, object]:
        from hqq.core.quantize import BaseQuantizeConfig

        return BaseQuantizeConfig(nbits=self.bits, group_size=self.group)["weight_quant_params"]

    def encode(self, source: Path, target: Path) -> None:
        from hqq.core.quantize import Quantizer

        parts: StateDict = {}
        for name, tensor in load_file(source).items():
            if not is_coded(tensor, self._block):
                parts[name] = tensor
                continue
            codes, meta = Quantizer.quantize(as_rows(tensor), **self._options(), device="cpu")
            parts |= {
                f"{name}/codes": codes,
                f"{name}/scale": meta["scale"].half(),
                f"{name}/zero": meta["zero"].half(),
            }
        save_file(parts, target, metadata=_shapes(source, self._block))

    def decode(self, path: Path) -> StateDict:
        from hqq.core.quantize import Quantizer

        packing = Quantizer.bit_to_packing[self.bits]
        common = {**self._options(), "packing": packing, "unpack_view_dtype": Quantizer.unpack_view_dtype[packing]}
        parts, shapes = load_file(path), _read_shapes(path)
        for name, shape in shapes.items():
            meta = {key: parts.pop(f"{name}/{key}").float() for key in ("scale", "zero")}
            rows = as_rows(torch.empty(shape, device="meta")).shape
            meta |= {**common, "shape": rows, "compute_dtype": torch.float32}
            parts[name] = Quantizer.dequantize(parts.pop(f"{name}/codes"), meta).view(shape)
        return parts


@dataclass(frozen=True)
class NnCodec:
    """ISO/IEC 15938-17 (NNC): dependent quantization and context-adaptive arithmetic coding, package defaults."""

    qp: int
    name: str = "NNCodec"
    package: str = "nncodec"
    note: str = "all tensors, one-dimensional ones at the package's finer qp -75; single-threaded"

    @property
    def setting(self) -> str:
        return f"qp {self.qp}"

    def encode(self, source: Path, target: Path) -> None:
        arrays = {name: tensor.numpy() for name, tensor in load_file(source).items()}
        arrays = {name: array.astype(np.int32) if array.dtype == np.int64 else array for name, array in arrays.items()}
        _nncodec().compress(arrays, bitstream_path=str(target), qp=self.qp)

    def decode(self, path: Path) -> StateDict:
        arrays = _nncodec().decompress(bytearray(path.read_bytes()))
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _nncodec() -> ModuleType:
    """Return NNCodec's compression module without its training code, which alone needs torchvision and OpenCV."""
    framework = ModuleType("nncodec.framework")
    vars(framework).update(tensorflow_model=None, pytorch_model=None, use_case_init=None)
    sys.modules.setdefault(framework.__name__, framework)
    from nncodec.nnc import compression

    return compression


def _shapes(source: Path, block: int = 1) -> dict[str, str]:
    shapes = {name: list(tensor.shape) for name, tensor in load_file(source).items() if is_coded(tensor, block)}
    return {"shapes": json.dumps(shapes, separators=(",", ":"))}


def _read_shapes(path: Path) -> Mapping[str, list[int]]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["shapes"])


def peers() -> Iterator[Coder]:
    """Yield every peer at every setting, installed or not."""
    yield from (Gguf(setting) for setting in ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"))
    yield from (Hqq(bits) for bits in (8, 4, 3))
    yield from (NnCodec(qp) for qp in (-32, -28, -24, -20))
    yield from (RoundToNearest(bits) for bits in (8, 6))
    yield from (RoundToNearest(bits, group) for bits, group in ((5, 64), (4, 64), (4, 32)))


def installed(coder: Coder) -> bool:
    return find_spec(coder.package) is not None
