"""Other people's weight coders: GGUF, HQQ, NNCodec, and plain integers."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from tools.bench.coders.base import (
    NOTE,
    Coder,
    StateDict,
    TensorCoder,
    as_rows,
    in_groups,
    is_coded,
    pack_bits,
    unpack_bits,
)

BLOCK = 32  # of ggml's formats


def peers(*, quick: bool = False) -> Iterator[Coder]:
    """Yield every peer at every setting, installed or not; with `quick` at one setting each."""
    if quick:
        yield from (Gguf("Q4_0"), Hqq(4), NnCodec(-24), RoundToNearest(4, 64))
        return
    yield from map(Gguf, ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"))
    yield from map(Hqq, (8, 4, 3))
    yield from map(NnCodec, (-32, -28, -24, -20))
    yield from map(RoundToNearest, (8, 6))
    yield from (RoundToNearest(bits, group) for bits, group in ((5, 64), (4, 64), (4, 32)))


@dataclass(frozen=True)
class RoundToNearest(TensorCoder):
    """Symmetric integers with one float16 scale for each row or `group` of weights, bit-packed."""

    bits: int
    group: int | None = None
    name: str = "round to nearest"
    package: str = "numpy"
    note: str = f"float16 scales, bit-packed; {NOTE}"

    @property
    def setting(self) -> str:
        return f"int{self.bits} per row" if self.group is None else f"int{self.bits}, group {self.group}"

    def _scaled_together(self, tensor: Tensor) -> Tensor:
        """Return a matrix with a row for each scale."""
        return as_rows(tensor) if self.group is None else in_groups(tensor, self.group)

    def code(self, name: str, tensor: Tensor) -> StateDict:
        top, rows = 2 ** (self.bits - 1) - 1, self._scaled_together(tensor)
        scale = (rows.abs().amax(1, keepdim=True) / top).half()
        codes = (rows / scale.float().clamp(min=1e-12)).round().clamp(-top, top) + top
        return {"codes": pack_bits(codes.to(torch.uint8), self.bits), "scale": scale}

    def values(self, parts: StateDict, shape: list[int]) -> Tensor:
        top, rows = 2 ** (self.bits - 1) - 1, self._scaled_together(torch.empty(shape, device="meta")).shape
        codes = unpack_bits(parts["codes"], self.bits, math.prod(rows)).view(rows)
        return ((codes.float() - top) * parts["scale"].float()).flatten()[: math.prod(shape)].view(shape)


@dataclass(frozen=True)
class Hqq(TensorCoder):
    """Half-quadratic quantization with the package's defaults for weights (axis 1, optimised zero points)."""

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
    def block(self) -> int:
        return 2 * self.group if self.bits == 4 else self.group  # at 4 bits a byte holds a code of each of two groups

    def _options(self) -> dict[str, object]:
        from hqq.core.quantize import BaseQuantizeConfig

        return BaseQuantizeConfig(nbits=self.bits, group_size=self.group)["weight_quant_params"]

    def code(self, name: str, tensor: Tensor) -> StateDict:
        from hqq.core.quantize import Quantizer

        codes, meta = Quantizer.quantize(as_rows(tensor), **self._options(), device="cpu")
        return {"codes": codes, "scale": meta["scale"].half(), "zero": meta["zero"].half()}

    def values(self, parts: StateDict, shape: list[int]) -> Tensor:
        from hqq.core.quantize import Quantizer

        packing = Quantizer.bit_to_packing[self.bits]
        meta = {**self._options(), "packing": packing, "unpack_view_dtype": Quantizer.unpack_view_dtype[packing]}
        meta |= {"shape": as_rows(torch.empty(shape, device="meta")).shape, "compute_dtype": torch.float32}
        meta |= {key: parts[key].float() for key in ("scale", "zero")}
        return Quantizer.dequantize(parts["codes"], meta).view(shape)


@dataclass(frozen=True)
class Gguf(Coder):
    """ggml's block formats, written and read as a real GGUF file."""

    setting: str
    name: str = "GGUF"
    package: str = "gguf"
    note: str = f"tensors flattened where their rows are no blocks of {BLOCK}; {NOTE}"

    def encode(self, source: Path, target: Path) -> None:
        from gguf import GGMLQuantizationType, GGUFWriter
        from gguf.quants import quantize

        kind, tensors = GGMLQuantizationType[self.setting], load_file(source)
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items() if is_coded(tensor, BLOCK)}
        writer = GGUFWriter(target, "bert")
        writer.add_string("shapes", json.dumps(shapes, separators=(",", ":")))
        for name, tensor in tensors.items():
            if name in shapes:
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
        arrays = {tensor.name: tensor.data for tensor in reader.tensors}
        decoded = {
            name: dequantize(data, kind).reshape(shapes[name]) if name in shapes else np.array(data)
            for name, data in arrays.items()
        }
        return {name: torch.from_numpy(array) for name, array in decoded.items()}


@dataclass(frozen=True)
class NnCodec(Coder):
    """NNC, ISO/IEC 15938-17: dependent quantization, context-adaptive arithmetic coding, the package's defaults."""

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
