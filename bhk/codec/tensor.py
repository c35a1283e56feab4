"""Encode one tensor: codebook, codes, error and streams."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bhk.base.errors import BhkError
from bhk.codec.codebook import Codebook, Codes
from bhk.codec.dense import why_not_dense
from bhk.codec.dtypes import TORCH_DTYPES
from bhk.codec.error import Error, measure
from bhk.codec.feedback import Feedback, encode_with_feedback
from bhk.codec.fit import (
    PUBLISHED_MIN_NUMEL,
    PresetError,
    check_snr,
    encode_published,
    encode_to_step,
    find_preset,
    has_zeros,
    spread_of,
    tensor_step,
)
from bhk.codec.shape import CODED_DTYPES, Pairing, Shape
from bhk.codec.snr import step_for_snr
from bhk.codec.streams import Stream, Window, byte_stream, packed_size, packed_stream, plane_stream, value_stream


class DenseTensorError(BhkError):
    """A tensor has no dense data."""


EXACT_SAMPLE = 1 << 16
_CODED = tuple(TORCH_DTYPES[name] for name in CODED_DTYPES)


@dataclass(frozen=True, eq=False)
class EncodedTensor:
    """A tensor as codes, or kept exact.

    >>> encoded = bhk.encode(torch.randn(256, 64))
    >>> encoded.codes.shape, encoded.codebook.windings  # a code for each pair of weights
    (torch.Size([8192]), 64)
    >>> bhk.encode(torch.randn(64)).codes is None  # vectors are kept exact
    True

    Attributes:
        shape, dtype: those of the original.
        pairing: how its weights were paired.
        codebook: the trajectory and its shells; None if the tensor is kept exact.
        planes: the codes as byte planes; None if the tensor is kept exact.
        error: how far the decoded tensor is from the original; None if the tensor is kept exact.
        streams: what a .bhk file stores.
        note: why a tensor that should have been coded is kept exact; else empty.
        lost_zeros: how many zeros that mean something (pruned weights, padding) decode to other values.
        exact: the tensor itself if it is kept exact; read it, do not write to it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    pairing: Pairing
    codebook: Codebook | None
    planes: Codes | None = field(repr=False)
    error: Error | None
    streams: tuple[Stream, ...] = field(repr=False)
    note: str = ""
    lost_zeros: int = 0
    exact: Tensor | None = field(default=None, repr=False)

    @cached_property
    def codes(self) -> Tensor | None:
        """Scalar codes, an int32 tensor (pairs,); None if the tensor is kept exact."""
        if self.codebook is None or self.planes is None:
            return None
        return self.planes.scalars(self.codebook.windings)

    @property
    def nbytes(self) -> int:
        """Stored size of the streams in bytes."""
        return sum(stream.stored for stream in self.streams)

    @property
    def snr_db(self) -> float | None:
        """Signal-to-noise ratio in dB, infinite without any error; None if the tensor is kept exact."""
        return None if self.error is None else self.error.snr_db

    def decode(self) -> Tensor:
        """Return the decoded tensor in the original's shape and dtype, on the device of the codes."""
        if self.codebook is None or self.planes is None:
            assert self.exact is not None
            return self.exact.clone()
        return decode(self.codebook, self.planes, Shape(self.shape, self.pairing), self.dtype)


def decode(codebook: Codebook, codes: Codes, shape: Shape, dtype: torch.dtype) -> Tensor:
    """Return the tensor of `shape` and `dtype` that `codes` decode to."""
    pairs = torch.empty(shape.count, 2, dtype=dtype, device=codes.winding.device)
    codebook.decode_into(codes, pairs)
    return shape.join(pairs)


