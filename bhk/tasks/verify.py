"""Is a .bhk file whole, and how far is it from the original: `bhk.verify`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bhk.base.errors import BhkError
from bhk.codec.difference import Difference, compare
from bhk.container.header import LayerEntry
from bhk.file.bhkfile import BhkFile, open_file
from bhk.hub.download import local_file
from bhk.sam.checkpoints import TensorFile, open_tensors

# Errors are written with five significant digits, and arithmetic with fused multiply-add differs in the last place.
ERROR_TOLERANCE = 1e-4
SNR_TOLERANCE_DB = 0.01

Progress = Callable[[int, int], None]


class VerificationError(BhkError):
    """A .bhk file is whole, but is not what the original became."""


@dataclass(frozen=True)
class VerifiedLayer:
    """One layer, and its difference from the original when there is one to compare with."""

    name: str
    encoding: str
    difference: Difference | None


@dataclass(frozen=True)
class Verification:
    """What `bhk.verify` found of a sound file.

    Attributes:
        bytes: size of the file.
        streams: number of streams whose hash was checked.
        layers: one entry a tensor.
        against: base name of the original; None without.
    """

    path: str
    bytes: int
    streams: int
    layers: tuple[VerifiedLayer, ...]
    against: str | None


def verify(
    path: str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    *,
    key: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check a .bhk file: header, every rule, the hash and the codes of every stream, the padding.

    Args:
        path: the file, or one on the Hugging Face Hub, "hf://user/repo[/file.bhk][@revision]".
        against: the original checkpoint; then every tensor is compared with it as well.
        key: which state dict of the original, when it holds several.
        progress: called with (bytes of dense tensors checked, all bytes).

    Raises:
        HubError: the Hub did not give the file.
        ReadError, FormatError: the file cannot be read or breaks a rule of the format.
        CheckpointError: the original cannot be read.
        VerificationError: names, shapes or dtypes differ from the original's, a tensor kept exact is not equal to it, or a
            coded tensor is farther from it than the file says.
    """
    with open_file(local_file(path)) as file:
        file.container.check_padding()
        if against is None:
            layers = _check(file, None, threads, progress)
        else:
            with open_tensors(against, key) as original:
                _check_names(file, original)
                layers = _check(file, original, threads, progress)
        streams = sum(len(layer.streams) for layer in file.layers)
        length = file.container.source.length
    return Verification(os.fspath(path), length, streams, layers, None if against is None else Path(against).name)


def _check_names(file: BhkFile, original: TensorFile) -> None:
    for names, where, other in (
        (original.names, original.label, set(file.names)),
        (file.names, "the file", set(original.names)),
    ):
        alone = [name for name in names if name not in other]
        if alone:
            raise VerificationError(f"only {where} has {len(alone)} of the tensors, the first of them {alone[0]!r}")


def _check(
    file: BhkFile, original: TensorFile | None, threads: int | None, progress: Progress | None
) -> tuple[VerifiedLayer, ...]:
    layers = {layer.name: layer for layer in file.layers}
    done, total = 0, sum(layer.dense_bytes for layer in file.layers)
    checked = []
    for name, tensor in file.tensors(threads=threads):
        layer = layers.get(name)
        if layer is None:  # an alias, which need not be one in the original
            if original is not None:
                _difference(file.layer(name), name, tensor, original)
            continue
        difference = None if original is None else _difference(layer, name, tensor, original)
        checked.append(VerifiedLayer(name, layer.encoding, difference))
        done += layer.dense_bytes
        if progress:
            progress(done, total)
    return tuple(checked)


def _difference(layer: LayerEntry, name: str, tensor: Tensor, original: TensorFile) -> Difference:
    reference = original.tensor(name)
    if reference.shape != tensor.shape or reference.dtype != tensor.dtype:
        raise VerificationError(
            f"tensor {name!r} is {tensor.dtype} {list(tensor.shape)}, "
            f"in {original.label} {reference.dtype} {list(reference.shape)}"
        )
    difference = compare(reference, tensor)
    if layer.error is None:
        if not difference.equal:
            raise VerificationError(f"tensor {name!r} is kept exact, but differs from {original.label}")
        return difference
    largest, snr = layer.error.max_abs, layer.error.snr_db
    if not difference.max_abs <= largest * (1 + ERROR_TOLERANCE):
        found, written = f"{difference.max_abs:.3g} off", f"{largest:.3g}"
    elif snr is not None and not difference.snr_db > snr - SNR_TOLERANCE_DB:
        found, written = f"{difference.snr_db:.2f} dB from", f"{snr:.2f} dB"
    else:
        return difference
    raise VerificationError(
        f"tensor {name!r} is {found} {original.label}; {written} was measured when the file was written: it was made "
        "from other weights"
    )