def encode(
    tensor: Tensor, preset: str = "balanced", *, snr_db: float | None = None, step: float | None = None
) -> EncodedTensor:
    """Encode one tensor on its own.

    >>> weight = torch.randn(256, 64)
    >>> encoded = bhk.encode(weight, "small")
    >>> encoded.nbytes < weight.nbytes / 6
    True
    >>> error = (encoded.decode() - weight).abs().max()
    >>> bool(error < 0.2)
    True

    Args:
        tensor: any shape, dtype and device. Tensors of two or more dimensions in float64, float32, float16 or bfloat16 are
            coded, all others are kept exact; preset "birkhoff" codes one-dimensional tensors, too.
        preset: "fine", "balanced", "small" or "birkhoff" (the published method).
        snr_db: signal-to-noise ratio of the decoded tensor in dB, in place of a preset; met within 0.1 dB, or exceeded where
            no step gives less.
        step: lattice step in weight units, in place of a preset.

    Raises:
        PresetError: the preset is unknown, the quality is out of reach, or two of `snr_db`, `step` and "birkhoff" were given.
        DenseTensorError: the tensor is sparse, nested, quantized, lazy, on the meta device, or wraps other tensors.
    """
    if fault := why_not_dense(tensor):
        raise DenseTensorError(f"cannot encode a tensor that {fault}; expected a dense tensor with data")
    encoded = _encode(tensor.detach().as_subclass(Tensor), preset, snr_db, step)
    # An exact tensor must not change when the caller writes to the original.
    return encoded if encoded.exact is None else replace(encoded, exact=encoded.exact.clone())


def _encode(tensor: Tensor, preset: str, snr_db: float | None, step: float | None) -> EncodedTensor:
    chosen = find_preset(preset)
    if chosen.level_db is None:
        if snr_db is not None or step is not None:
            raise PresetError(
                "preset 'birkhoff' has a fixed square; leave out signal-to-noise ratio and step, or choose another preset"
            )
        return encode_tensor(tensor, default_pairing(tensor), None) if published_codes(tensor) else keep(tensor)
    if snr_db is not None and step is not None:
        raise PresetError("both a signal-to-noise ratio and a lattice step were asked for; give one of them")
    if step is not None and not step > 0:
        raise PresetError(f"a lattice step of {step:g} was asked for; it must be positive")
    if snr_db is not None:
        check_snr(snr_db)
    if not is_codable(tensor):
        return keep(tensor)
    pairing = default_pairing(tensor)
    if snr_db is not None:
        step = step_for_snr(tensor, snr_db, lambda tried: encode_tensor(tensor, pairing, tried).snr_db)
    elif step is None:
        own = spread_of(tensor)
        step = tensor_step(own.whole, own, chosen.level_db)
    return encode_tensor(tensor, pairing, step)


def is_codable(tensor: Tensor) -> bool:
    """Tell whether a fitted preset can code `tensor`: floating point, two or more dimensions, not empty."""
    return tensor.dtype in _CODED and tensor.ndim >= 2 and tensor.numel() > 0


def published_codes(tensor: Tensor) -> bool:
    """Tell whether the published method tries to code `tensor`."""
    return tensor.dtype in _CODED and tensor.numel() >= PUBLISHED_MIN_NUMEL


def default_pairing(tensor: Tensor) -> Pairing:
    """Pair matrices row by row, everything else flat."""
    return "rows" if tensor.ndim == 2 else "flat"


def encode_tensor(
    tensor: Tensor, pairing: Pairing, step: float | None, feedback: Feedback | None = None
) -> EncodedTensor:
    """Code `tensor` with lattice step `step`, or by the published method if `step` is None.

    `feedback` belongs to the tensor flattened to (len(tensor), columns); with it, later columns compensate the errors of
    earlier ones. A tensor is kept exact if it holds NaN, infinity or values beyond float32, if its codes would decode to
    infinity, or if that takes fewer bytes.
    """
    shape = Shape(tuple(tensor.shape), pairing)
    pairs = shape.split(tensor.detach())
    if step is None:
        coded = encode_published(pairs)
    else:
        coded = encode_to_step(pairs, step) if feedback is None else encode_with_feedback(pairs, step, feedback)
    if coded is None:
        return keep(tensor, _why_not(tensor, step))
    codebook, codes = coded
    error = measure(pairs, shape, codebook, codes)
    if not error.is_finite:
        return keep(tensor, _why_not(tensor, step))
    streams = code_streams(codebook, codes, packed=step is None)
    lost = _lost_zeros(pairs, codebook, codes)
    encoded = EncodedTensor(shape.dims, tensor.dtype, pairing, codebook, codes, error, streams, lost_zeros=lost)
    if step is not None and exact_size(tensor) <= encoded.nbytes:
        exact = keep(tensor)  # the estimate comes from the tensor's beginning, and may be wrong
        return exact if exact.nbytes <= encoded.nbytes else encoded
    return encoded


def _lost_zeros(pairs: Tensor, codebook: Codebook, codes: Codes) -> int:
    """Return how many zeros that mean something decode to other values, where the codebook leaves that open."""
    if codebook.has_zero or codebook.lattice == "centred" or not has_zeros(pairs):
        return 0
    places = (pairs == 0).any(dim=1).nonzero().view(-1)
    shell = None if codes.shell is None else codes.shell[places]
    decoded = codebook.decode(Codes(codes.winding[places], codes.phase[places], shell))
    return int(((pairs[places] == 0) & (decoded != 0)).sum())


def _why_not(tensor: Tensor, step: float | None) -> str:
    if not bool(tensor.isfinite().all()):
        return "holds NaN or infinity"
    if step is None:
        return "is too far off the published square"
    return "holds values too small, too large or too far apart for the codes" if step else ""


def keep(tensor: Tensor, note: str = "") -> EncodedTensor:
    """Keep `tensor` exact: its bytes, compressed without loss if that is smaller."""
    data = tensor_bytes(tensor)
    streams = (value_stream(data, tensor.element_size()),) if len(data) else ()
    exact = tensor.detach()
    return EncodedTensor(tuple(tensor.shape), tensor.dtype, "flat", None, None, None, streams, note, exact=exact)


def exact_size(tensor: Tensor) -> float:
    """Estimate the bytes of `tensor` kept exact, from its beginning. Masks, for example, take fewer bytes than their codes."""
    beginning = tensor.detach().reshape(-1)[:EXACT_SAMPLE]
    return value_stream(tensor_bytes(beginning), tensor.element_size()).stored * tensor.numel() / len(beginning)


def tensor_bytes(tensor: Tensor) -> npt.NDArray[np.uint8]:
    """Return the elements of `tensor` in row-major order as little-endian bytes."""
    data: npt.NDArray[np.uint8] = (
        tensor.detach().cpu().resolve_conj().contiguous().reshape(-1).view(torch.uint8).numpy()
    )
    return data


def code_streams(codebook: Codebook, codes: Codes, *, packed: bool) -> tuple[Stream, ...]:
    """Return the streams of `codes`: planes or one byte a pair, or packed scalar codes if they are smaller or asked for."""
    if not packed:
        planes = _zstd_streams(codes)
        stored = sum(stream.stored for stream in planes)
        # A lower bound of the largest code; it usually settles the choice without computing the scalar codes.
        leading = int(codes.winding.max()) if codes.shell is None else int(codes.shell.max()) * codebook.windings
        if stored <= packed_size(len(codes), _bits(leading * codebook.windings)):
            return planes
    scalars = codes.scalars(codebook.windings)
    bits = _bits(int(scalars.max()))
    if not packed and stored <= packed_size(len(codes), bits):
        return planes
    return (packed_stream(scalars.cpu().numpy(), bits),)


def _zstd_streams(codes: Codes) -> tuple[Stream, ...]:
    """Return winding and phase as planes, or as one byte a pair if that is possible and smaller, and the shells if any."""
    winding, phase = codes.winding.cpu().numpy(), codes.phase.cpu().numpy()
    streams: list[tuple[Stream, ...]] = [(plane_stream("winding", winding), plane_stream("phase", phase))]
    if window := Window.around(winding, phase):
        streams.append((byte_stream(winding, phase, window),))
    smallest = min(streams, key=lambda tried: sum(stream.stored for stream in tried))
    return smallest if codes.shell is None else (*smallest, plane_stream("shell", codes.shell.cpu().numpy()))


def _bits(largest: int) -> int:
    """Return how many bits a packed code takes."""
    return max(1, largest.bit_length())
